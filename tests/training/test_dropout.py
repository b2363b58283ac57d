"""A user's own network with dropout, or other random numbers, while it trains."""

import numpy as np
import plain_networks
import pytest
from runs import begin, final_state, tiny

import apprentice_jax
from apprentice_jax.training import networks

STEPS = 6


def drawing(name="drawing", steps=STEPS, **changes):
  fields = dict(
    scheme="baseline",
    precision="32A,32W",
    student__name=f"plain_networks:{name}",
    student__width=1.0,
    recipe__student__epochs=steps * 64 / 1437,
    recipe__student__weight_decay=0.0,
    recipe__student__settle_steps=0,
  )
  return tiny(**{**fields, **changes})


def drawn(config, workdir) -> list[float]:
  """What the network drew, step by step."""
  apprentice_jax.train(config, workdir)
  stats = networks.read(str(workdir))[0].batch_stats
  assert int(stats["step"]) == STEPS < plain_networks.DRAWS
  return stats["drawn"][:STEPS].tolist()


@pytest.mark.parametrize("streamed", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_every_step_and_seed_draws_its_own(streamed, tmp_path, monkeypatch):
  sizes = dict(data__image_size=8, data__resize=8) if streamed else {}
  first = drawn(drawing(**sizes), tmp_path / "first")
  other = drawn(drawing(seed=1, **sizes), tmp_path / "other")
  assert len({*first, *other}) == 2 * STEPS and all(0 < number < 1 for number in first + other)
  assert drawn(drawing(**sizes), tmp_path / "again") == first
  # A run that was killed draws on as the unbroken one.
  config = drawing(checkpoint__every_epochs=0.09, steps_per_dispatch=2, **sizes)
  begin(config, tmp_path / "killed", monkeypatch, killed_at=4)
  assert drawn(config, tmp_path / "killed") == first


def test_dropout_is_of_training_alone(tmp_path):
  """A rate of 1 drops all that the head reads: what lies before it does not learn."""
  kernels = []
  for steps in (1, STEPS):
    apprentice_jax.train(drawing("silenced", steps), tmp_path / str(steps))
    kernels.append(networks.read(str(tmp_path / str(steps)))[0].params["hidden"]["kernel"])
  np.testing.assert_array_equal(*kernels)
  apprentice_jax.train(drawing(), tmp_path / "learns")
  learnt = networks.read(str(tmp_path / "learns"))[0].params["hidden"]["kernel"]
  assert np.abs(learnt - kernels[0]).max() > 1e-3
  # A scoring reads every number: an exported network has the same logits at every call.
  apprentice_jax.export(tmp_path / "learns", "stablehlo", tmp_path / "own.stablehlo")
  network = apprentice_jax.load(tmp_path / "own.stablehlo")
  images = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 1), np.uint8)
  logits = network.logits(images)
  assert np.ptp(logits) > 0
  np.testing.assert_array_equal(logits, network.logits(images))


@pytest.mark.slow
def test_a_quantized_student_and_its_joint_teacher_draw(tmp_path):
  config = drawing(
    precision="8A,2W",
    scheme="A",
    teacher__name="plain_networks:drawing",
    teacher__width=1.0,
    recipe__teacher__settle_steps=0,
  )
  apprentice_jax.train(config, tmp_path)
  state = final_state(tmp_path)[1]
  found = [leaf for name, leaf in state.items() if "drawn" in name]
  assert len(found) == 2 and not np.intersect1d(found[0][:STEPS], found[1][:STEPS]).size
