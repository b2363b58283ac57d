"""The plan of a training run on TPU slices: memory, cycles, communication, time."""

from typing import Any

import jax
import numpy as np

from apprentice_jax import config as configs
from apprentice_jax import document
from apprentice_jax.plan import hlo
from apprentice_jax.plan.chips import Chip, bandwidth, slice_of, slice_with
from apprentice_jax.plan.compiled import DoesNotFit, compiled
from apprentice_jax.plan.step import Data, Step, data_of, lower
from apprentice_jax.training import recipes

WEAK_SCALING = (8, 16, 32, 64, 128, 256)


def plan_on(
  config, topologies, *, examples: int = 0, classes: int = 0, max_batch: bool = False
) -> dict:
  """Plans a run on each of some slices.

  Args:
    config: of the run.
    topologies: such as "v5e:2x4".
    examples, classes: of the training set, where it is neither known nor there.
    max_batch: look for the largest batch a chip that fits; compiles several times.

  Returns:
    "config" (flat) and "plans", a dict for each slice, JSON-able; see `table`.

  Raises:
    ConfigError: the config cannot run, or there is no such slice.
  """
  config = configs.checked(config)
  data = data_of(config, examples, classes)
  # All slices first: a wrong one is said before the first is compiled.
  slices = [(topology, *slice_of(topology)) for topology in topologies]
  plans = []
  for topology, chip, devices in slices:
    run_config = configs.scaled(config, len(devices))
    found = _plan(run_config, data, topology, chip, devices)
    if max_batch:
      found["max_batch_per_chip"] = _max_batch(run_config, data, topology, chip, devices, found)
    plans.append(found)
  return {"config": configs.flat(config), "plans": plans}


def _plan(config, data: Data, topology: str, chip: Chip, devices) -> dict:
  """The plan of one slice; without figures of its program where that does not fit."""
  step, chips = lower(config, data, devices), len(devices)
  recipe = recipes.student_recipe(config)
  result = {
    "topology": topology,
    "chips": chips,
    "chip_memory": chip.memory,
    "batch": config.batch_size,
    "batch_per_chip": config.batch_size // chips,
    "learning_rate": recipe.learning_rate,
    "steps": round(recipe.epochs * data.size / config.batch_size),
    **_bytes(step),
  }
  try:
    program = compiled(step.lowered, topology)
  except DoesNotFit as error:
    return {**result, "fits": False, "why": str(error)}
  parts = hlo.cycles(program.text, looped=not config.data.image_size)
  # Health is looked at in the last step of a dispatch (or, streamed, of as many steps).
  for rare in ("health", "dispatch"):
    parts[rare] = round(parts[rare] / config.steps_per_dispatch)
  cycles, reduces = sum(parts.values()), hlo.all_reduces(program.text)
  communicating = all_reduce_seconds(sum(reduces), chips, topology)
  seconds = cycles / chip.clock + communicating
  # Our reading of the schedule may count more than the compiler's own total.
  kept = hlo.memory(program.text).activations
  return {
    **result,
    "fits": program.needed <= chip.memory,
    "needed": program.needed,
    **program.memory,
    "activations": min(kept, program.memory["temporaries"]),
    "compile_seconds": program.seconds,
    "cycles": cycles,
    "cycles_by_part": parts,
    "all_reduces": len(reduces),
    "all_reduced": sum(reduces),
    "step_seconds": seconds,
    "compute_seconds": cycles / chip.clock,
    "all_reduce_seconds": communicating,
    "images_per_second_per_chip": config.batch_size / chips / seconds,
  }


def _bytes(step: Step) -> dict[str, int]:
  """What the arguments of the step hold, as the arrays' own sizes."""
  networks = [n for n in step.state if n is not None]
  trained = [getattr(step.state, name) for name in step.trained]
  return {
    "parameters": sum(_size(n.params) for n in networks),
    "statistics": sum(_size(n.batch_stats) for n in networks),
    "optimizer": sum(_size(n.opt_state) for n in networks),
    "images": step.batch,
    "to_reduce": sum(_size((n.params, n.batch_stats)) for n in trained),
  }


def all_reduce_seconds(size: int, chips: int, topology: str) -> float:
  """Seconds of an all-reduce by a model, not by a measurement.

  Every byte but a chip's own share leaves a chip twice, and nothing is computed meanwhile. The rate
  is the published one of the links of the chip that has the fewest.
  """
  return 2 * (chips - 1) / chips * size / bandwidth(topology) if chips > 1 else 0.0


def _max_batch(config, data: Data, topology: str, chip: Chip, devices, found: dict) -> int | None:
  """The largest batch a chip, a multiple of 8, whose step fits; None if not even 8 do."""

  def needed(share: int):
    config_ = config.copy_and_resolve_references()
    config_.batch_size = share * len(devices)
    try:
      return compiled(lower(config_, data, devices).lowered, topology).needed
    except DoesNotFit:
      return None

  chip_batch = found["batch_per_chip"]
  low, high = (chip_batch // 8 * 8, None) if found["fits"] else (0, -(-chip_batch // 8) * 8)
  memory = found.get("needed")
  fixed = found["parameters"] + found["statistics"] + found["optimizer"]
  # A compilation takes minutes, so the guesses are few: by a straight line, then by halves.
  bold, stride = True, 8
  while high is None or high - low > 8:
    guess = (low + (high or 0)) // 16 * 8
    # Memory is close to a straight line in the batch.
    if low and (high is None or bold):
      guess = int((chip.memory - fixed) * low / max(memory - fixed, 1)) // 8 * 8
    if high is None:
      guess, stride = max(guess, low + stride), 2 * stride
    else:
      # Every other time the interval is halved, for programs that are no straight line.
      guess, bold = min(max(guess, low + 8), high - 8), not bold
    size = needed(guess)
    if size is None or size > chip.memory:
      high = guess
    else:
      low, memory = guess, size
  return low or None


def weak_scaling(plan: dict, config) -> list[dict]:
  """A plan on more chips, on paper: the same batch and step on each.

  Args:
    plan: of one slice.
    config: of the run, before it was scaled.

  Returns:
    A dict for each of WEAK_SCALING: "chips", "topology", "batch", "by_itself" (whether a run would
    take that batch without being told), "learning_rate", "all_reduce_seconds" (a model),
    "images_per_second" of all chips and "efficiency", against chips that need not communicate.
  """
  rows, name = [], plan["topology"].partition(":")[0]
  recipe = recipes.student_recipe(config)
  for chips in WEAK_SCALING:
    topology = slice_with(name, chips)
    communicating = all_reduce_seconds(plan["all_reduced"], chips, topology)
    seconds, batch = plan["compute_seconds"] + communicating, plan["batch_per_chip"] * chips
    rows.append(
      {
        "chips": chips,
        "topology": topology,
        "batch": batch,
        "by_itself": batch == configs.scaled(config, chips).batch_size,
        "learning_rate": recipe.learning_rate * batch / config.batch_size,
        "all_reduce_seconds": communicating,
        "images_per_second": batch / seconds,
        "efficiency": plan["compute_seconds"] / seconds,
      }
    )
  return rows


def _size(tree: Any) -> int:
  return sum(int(np.prod(a.shape)) * a.dtype.itemsize for a in jax.tree.leaves(tree))


def table(report: dict) -> str:
  """The plans side by side, as Markdown."""
  plans = report["plans"]
  rows = [
    ("", [p["topology"] for p in plans]),
    ("chips", [p["chips"] for p in plans]),
    ("batch, learning rate", [f"{p['batch']:,}, {p['learning_rate']:g}" for p in plans]),
    ("images a chip", [p["batch_per_chip"] for p in plans]),
  ]
  # A step that did not compile has no figures: its cells stay empty.
  add = lambda name, show: rows.append((name, [show(p) if "needed" in p else "" for p in plans]))
  rows.append(("fits", ["yes" if p["fits"] else f"no: {p.get('why', 'see below')}" for p in plans]))
  if any("max_batch_per_chip" in p for p in plans):
    rows.append(("largest batch a chip", [p["max_batch_per_chip"] or "none" for p in plans]))
  add("memory a chip", lambda p: f"{_amount(p['needed'])} of {_amount(p['chip_memory'])}")
  for name in ("parameters", "optimizer", "images", "activations"):
    add(f"· {name}", lambda p: _amount(p[name]))
  add("· other temporaries", lambda p: _amount(p["temporaries"] - p["activations"]))
  add("· program", lambda p: _amount(p["code"]))
  add("estimated cycles", lambda p: f"{p['cycles'] / 1e6:.1f} M")
  for part in hlo.PARTS:
    if any(p.get("cycles_by_part", {}).get(part) for p in plans):
      add(f"· {part}", lambda p: f"{p['cycles_by_part'][part] / 1e6:.2f} M")
  add("all-reduces a step", lambda p: p["all_reduces"])
  add(
    "· bytes, and by the least possible",
    lambda p: f"{_amount(p['all_reduced'])}, {p['all_reduced'] / p['to_reduce']:.4f}",
  )
  add(
    "step: compute + all-reduce (model)",
    lambda p: f"{p['compute_seconds'] * 1e3:.1f} + {p['all_reduce_seconds'] * 1e3:.1f} ms",
  )
  add("images/s a chip", lambda p: f"{p['images_per_second_per_chip']:,.0f}")
  add("the run's steps", lambda p: f"{p['steps']:,}")
  add("· hours", lambda p: f"{p['steps'] * p['step_seconds'] / 3600:.3g}")
  head, *others = [[name, *cells] for name, cells in rows]
  return document.table(head, others)


def _amount(size: int) -> str:
  return f"{size / 2**30:.2f} GiB" if size > 2**30 / 10 else f"{size / 2**20:.3g} MiB"


def scaling_table(rows: list[dict]) -> str:
  """`weak_scaling` as Markdown."""
  columns = ("chips", "slice", "batch", "learning rate", "all-reduce", "images/s", "efficiency")
  text = document.table(
    columns,
    [
      [
        r["chips"],
        r["topology"],
        f"{r['batch']:,}{'' if r['by_itself'] else ' *'}",
        f"{r['learning_rate']:g}",
        f"{r['all_reduce_seconds'] * 1e3:.2f} ms",
        f"{r['images_per_second']:,.0f}",
        f"{r['efficiency']:.1%}",
      ]
      for r in rows
    ],
  )
  if not all(r["by_itself"] for r in rows):
    text += (
      "\n\n\\* A run does not choose this batch by itself. It takes batch_per_device times the "
      "chips, at most largest_batch; without batch_per_device it takes batch_size."
    )
  return text
