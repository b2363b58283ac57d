"""Several cells of a study at once, each in a process of its own on this machine.

Small networks cannot use a CPU's cores together as well as apart. Two runs on one core each take
less time than two runs on two cores, one after the other. Small networks do not fill a GPU either,
whose time goes by in starting kernels. Runs share the GPU under NVIDIA's Multi-Process Service
(https://docs.nvidia.com/deploy/mps), and take turns without it.

The study's own process hands out cells and trains none. A process takes a
cell whose program it has compiled; else a cell whose program no process has. Compiled programs are
in the cache.
"""

import contextlib
import multiprocessing
import os
import pathlib
import shutil
import signal
import sys
import traceback
from collections.abc import Callable
from multiprocessing import connection as pipes
from typing import NamedTuple

import jax

from apprentice_jax.data.splits import Splits, open_splits
from apprentice_jax.distill.schemes import SCHEMES
from apprentice_jax.errors import ApprenticeError, ConfigError, Preempted
from apprentice_jax.study import cells
from apprentice_jax.study.cells import Cell
from apprentice_jax.training import api, cluster, devices, guard, preemption
from apprentice_jax.training.workdir import disk_errors, result, scaled


class _Worker(NamedTuple):
  process: multiprocessing.Process
  pipe: pipes.Connection
  programs: set  # of `program_of`, that it has compiled


def count(config) -> int:
  """How many cells to train at once: ``config.study.jobs`` on CPU or on one GPU; else one, which
  has all devices. (A process has TPUs to itself, and several programs on the same GPUs would wait
  for each other's all-reduces.)"""
  platform = jax.devices()[0].platform
  shared = platform == "cpu" or platform == "gpu" and jax.device_count() == 1
  return config.study.jobs if shared and jax.process_count() == 1 else 1


def train(config, cell: Cell, workdir, splits: Splits) -> dict:
  """Trains a cell on a study's images, or finds it done; returns its result."""
  run_config = cluster.agreed(lambda: scaled(cells.cell_config(config, cell), workdir))
  if source := cells.copied_from(config, cell):
    cluster.on_first(lambda: _copy(workdir, source, cell))
  # What it starts from is a cell of this study, or the user's own network in its place.
  paths = {
    kind: cells.own_network(config, kind) or str(cells.cell_dir(workdir, source))
    for kind, source in cells.sources(config, cell).items()
  }
  return api.train(
    run_config, cells.cell_dir(workdir, cell), **paths, part=cell.kind, splits=splits
  )


def _copy(workdir: pathlib.Path, source: Cell, cell: Cell):
  """Makes the workdir of a cell that has not begun a copy of another's that is finished."""
  source, place = (cells.cell_dir(workdir, each) for each in (source, cell))
  if place.exists() or result(source) is None:
    return
  # Whole at once: a copy that is cut off is begun anew.
  part = pathlib.Path(workdir) / f"{cell.name}.part"
  shutil.rmtree(part, ignore_errors=True)
  with disk_errors(workdir):
    try:
      shutil.copytree(source, part)
    except shutil.Error as error:
      # It has a list of (source, place, text), one for each file that failed; one is enough.
      raise OSError(error.args[0][0][-1]) from None
    part.rename(place)


def train_cells(config, workdir, begins: Callable[[list[Cell]], None]):
  """Trains the cells that are not finished, several at once.

  Args:
    config: the study's.
    workdir: the study's.
    begins: called with the cells in hand whenever one begins.

  Raises:
    ApprenticeError: what the first run to fail raised; the others were told to stop, and have
      saved.
    Preempted: SIGTERM or SIGINT came; all have saved.
  """
  # Each cell with those that have to be finished before it.
  left = {
    cell: set(
      filter(None, (*cells.sources(config, cell).values(), cells.copied_from(config, cell)))
    )
    for cell in cells.cells(config)
    if not cells.own_network(config, cell.kind) and result(cells.cell_dir(workdir, cell)) is None
  }
  with contextlib.ExitStack() as stack:
    most = min(count(config), len(left))
    workers = [stack.enter_context(_worker(config, workdir)) for _ in range(most)]
    in_hand: dict[pipes.Connection, Cell] = {}
    try:
      while left or in_hand:
        for worker in [w for w in workers if w.pipe not in in_hand]:
          if cell := _next(worker, workers, left, in_hand.values()):
            del left[cell]
            _hand(worker, cell, in_hand)
            begins(list(in_hand.values()))
        # It wakes up now and then, to see whether a signal came.
        ended = pipes.wait(list(in_hand), timeout=0.2)
        number = preemption.requested(together=False)
        for pipe in ended:
          error = _received(pipe, in_hand.pop(pipe))
          # Ctrl-C reaches every process of a terminal, some workers before this one.
          if isinstance(error, Preempted):
            number = number or error.signal
          elif error is not None and not number:
            raise error
        if number:
          raise Preempted(
            f"stopped by {signal.Signals(number).name}: the cells that had begun are saved, "
            "and the same command continues.",
            number,
          )
    except BaseException:
      # Whatever it is, nothing that was trained is lost.
      _stop(workers, in_hand)
      raise


def _hand(worker: _Worker, cell: Cell, in_hand: dict):
  """Gives a worker a cell."""
  try:
    worker.pipe.send(cell)
  except OSError:  # it is not there any more
    raise _gone(cell) from None
  worker.programs.add(program_of(cell))
  in_hand[worker.pipe] = cell


def _next(
  worker: _Worker, workers: list[_Worker], left: dict[Cell, set[Cell]], in_hand
) -> Cell | None:
  """The cell that a worker is to train now; None while the cells that are left wait for others.

  Args:
    worker: one of the workers.
    workers: all of them.
    left: each cell that no worker has begun, with those that have to be finished before it.
    in_hand: the cells that workers train now.
  """
  # A cell that is left or in hand has no network yet to start from, or to copy.
  unfinished = {*left, *in_hand}
  ready = [cell for cell, before in left.items() if not before & unfinished]
  others = set().union(*(w.programs for w in workers if w is not worker))

  def cost(cell: Cell) -> int:
    # What another worker has compiled is left to it, as long as there is anything else.
    program = program_of(cell)
    return 0 if program in worker.programs else 1 if program not in others else 2

  # Of cells that cost the same, min takes the first: the study's own order.
  return min(ready, key=cost, default=None)


def program_of(cell: Cell) -> tuple:
  """What cells with one compiled program have in common."""
  scheme = SCHEMES.get(cell.kind)
  return (scheme.teacher if scheme else cell.kind), cell.precision, cell.variation.changes


def _received(pipe, cell: Cell) -> Exception | None:
  """The answer of a worker that is done with a cell: None, or the error."""
  try:
    return pipe.recv()
  except (EOFError, OSError):
    return _gone(cell)


def _gone(cell: Cell) -> ConfigError:
  return ConfigError(
    f"the process that trained {cell.name} ended without a message, perhaps for lack of memory: "
    "lower config.study.jobs. Its checkpoints are kept, and the same command continues."
  )


def _stop(workers: list[_Worker], in_hand):
  """Tells the workers to stop, and waits until they have saved."""
  for worker in workers:
    if worker.pipe in in_hand and worker.process.is_alive():
      # They may have had a SIGINT, and another one would end them at once.
      os.kill(worker.process.pid, signal.SIGTERM)
  for pipe in list(in_hand):
    # A worker that had not even started is gone, and answers nothing.
    with contextlib.suppress(EOFError, OSError):
      pipe.recv()
      del in_hand[pipe]


@contextlib.contextmanager
def _worker(config, workdir):
  # jax has threads, which would not survive a fork.
  context = multiprocessing.get_context("spawn")
  ours, theirs = context.Pipe()
  process = context.Process(target=_work, args=(theirs, config, workdir), daemon=True)
  process.start()
  # With this copy open, a worker's end would never be seen as the end of its pipe.
  theirs.close()
  try:
    yield _Worker(process, ours, set())
  finally:
    with contextlib.suppress(OSError):
      ours.send(None)
    process.join(timeout=10)
    process.kill()


def _work(pipe, config, workdir: pathlib.Path):
  """A worker process: trains the cells that it is sent, until it is sent None."""
  guard.end_with_parent()
  # The study's process says how far the cells are.
  sys.stdout = open(os.devnull, "w")
  with preemption.listening():
    devices.start(config.cpu_devices, workdir, config.study.jobs)
    splits = open_splits(config.data)
    while (cell := pipe.recv()) is not None:
      pipe.send(_error_of(config, cell, workdir, splits))


def _error_of(config, cell: Cell, workdir: pathlib.Path, splits: Splits) -> Exception | None:
  """Trains a cell; returns what was wrong, if anything was."""
  try:
    train(config, cell, workdir, splits)
  except ApprenticeError as error:
    return error
  except Exception as error:
    if guard.out_of_memory(error):
      return ConfigError(
        f"the memory of a device is too small for {cell.name} beside the others: lower "
        f"config.study.jobs, now {config.study.jobs}, or take a smaller batch_size. Its "
        "checkpoints are kept."
      )
    return RuntimeError(f"{cell.name}:\n{traceback.format_exc()}")
