"""The package as a whole: its documentation runs, and importing it loads nothing heavy."""

import doctest
import importlib
import inspect
import pkgutil
import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest

from apprentice_jax import quantizers as Q

MODULES = [f"{Q.__name__}.{m.name}" for m in pkgutil.iter_modules(Q.__path__)]
DIFFERENTIABLE = [
  name for name in Q.__all__ if name.startswith("ste_") or hasattr(getattr(Q, name), "bind")
]
HEAVY = (
  "flax",
  "orbax",
  "tensorflow_datasets",
  "tensorflow",
  "absl",
  "optax",
  "chex",
  "ml_collections",
  "grain",
  "torch",
)


def _examples(obj, module):
  # A quantizer's globals are those of its decorator: name the module, or it finds no examples.
  globs = {**vars(module), "jax": jax, "jnp": jnp, "twn": Q.twn}
  return [
    test
    for test in doctest.DocTestFinder(recurse=False).find(obj, module=False, globs=globs)
    if test.examples
  ]


@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples(name):
  module = importlib.import_module(name)
  objects = [
    module,
    *(f for f in vars(module).values() if inspect.isroutine(f) and f.__module__ == name),
  ]
  runner = doctest.DocTestRunner()
  for obj in objects:
    for test in _examples(obj, module):
      runner.run(test)
  assert runner.failures == 0  # The report is in the captured output.


@pytest.mark.parametrize("name", [*DIFFERENTIABLE, "encode", "encode_ste", "lsq_init"])
def test_documented_with_an_example(name):
  function = getattr(Q, name)
  assert _examples(function, inspect.getmodule(function)), f"{name} shows no example"
  assert all(section in function.__doc__ for section in ("Args:", "Returns:", "Raises:"))


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_documented_gradient(name):
  assert "gradient" in getattr(Q, name).__doc__.lower()


def test_signatures():
  signature = lambda f: str(inspect.signature(f))
  assert signature(Q.wrpn_weights) == "(w, bits, scale=1.0)"
  assert signature(Q.wrpn_activations) == signature(Q.dorefa_activations) == "(x, bits)"
  assert signature(Q.twn) == "(w, threshold=0.7, axis=None)"
  assert signature(Q.ttq) == "(w, positive, negative, threshold=0.05)"
  assert signature(Q.dorefa_weights) == "(w, bits)"
  assert signature(Q.pact) == "(x, clip, bits)"
  assert signature(Q.lsq) == "(x, step, bits, signed=True, symmetric=False, grad_scale=1.0)"
  assert Q.twn.__name__ == "twn" and all(hasattr(Q, name) for name in Q.__all__)


def test_import_loads_nothing_heavy():
  code = f"import sys, apprentice_jax.quantizers\nprint([m for m in {HEAVY!r} if m in sys.modules])"
  path = [p for p in sys.path if p]
  out = subprocess.run(
    [sys.executable, "-c", f"import sys; sys.path[:0] = {path!r}\n{code}"],
    capture_output=True,
    text=True,
    check=False,
  )
  assert out.returncode == 0, out.stderr
  assert out.stdout.strip() == "[]"
