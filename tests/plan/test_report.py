"""Plans of small networks: the step is the one that trains, and the figures follow from the
compiler's."""

import pathlib

import jax
import numpy as np
import pytest

from apprentice_jax import cli
from apprentice_jax import config as configs
from apprentice_jax.data.splits import open_splits
from apprentice_jax.errors import ConfigError
from apprentice_jax.plan import chips, report
from apprentice_jax.plan import step as plan_step
from apprentice_jax.plan.compiled import Compiled, DoesNotFit
from apprentice_jax.training import networks, run
from apprentice_jax.training.loop import Current, Loop
from apprentice_jax.training.records import Recorder

ROOT = pathlib.Path(__file__).parents[2]
DIGITS = f"--config={ROOT}/configs/digits.py:student=resnet8,teacher=resnet8,width=0.25,scheme=A"


def small(**changes):
  config = configs.base()
  for network in (config.student, config.teacher):
    network.update(dict(name="resnet8", width=0.25))
  config.update_from_flattened_dict(
    {
      "data.name": "digits",
      "batch_size": 64,
      "scheme": "A",
      "steps_per_dispatch": 3,
      "data.flip": False,
    }
  )
  config.update_from_flattened_dict({k.replace("__", "."): v for k, v in changes.items()})
  return configs.checked(config)


@pytest.mark.parametrize("streamed", [False, True])
def test_the_step_is_the_one_that_train_runs(streamed, tmp_path, monkeypatch):
  config = small(**(dict(data__image_size=8, data__resize=8) if streamed else {}))
  planned = plan_step.lower(config, plan_step.data_of(config), jax.devices())
  run_ = run.Run(config, tmp_path, open_splits(config.data), "", "")
  lowered = []

  class Lowered(Exception):
    pass

  def instead(compiled):
    def call(*args):
      lowered.append(compiled.lower(*args).as_text())
      raise Lowered

    return call

  for name in ("_resident", "_fed"):
    monkeypatch.setattr(run_.program, name, instead(getattr(run_.program, name)))
  recorder = Recorder(run_, None, None, 0.0)
  with run_._source(0, None) as source, pytest.raises(Lowered):
    loop = Loop(run_, Current(run_.initial), None, recorder, source)
    loop._advance(loop._batch(), 1)
  assert lowered == [planned.lowered.as_text()]


def test_bytes_of_what_trains():
  config = small()
  found = report._bytes(plan_step.lower(config, plan_step.data_of(config), jax.devices()))
  built = networks.settings(config, 10)
  state = networks.initial_state(config, built, open_splits(config.data)["train"], "", "")
  size = lambda *trees: sum(a.nbytes for a in jax.tree.leaves(trees))
  assert found["parameters"] == size(state.student.params, state.teacher.params)
  assert found["statistics"] == size(state.student.batch_stats, state.teacher.batch_stats)
  assert found["optimizer"] == size(state.student.opt_state, state.teacher.opt_state)
  assert found["to_reduce"] == found["parameters"] + found["statistics"]
  assert found["images"] == 1437 * (8 * 8 + 4)


def test_a_fixed_teacher_reduces_only_the_student():
  a, b = (
    report._bytes(plan_step.lower(c, plan_step.data_of(c), jax.devices()))
    for c in (small(), small(scheme="B"))
  )
  assert a["parameters"] == b["parameters"] and b["to_reduce"] < a["to_reduce"]


@pytest.mark.parametrize("name, gigahertz", [("v4", 1.05), ("v5p", 1.75)])
def test_clocks_are_those_that_are_published(name, gigahertz):
  assert chips.CHIPS[name].clock == pytest.approx(gigahertz * 1e9, rel=0.01)


def test_all_reduce_is_two_passes_over_all_but_ones_own_share():
  # On a v5e:4x4 a chip at a corner has two of its four links, of 50 GB/s each.
  assert report.all_reduce_seconds(10**9, 16, "v5e:4x4") == pytest.approx(2 * 15 / 16 / 100)
  assert report.all_reduce_seconds(10**9, 1, "v5e:1x1") == 0


@pytest.mark.parametrize(
  "topology, links",
  [  # of the chip that has the fewest
    ("v5e:1x1", 0),
    ("v5e:2x2", 2),
    ("v6e:2x4", 2),
    ("v5e:8x16", 3),
    ("v5e:16x16", 4),
    ("v4:2x2x1", 2),
    ("v4:2x2x4", 3),
    ("v4:4x4x4", 6),
    ("v5p:4x4x8", 6),
  ],
)
def test_links_of_a_slice(topology, links):
  chip = chips.CHIPS[topology.partition(":")[0]]
  assert chips.bandwidth(topology) == pytest.approx(links * chip.links / (2 * chip.axes))


def test_slices_of_so_many_chips():
  assert [chips.slice_with("v5e", n) for n in (8, 16, 32, 128, 256)] == [
    "v5e:2x4",
    "v5e:4x4",
    "v5e:4x8",
    "v5e:8x16",
    "v5e:16x16",
  ]
  assert [chips.slice_with("v4", n) for n in (8, 64, 256)] == ["v4:2x2x2", "v4:4x4x4", "v4:4x8x8"]


@pytest.fixture
def compiler(monkeypatch):
  """A compiler that needs so many bytes an image; batches beyond `limit` images a chip it
  refuses."""
  asked = []

  def use(per_image, limit=10**9, fixed=0):
    def compiled(lowered, topology):
      del topology
      share = lowered
      asked.append(share)
      if share > limit:
        raise DoesNotFit("it would use more")
      return Compiled(
        "",
        dict(arguments=fixed, outputs=0, aliased=0, code=0, temporaries=int(per_image * share)),
        0.0,
      )

    monkeypatch.setattr(report, "compiled", compiled)
    monkeypatch.setattr(
      report,
      "lower",
      lambda c, d, devices: plan_step.Step(c.batch_size // len(devices), None, (), 0),
    )
    return asked

  return use


@pytest.mark.parametrize("start", [8, 64, 512])
@pytest.mark.parametrize(
  "per_image, limit",
  [(2.0, 10**9), (0.1, 300), (2.0, 333), (40.0, 10**9), (700.0, 10**9), (2000.0, 10**9)],
)
def test_max_batch_is_the_largest_that_fits(start, per_image, limit, compiler):
  asked = compiler(per_image, limit, fixed=100)
  chip, devices = chips.CHIPS["v5e"]._replace(memory=6000), [None] * 4
  fits = start <= limit and 100 + per_image * start <= 6000
  found = {
    "batch_per_chip": start,
    "fits": fits,
    "parameters": 60,
    "statistics": 20,
    "optimizer": 20,
    **({"needed": int(100 + per_image * start)} if fits else {}),
  }
  largest = report._max_batch(small(), None, "v5e:2x2", chip, devices, found)
  expected = max(
    (b for b in range(8, 60000, 8) if b <= limit and 100 + int(per_image * b) <= 6000), default=None
  )
  assert largest == expected
  assert len(asked) <= (6 if limit == 10**9 and start < 512 else 24)


def test_weak_scaling_follows_the_linear_rule():
  config = small()
  config.recipe.student.learning_rate, config.batch_size = 0.1, 256
  config.largest_batch, config.batch_per_device = 8192, 128
  rows = report.weak_scaling(
    {"topology": "v5e:2x4", "all_reduced": 10**8, "compute_seconds": 0.1, "batch_per_chip": 128},
    config,
  )
  assert [r["chips"] for r in rows] == [8, 16, 32, 64, 128, 256]
  assert [r["batch"] for r in rows] == [1024, 2048, 4096, 8192, 16384, 32768]
  assert [r["by_itself"] for r in rows] == [True] * 4 + [False] * 2
  np.testing.assert_allclose(
    [r["learning_rate"] for r in rows], [0.1 * r["batch"] / 256 for r in rows]
  )
  for row in rows:
    links = {128: 3, 256: 4}.get(row["chips"], 2)
    communicating = 2 * (row["chips"] - 1) / row["chips"] * 10**8 / (links * 50e9)
    assert row["efficiency"] == pytest.approx(0.1 / (0.1 + communicating))
    assert row["images_per_second"] == pytest.approx(row["batch"] / (0.1 + communicating))
  assert r"16,384 \*" in report.scaling_table(
    rows
  ) and "at most largest_batch" in report.scaling_table(rows)


@pytest.mark.parametrize(
  "flags, sentence",
  [
    ([DIGITS], "this command needs --topology=..."),
    (["--topology=v5e:2x4"], "this command needs --config=..."),
    ([DIGITS, "--topology=v9:2x4"], "--topology has 'v9:2x4': chips are v4, v5e, v5p, v6e"),
    ([DIGITS, "--topology=v5e"], "write chip and shape, as in v5e:2x4"),
    ([DIGITS, "--topology=v5e:2"], "write chip and shape, as in v5e:2x4"),
    ([DIGITS, "--topology=v5e:2x4", "--out=/nowhere/plan.json"], "there is no folder /nowhere"),
    ([DIGITS, "--topology=v5e:2x4", "--workdir=x"], "plan takes no --workdir"),
    (
      [DIGITS, "--topology=v5e:2x4", "--config.data.name=imagenet_mine"],
      "give --examples=N --classes=N",
    ),
  ],
)
def test_mistakes(flags, sentence, capsys, monkeypatch):
  monkeypatch.setenv("JAX_PLATFORMS", "cpu")
  assert cli.main(["plan", *flags]) == 2
  error = capsys.readouterr().err
  assert sentence in error and len(error.splitlines()) == 1


def test_a_batch_that_cannot_be_divided():
  config = small(batch_size=60)
  with pytest.raises(ConfigError, match="multiple of the 8 devices"):
    plan_step.lower(config, plan_step.data_of(config), jax.devices())
