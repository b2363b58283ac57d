"""Gradients against the written formulas: the NumPy reference, hand-worked numbers, PyTorch."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import quantizers_reference as reference
import tools
from quantizers_cases import CASE, each_case, each_dtype, float32, samples, ulps, value_and_pullback

from apprentice_jax import quantizers as Q

jitted = pytest.mark.parametrize("jitted", [False, True], ids=["eager", "jit"])


@each_case()
@each_dtype
@jitted
def test_every_argument_against_the_reference(case, dtype, jitted):
  x, g = samples(dtype), samples(dtype, seed=1)
  run = functools.partial(value_and_pullback, case)
  _, ours = (jax.jit(run) if jitted else run)(x, case.params, g)
  expected = case.pullback(float32(g), float32(x), **case.params)
  assert set(ours) == set(case.params) | {"x"}
  assert ours["x"].dtype == dtype and ours["x"].shape == x.shape
  # A cotangent of x is a product or two; of tanh in dorefa_weights, with a sum inside.
  rtol = 2e-6 if dtype == jnp.float32 else 2**-8
  atol = 2e-6 if case.name.startswith("dorefa_weights") else 0
  np.testing.assert_allclose(float32(ours["x"]), expected["x"], rtol, atol)
  for name, param in case.params.items():
    assert ours[name].dtype == param.dtype and ours[name].shape == param.shape
    np.testing.assert_allclose(ours[name], expected[name], 1e-5, 1e-5)  # sums of 15 or 120 terms


def _gradients(f, *args):
  return [np.asarray(g).tolist() for g in jax.jit(jax.grad(f, tuple(range(len(args)))))(*args)]


def test_ste_round_passes_everything():
  g = samples(seed=1)
  np.testing.assert_array_equal(jax.vjp(Q.ste_round, samples())[1](g)[0], g)


def test_ste_clip_passes_inside_and_at_both_ends():
  x = jnp.array([-1.1, -1.0, 0.0, 0.5, 0.6])
  f = lambda x, low, high: (Q.ste_clip(x, low, high) * jnp.arange(1.0, 6.0)).sum()
  # The bounds are constants.
  assert _gradients(f, x, -1.0, 0.5) == [[0, 2, 3, 4, 0], 0, 0]


def test_ste_sign_and_unit_interval_at_their_ends():
  x = jnp.array([-1.5, -1.0, 0.0, 1.0, 1.5])
  assert _gradients(lambda x: Q.ste_sign(x).sum(), x) == [[0, 1, 1, 1, 0]]
  assert _gradients(lambda x: Q.wrpn_activations(x, 8).sum(), x) == [[0, 0, 1, 1, 0]]
  assert _gradients(lambda x: Q.dorefa_activations(x, 1).sum(), x) == [[0, 0, 1, 1, 0]]


def test_wrpn_weights_at_the_scale():
  # n = 1, scale 2. Inside (ends too) q/s - w/s: 0 at -2 and 2, 0 - 0.5 at 1, 1 - 0.75 at 1.5;
  # outside the sign: 1.
  w = jnp.array([-2.0, 1.0, 1.5, 2.0, 3.0])
  assert _gradients(lambda w, s: Q.wrpn_weights(w, 2, s).sum(), w, 2.0) == [[1, 1, 1, 1, 0], 0.75]


def test_ttq_at_the_threshold():
  # delta = 0.25 * 4 = 1; a weight at it belongs to the middle.
  w, g = jnp.array([-4.0, -1.0, 0.0, 1.0, 2.0]), jnp.array([1.0, 2.0, 4.0, 8.0, 16.0])
  f = lambda w, p, n: (Q.ttq(w, p, n, 0.25) * g).sum()
  assert _gradients(f, w, 0.5, 0.25) == [[0.25, 2, 4, 8, 8], 16, -1]


def test_ttq_descends():
  # The sign of dL/dnegative: one step of descent has to lower the loss it was computed for.
  w, target = jnp.array([-1.0, -2.0, 1.5]), jnp.array([-3.0, -3.0, 2.0])
  loss = lambda negative: ((Q.ttq(w, 2.0, negative) - target) ** 2).sum()
  assert loss(1.0 - 0.1 * jax.grad(loss)(1.0)) < loss(1.0)


def test_pact_at_zero_and_at_the_clip():
  # At the clip itself the clip has the gradient, at 0 the input.
  x, g = jnp.array([-1.0, 0.0, 2.0, 6.0, 7.0]), jnp.array([1.0, 2.0, 4.0, 8.0, 16.0])
  f = lambda x, clip: (Q.pact(x, clip, 8) * g).sum()
  assert _gradients(f, x, 6.0) == [[0, 2, 4, 0, 0], 24]
  # A clip trained to zero, or below, can come back.
  assert _gradients(f, x, 0.0) == [[0, 2, 0, 0, 0], 28]
  assert _gradients(f, x, -0.5) == [[0, 2, 0, 0, 0], 28]


def test_lsq_at_its_ends():
  # 2 bits: -2 to 1; step 2. At an end, as outside, x has none and the step has the end.
  x, g = jnp.array([-5.0, -4.0, -1.5, 1.5, 2.0, 3.0]), jnp.array([1.0, 2.0, 4.0, 8.0, 16.0, 32.0])
  f = lambda x, step: (Q.lsq(x, step, 2) * g).sum()
  # -2 - 4 + 4 (-1 + 0.75) + 8 (1 - 0.75) + 16 + 32
  assert _gradients(f, x, 2.0) == [[0, 0, 4, 8, 0, 0], 43]
  # Unsigned, Q_N = 0: zero is an end.
  f = lambda x, step: Q.lsq(x, step, 2, signed=False).sum()
  assert _gradients(f, jnp.array([-1.0, 0.0, 1.0, 6.0]), 2.0) == [[0, 0, 1, 0], 0 + 0 - 0.5 + 3]


def test_lsq_grad_scale_scales_the_step_only_and_is_a_constant():
  x, g = samples(), samples(seed=1)
  f = lambda x, step, c: (Q.lsq(x, step, 4, grad_scale=c) * g).sum()
  g_x, g_step, g_c = jax.grad(f, (0, 1, 2))(x, 0.13, 1.0)
  h_x, h_step, _ = jax.grad(f, (0, 1, 2))(x, 0.13, 0.125)
  np.testing.assert_array_equal(g_x, h_x)
  assert float(h_step) == float(g_step) / 8 and g_c == 0


def test_thresholds_are_constants():
  w = samples()
  assert jax.grad(lambda t: Q.twn(w, t).sum())(0.7) == 0
  assert jax.grad(lambda t: Q.ttq(w, 1.0, 2.0, t).sum())(0.05) == 0


def test_dorefa_weights_share_a_tied_maximum():
  # t = tanh w, m = max|t|, which both ends attain: each takes half of m's gradient.
  w, t = jnp.array([-1.0, 1.0]), np.tanh(1.0)
  g_w = jax.grad(lambda w: (Q.dorefa_weights(w, 2) * jnp.array([3.0, 1.0])).sum())(w)
  # sum(g t) / m = -3 + 1 = -2, halved: g - sign(t) * (-1) = [3 - 1, 1 + 1].
  np.testing.assert_allclose(g_w, np.array([2.0, 2.0]) / t * (1 - t**2), rtol=1e-5)


@pytest.mark.parametrize("name", ["wrpn_weights_4_scale", "ttq", "pact_8", "lsq_4"])
@pytest.mark.parametrize("x_dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("p_dtype", [jnp.float32, jnp.bfloat16])
def test_cotangents_have_their_primals_dtype(name, x_dtype, p_dtype):
  case, x = CASE[name], samples(x_dtype)
  params = {k: jnp.asarray(v, p_dtype) for k, v in case.params.items()}
  value, gradients = value_and_pullback(case, x, params, jnp.ones_like(x))
  assert value.dtype == gradients.pop("x").dtype == x_dtype
  assert {g.dtype for g in gradients.values()} == {jnp.dtype(p_dtype)}
  # Summed in float32 and rounded once.
  params = {k: float32(p) for k, p in params.items()}
  expected = case.pullback(np.ones(x.shape), float32(x), **params)
  rtol = 1e-5 if p_dtype == jnp.float32 else 2**-8
  for k in params:
    np.testing.assert_allclose(float32(gradients[k]), expected[k], rtol, 1e-5)


@pytest.mark.parametrize("function", ["wrpn_weights", "ttq", "pact", "lsq"])
@pytest.mark.parametrize("one", [1.0, 1, np.float64(1)], ids=["float", "int", "float64"])
def test_parameters_may_be_plain_numbers(function, one):
  f = {
    "wrpn_weights": lambda x: Q.wrpn_weights(x, 4, one),
    "ttq": lambda x: Q.ttq(x, one, one),
    "pact": lambda x: Q.pact(x, one, 4),
    "lsq": lambda x: Q.lsq(x, one, 4, grad_scale=one),
  }
  g = {"wrpn_weights": [0, 1], "ttq": [1, 1], "pact": [0, 1], "lsq": [1, 1]}
  f, g = f[function], g[function]
  gradient = jax.grad(lambda x: f(x).sum())
  for dtype, transform in ((jnp.float32, lambda f: f), (jnp.bfloat16, jax.jit)):
    out = transform(gradient)(jnp.array([-1.5, 0.4], dtype))
    assert out.dtype == dtype and out.tolist() == g


@pytest.mark.parametrize("shape", [(1,), (5, 1), (3, 5, 8)])
@pytest.mark.parametrize("name", ["wrpn_weights_4_scale", "ttq", "pact_8", "lsq_4"])
def test_parameters_broadcast(name, shape):
  case, x, g = CASE[name], samples(), samples(seed=1)
  factors = np.linspace(0.7, 1.4, int(np.prod(shape)), dtype=np.float32).reshape(shape)
  params = {k: v * factors for k, v in case.params.items()}
  value, gradients = jax.jit(functools.partial(value_and_pullback, case))(x, params, g)
  levels, scale = case.reference(float32(x), **params)
  assert ulps(value, reference.value(levels, scale)).max() <= 3
  expected = case.pullback(float32(g), float32(x), **params)
  for k, v in gradients.items():
    assert k == "x" or v.shape == shape
    np.testing.assert_allclose(v, expected[k], 1e-5, 1e-5)


# PyTorch's autograd, on functions that stop the rounding's gradient with detach.


def _torch_round(x):
  return x + (x.round() - x).detach()


def _torch_gradients(f, *arrays):
  import torch

  leaves = [torch.tensor(float32(a), requires_grad=True) for a in arrays]
  f(torch, *leaves).backward(torch.tensor(float32(samples(seed=1))))
  return [leaf.grad.numpy() for leaf in leaves]


def _torch_dorefa(bits):
  def f(torch, w):
    t, n = torch.tanh(w), 2**bits - 1
    return 2 * _torch_round(n * (t / (2 * t.abs().max()) + 0.5)) / n - 1

  return f


def _torch_lsq(torch, x, step):
  return _torch_round(torch.clamp(x / step, -8, 7)) * step


def _torch_wrpn(torch, w, scale):
  return scale * _torch_round(7 * torch.clamp(w / scale, -1, 1)) / 7


def _torch_pact(torch, x, clip):
  class Pact(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, clip):
      ctx.save_for_backward(x, clip)
      return torch.round(x.clamp(0, clip.item()) * 15 / clip) * clip / 15

    @staticmethod
    def backward(ctx, g):
      x, clip = ctx.saved_tensors
      return g * ((x >= 0) & (x < clip)), (g * (x >= clip)).sum()

  return Pact.apply(x, clip)


def _torch_ttq(torch, w, positive, negative):
  class Ttq(torch.autograd.Function):
    @staticmethod
    def forward(ctx, w, positive, negative):
      delta = 0.05 * w.abs().max()
      ctx.save_for_backward(w > delta, w < -delta, positive, negative)
      return positive * (w > delta) - negative * (w < -delta)

    @staticmethod
    def backward(ctx, g):
      above, below, positive, negative = ctx.saved_tensors
      middle = ~above & ~below
      g_w = g * (positive * above + middle + negative * below)
      return g_w, (g * above).sum(), -(g * below).sum()

  return Ttq.apply(w, positive, negative)


@pytest.mark.slow
@pytest.mark.parametrize(
  "ours,theirs,params",
  [
    *[(functools.partial(Q.dorefa_weights, bits=b), _torch_dorefa(b), ()) for b in (2, 4, 8)],
    (lambda x, s: Q.lsq(x, s, 4), _torch_lsq, (0.13,)),
    (lambda w, s: Q.wrpn_weights(w, 4, s), _torch_wrpn, (0.9,)),
    (lambda x, c: Q.pact(x, c, 4), _torch_pact, (1.1,)),
    (Q.ttq, _torch_ttq, (0.6, 1.3)),
  ],
  ids=["dorefa2", "dorefa4", "dorefa8", "lsq", "wrpn", "pact", "ttq"],
)
def test_gradients_equal_pytorchs(ours, theirs, params):
  tools.module("torch")
  x, params = samples(), [np.float32(p) for p in params]
  gradients = jax.jit(lambda x, g, *params: jax.vjp(ours, x, *params)[1](g))(
    x, samples(seed=1), *params
  )
  for a, b in zip(gradients, _torch_gradients(theirs, x, *params), strict=True):
    np.testing.assert_allclose(a, b, 1e-5, 1e-5)
