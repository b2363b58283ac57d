"""Programs kept on disk: found again by what they were made of, and only by that."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from apprentice_jax import environment
from apprentice_jax.training import compiled, parallel


@pytest.fixture
def folder(tmp_path):
  compiled.keep_in(tmp_path)
  yield tmp_path
  compiled.keep_in(None)


@pytest.fixture
def unkept(monkeypatch):
  """JAX's own cache has nothing."""
  from jax.experimental.compilation_cache import compilation_cache

  usual = jax.config.jax_compilation_cache_dir
  jax.config.update("jax_compilation_cache_dir", None)
  compilation_cache.reset_cache()
  yield
  jax.config.update("jax_compilation_cache_dir", usual)
  compilation_cache.reset_cache()


class Counted:
  """A function of all devices, anew, and how often it was traced."""

  def __init__(self, *made_of, factor=2.0):
    def function(state, x):
      self.traces += 1
      return state + factor * jax.lax.pmean(x.sum(), parallel.AXIS)

    self.traces = 0
    self.call = compiled.Kept(
      parallel.over_replicas(function, (False, True), donate=(0,)), "function", *made_of
    )

  def __call__(self, rows=3):
    x = np.arange(8 * rows, dtype=np.float32).reshape(8, rows)
    return float(self.call(parallel.replicate(jnp.float32(1.0)), x))


def test_a_program_is_found_again(folder, unkept):
  first, second = Counted("a"), Counted("a")
  assert first() == first() == 1 + 2 * np.arange(24).sum() / 8
  assert first.traces == 1 and len(list(folder.glob("*.program"))) == 1
  assert second() == first() and second.traces == 0


def test_other_programs_are_not_taken_for_it(folder, unkept):
  Counted("a")()
  for other in (Counted("b"), Counted("a", "b")):
    assert other() > 1 and other.traces == 1
  wider = Counted("a")
  assert wider(5) == 1 + 2 * np.arange(40).sum() / 8 and wider.traces == 1
  assert (
    wider(3) == 1 + 2 * np.arange(24).sum() / 8 and wider.traces == 1
  )  # found again, after other shapes
  assert len(list(folder.glob("*.program"))) == 4


def test_a_change_of_the_package_makes_other_programs(folder, unkept, monkeypatch):
  Counted("a")()
  monkeypatch.setattr(compiled, "_surroundings", lambda: "another source, flag or version")
  changed = Counted("a", factor=3.0)
  assert changed() == 1 + 3 * np.arange(24).sum() / 8 and changed.traces == 1


def test_a_damaged_file_is_made_anew(folder, unkept):
  expected = Counted("a")()
  (path,) = folder.glob("*.program")
  path.write_bytes(path.read_bytes()[:1000])
  again = Counted("a")
  assert again() == expected and again.traces == 1
  assert Counted("a")() == expected and path.stat().st_size > 1000


def test_nothing_is_kept_unless_asked():
  function = Counted("a")
  assert function() > 1 and compiled.folder() is None


def test_one_device(folder, unkept):
  made = lambda: compiled.Kept(jax.jit(lambda x: x * 3), "one device")
  np.testing.assert_array_equal(made()(jnp.arange(4)), [0, 3, 6, 9])
  np.testing.assert_array_equal(made()(jnp.arange(4)), [0, 3, 6, 9])
  assert len(list(folder.glob("*.program"))) == 1


@pytest.mark.parametrize(
  "thorough, flags, expected",
  [
    (True, "--xla_dump_to=d", {"xla_backend_optimization_level": 3}),
    (False, "", None),
    (True, environment.QUICK, None),  # the user's own
    (True, "--xla_backend_optimization_level=2", None),
  ],
)
def test_what_is_thorough_is_compiled_at_the_default_level(
  thorough, flags, expected, folder, unkept, monkeypatch
):
  usual, seen = jax.stages.Lowered.compile, []
  monkeypatch.setattr(
    jax.stages.Lowered,
    "compile",
    lambda lowered, compiler_options=None: (
      seen.append(compiler_options) or usual(lowered, compiler_options)
    ),
  )
  jax.devices()  # read XLA_FLAGS
  monkeypatch.setenv("XLA_FLAGS", flags)
  monkeypatch.setenv("APPRENTICE_XLA_FLAGS", "")
  monkeypatch.setattr(environment, "has_accelerator", lambda: False)
  for _ in range(2):  # a child process finds its parent's flags there
    environment.set_xla_flags(quick=True)
  function = parallel.over_replicas(lambda x: jax.lax.pmean(x, parallel.AXIS) * 3, (True,))
  found = compiled.Kept(function, "mean", thorough=thorough)(np.arange(8.0, dtype=np.float32))
  assert float(found) == 10.5 and seen == [expected]
