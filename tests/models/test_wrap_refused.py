"""What `quantize` refuses or warns of, with the sentences."""

import warnings

import flax.linen as nn
import jax
import pytest
from wrapped import KEY, Block, Net, Turn, draw, looped, start

from apprentice_jax.models.wrap import quantize


class OwnKernel(nn.Module):
  @nn.compact
  def __call__(self, x):
    x = nn.Dense(4)(x)
    return x @ self.param("kernel", nn.initializers.ones, (4, 4))


def test_a_kernel_of_another_layer_is_named():
  net = nn.Sequential([nn.Dense(4), OwnKernel(), nn.Dense(4)])
  with pytest.warns(UserWarning, match="layers_1: full precision, since"):
    start(quantize(net, "8A,4W"), draw(2, 4))
  with warnings.catch_warnings():
    warnings.simplefilter("error")
    start(quantize(net, "8A,4W", full_precision=("layers_1",)), draw(2, 4))
  with pytest.warns(UserWarning, match="no layer is quantized"):
    start(quantize(nn.Dense(4), "8A,4W"), draw(2, 4))


def shared_scan():
  lift = nn.scan(Turn, variable_broadcast="params", split_rngs={"params": False}, length=3)
  return looped(lambda: lambda x: lift(name="turns")(x, None)[0])


def programs_kept():
  jitted = nn.jit(Block)
  wrapped = looped(lambda: jitted(name="block"))
  wrapped.init(KEY, draw(2, 3, 4))
  return wrapped


class Jitted(nn.Module):
  @nn.jit
  @nn.compact
  def __call__(self, x):
    return Block()(x)


REFUSED = {
  "a ConvTranspose cannot be quantized": lambda: quantize(
    nn.Sequential([nn.Dense(4), nn.ConvTranspose(4, (3,)), nn.Dense(4)]), "8A,4W"
  ),
  "no layer has such a path: did you mean 'layers_0'": lambda: quantize(
    nn.Sequential([nn.Dense(4), nn.Dense(4)]), "8A,4W", full_precision=("layer_0",)
  ),
  "1 bit has no sign": lambda: quantize(nn.Dense(4), "1A,4W", full_precision=()),
  "the module itself has a dot_general of its own": lambda: quantize(
    nn.Dense(4, dot_general=jax.lax.dot_general), "8A,4W", full_precision=()
  ),
  "has batch_dims": lambda: quantize(
    nn.DenseGeneral(4, batch_dims=(0,)), "8A,4W", full_precision=()
  ),
  "lies inside another one": lambda: quantize(
    nn.Sequential([quantize(nn.Dense(4), "8A,4W", full_precision=()), nn.Dense(4)]), "8A,4W"
  ),
  "turns/Block_0/Dense_1: nn.scan or nn.vmap shares": shared_scan,
  "block/Dense_0, block/Dense_1: nn.jit keeps a program": programs_kept,
  "the module itself is of nn.jit": lambda: quantize(Jitted(), "8A,4W", full_precision=()),
}


@pytest.mark.parametrize("sentence", REFUSED)
def test_refusals(sentence):
  with pytest.raises(ValueError) as error:
    start(REFUSED[sentence](), draw(2, 3, 4))
  assert sentence in str(error.value) and "\n" not in str(error.value)


def test_refusals_of_modules_and_trees():
  with pytest.raises(TypeError, match="takes a module of flax.linen"):
    quantize(lambda x: x, "8A,4W")
  with pytest.raises(TypeError, match="this one is quantized"):
    quantize(quantize(nn.Dense(4), "8A,4W"), "8A,4W")
  with pytest.raises(ValueError, match="precision '8A' is not one"):
    quantize(nn.Dense(4), "8A")
  x = draw(2, 6, 6, 3)
  params = start(quantize(Net(), "8A,2W"), x)
  with pytest.raises(ValueError, match="without quantization/deep/weight_step"):
    jax.eval_shape(quantize(Net(), "8A,4W").apply, params, x)
  params = start(quantize(Net(), "8A,4W"), x)
  with pytest.raises(ValueError, match=r"deep/weight_step of shape \(8,\), and this .* has \(\)"):
    jax.eval_shape(quantize(Net(), "8A,4W", per_channel=False).apply, params, x)
