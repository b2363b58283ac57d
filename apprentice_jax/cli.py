"""The command line: ``apprentice COMMAND --flags``, also ``python -m apprentice_jax COMMAND``.

Commands only parse flags and call the functions that do the work.
"""

import contextlib
import io
import json
import os
import pathlib
import sys
import traceback
import warnings

from apprentice_jax import environment

USAGE = """usage: apprentice COMMAND [flags]

  train    --config=FILE[:key=value,...] --workdir=DIR [--data_dir=DIR] [--config.a.b=value ...]
  eval     --workdir=DIR [--split=test] [--data_dir=DIR] [--lowered] [--layers]
           --model=FILE --config=FILE[:key=value,...] [--split=test]
               a checkpoint, or an exported file, which has its own image sizes
  export   --workdir=DIR --format=packed|stablehlo|onnx --out=FILE
           [--ends=float|8bit|7bit] [--packing=bits|base3]
           [--form=auto|exact|fast] [--layers] [--data_dir=DIR]
  predict  --model=FILE|--workdir=DIR IMAGE|FOLDER... [--top=5] [--json]
                                         what a network sees on images
  study    --config=FILE[:key=value,...] --workdir=DIR [--data_dir=DIR] [--config.a.b=value ...]
           [--config.study.variations="'tau4: loss.temperature=4','long: recipe.student.epochs=90'"]
                                         beside the config's own settings
           --status --workdir=DIR                               how far a study is, running or not
  report   --workdir=DIR[,DIR,...] [--out=DIR]          a study's report anew, or one of its parts
  prepare  --dataset=NAME [--data_dir=DIR]
  plan     --config=FILE[:key=value,...] --topology=v5e:16x16[,v4:4x4x4,...]
           [--max_batch] [--scaling] [--examples=N --classes=N] [--out=FILE.json]
                                         what a TPU slice would make of it
  bench    --config=FILE[:key=value,...] [--out=FILE.json]  how fast it trains

train, study and eval on several machines: TPU pods and SLURM are found; elsewhere, on each
           --coordinator_address=HOST:PORT --num_processes=N --process_id=I

The last value of a flag given twice counts (--config itself is given once);
~ in a path is expanded.

config arguments: student, teacher, precision, scheme, width, preset, runlocal (see configs/)
"""
COMMANDS = ("train", "eval", "export", "predict", "study", "report", "bench", "prepare", "plan")
SEVERAL = ("train", "study", "eval")  # what several processes can do


def command() -> int:
  """The process's own command: `main`, in a process that has glibc's memory settings."""
  environment.restart_with_memory_settings()
  return main()


def main(argv=None) -> int:
  """Runs a command; returns the exit status.

  0; 2 after one sentence about a wrong input; 75 when SIGTERM stopped a run, which saved (start it
  again: see `training.preemption`); 130 the same for SIGINT.
  """
  argv = list(sys.argv[1:] if argv is None else argv)
  environment.set_xla_flags(quick=argv[:1] != ["plan"])  # `plan` does not compile for CPU
  warnings.filterwarnings("ignore", module="orbax|tensorflow_datasets|etils")
  if not argv or argv[0] == "help" or {"-h", "--help"} & set(argv):
    print(USAGE)
    return 0
  if (status := _guarded(argv)) is not None:
    return status
  from apprentice_jax.errors import ApprenticeError, Preempted

  usual, warnings.formatwarning = warnings.formatwarning, _format_warning
  try:
    return _run(argv[0], argv[1:])
  except ApprenticeError as error:
    print(f"apprentice: {error}", file=sys.stderr)
    together = isinstance(error, Preempted)  # all were told to stop
    return _ended(error.exit_code, together)
  except BrokenPipeError:  # whoever read the output has read enough, as `| head` does
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return _ended(141)
  except Exception as error:
    from apprentice_jax.training import processes

    line = (str(error).splitlines() or [""])[0][:200]
    if processes.out_of_memory(error):
      print(
        f"apprentice: the memory of a device is too small for this run ({line}): take a smaller "
        "batch_size (or batch_per_device).",
        file=sys.stderr,
      )
      return _ended(2)
    if not _one_of_several():
      raise
    if processes.peer_lost(error):
      print(f"apprentice: {processes.LOST} ({line})", file=sys.stderr)
      return _ended(75)
    traceback.print_exc()
    return _ended(1)
  finally:
    warnings.formatwarning = usual


def _guarded(argv: list[str]):
  """The status of the process that does the work, where it needs a guard; None in that process.
  Before anything large is imported. What is wrong with a flag is left to that process to say."""
  from apprentice_jax.training import processes

  if not environment.has_tpu():
    environment.without_tpu()
  counts = [a.partition("=")[2] for a in argv if a.replace("-", "_").startswith("__num_processes=")]
  count = int(counts[-1]) if counts and counts[-1].isdigit() else None
  if argv[0] in SEVERAL and processes.several(count):
    return processes.guarded(argv)
  return None


def _one_of_several() -> bool:
  import jax

  return jax.distributed.is_initialized() and jax.process_count() > 1


def _ended(status: int, together: bool = False) -> int:
  """Ends this process at once if it is one of several, where exiting would wait for the others,
  which wait for it; unless all of them end ``together``."""
  if _one_of_several() and not together:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
  return status


def _format_warning(message, *_, **__):
  return f"apprentice: {message}\n"  # not where in the code


def _run(command: str, arguments: list[str]) -> int:
  from apprentice_jax import unused
  from apprentice_jax.arguments import PROCESS_FLAGS, parse
  from apprentice_jax.config import checked
  from apprentice_jax.errors import ConfigError, nearest

  if command not in COMMANDS:
    raise ConfigError(f"command {command!r} does not exist: {nearest(command, COMMANDS)}")
  if command == "plan":  # before jax starts: the devices that it compiles for are not there
    os.environ["JAX_PLATFORMS"] = "cpu"
  given = parse(command, arguments)
  if command == "prepare":
    from apprentice_jax.data.prepare import prepare

    try:
      print(f"{given.dataset} is in {prepare(_need(given.dataset, 'dataset'), given.data_dir)}")
    except ValueError as error:
      raise ConfigError(str(error)) from None
    return 0
  config = given.config
  if config is not None and command in ("train", "study") and given.data_dir:
    config.data.dir = given.data_dir
  if config is not None:
    config = given.config = checked(config, config.study.precisions if command == "study" else ())
  for sentence in unused.sentences(command, given, arguments):
    print(f"note: {sentence}", flush=True, file=sys.stderr if command == "predict" else sys.stdout)
  if command == "plan":
    _plan(_need(config, "config"), given)
    return 0
  if (
    command == "report" or command == "study" and given.status
  ):  # no device is needed: one may be in use
    print(_read_study(command, _need(given.workdir, "workdir"), given.out))
    return 0
  from apprentice_jax.training import processes

  joined = tuple(getattr(given, name) for name in PROCESS_FLAGS)
  processes.check(*joined)
  if command in SEVERAL:
    processes.join(*joined)
  if command in ("train", "study"):
    return _train(command, _need(config, "config"), _need(given.workdir, "workdir"))
  from apprentice_jax.training import devices

  # The devices are no part of an answer.
  with contextlib.redirect_stdout(io.StringIO() if command == "predict" else sys.stdout):
    devices.start(config.cpu_devices if config is not None else None, given.workdir)
  if command == "eval":
    _eval(config, given)
  elif command == "export":
    _export(given)
  elif command == "predict":
    return _predict(given)
  else:
    _bench(config, given)
  return 0


def _train(command: str, config, workdir: str) -> int:
  from apprentice_jax.training import devices, preemption, processes

  with preemption.listening():  # also while devices start, programs compile, and between runs
    devices.start(config.cpu_devices, workdir, config.study.jobs if command == "study" else 1)
    if command == "train":
      from apprentice_jax.training import api, finish
      from apprentice_jax.training.workdir import result

      finished = result(pathlib.Path(workdir)) is not None
      finish.check(config)
      api.train(config, workdir)
      if finished and processes.first():
        print(f"{workdir} had finished before: nothing was trained.")
      finish.write(config, pathlib.Path(workdir))
    else:
      from apprentice_jax.study.run import run_study

      table = run_study(config, workdir)
      if processes.first():
        print(table)
  return 0


def _read_study(command: str, workdir: str, out: str) -> str:
  os.environ["JAX_PLATFORMS"] = "cpu"  # before jax starts
  if command == "study":
    from apprentice_jax.study import progress

    return progress.status(workdir)
  from apprentice_jax.study import merge

  return merge.report_on([workdir] if pathlib.Path(workdir).exists() else workdir.split(","), out)


def _eval(config, given):
  from apprentice_jax.deploy import cost, registry
  from apprentice_jax.errors import ConfigError
  from apprentice_jax.training import export, processes, start

  if given.workdir and (given.model or config is not None):
    raise ConfigError("eval takes --workdir, or --model and --config: see apprentice --help.")
  path, packing = given.model or _need(given.workdir, "workdir"), "bits"
  config = _need(config, "config") if given.model else start.workdir_config(path)
  network, why = None, ""
  if given.model and registry.recognised(path):
    if given.lowered:
      print("note: --lowered changes nothing: an exported file is scored as it is.", flush=True)
    predictor = registry.load(path)
    found = export.evaluate(predictor, config, given.split, given.data_dir)
    network, packing = predictor.network, predictor.packing
  elif given.lowered:
    predictor = export.predictor(config, path, split=given.split, data_dir=given.data_dir)
    found = export.evaluate(predictor, config, given.split, given.data_dir)
    network = predictor.network
  else:
    found, network, why = export.score(config, path, given.split, given.data_dir)
  if processes.first():
    print(
      f"{given.split or 'test'}: accuracy {found['accuracy']:.2%}, loss {found['loss']:.4f}, "
      f"{found['count']:,} examples"
    )
    if network is not None:
      print(cost.table(network, packing, by_layer=given.layers))
    elif why:
      print(f"its cost is not known, since it cannot be lowered: {why}")


def _export(given):
  from apprentice_jax.deploy import cost, registry
  from apprentice_jax.training import export

  workdir, out = _need(given.workdir, "workdir"), _need(given.out, "out")
  _check_folder(out)
  options = {name: getattr(given, name) for name in registry.FORMATS[given.format]}
  network = export.export(
    workdir, given.format, out, ends=given.ends, data_dir=given.data_dir, **options
  )
  print(cost.table(network, given.packing, by_layer=given.layers))
  print(f"{out}: {pathlib.Path(out).stat().st_size:,} bytes, {given.format}")


def _predict(given) -> int:
  from apprentice_jax.deploy import predict, registry
  from apprentice_jax.errors import ConfigError
  from apprentice_jax.training import export, start

  if given.workdir and given.model:
    raise ConfigError("predict takes --model or --workdir, not both.")
  if not given.image:
    raise ConfigError(
      "predict takes images, or folders of them: apprentice predict --model=FILE IMAGE..."
    )
  files = predict.find(given.image)
  for line in predict.not_read(files.others):
    print(f"apprentice: {line}", file=sys.stderr)
  if given.workdir:
    config = start.workdir_config(given.workdir)
    predictor = export.predictor(config, given.workdir, data_dir=given.data_dir)
  else:
    predictor = registry.load(_need(given.model, "model"))
  status = 0
  for answer in predict.predict(predictor, files.paths, given.top):
    if answer.trouble:
      status = 2
      print(f"apprentice: {predict.printable(answer.trouble)}", file=sys.stderr)
    if given.json or not answer.trouble:
      print(predict.printable(predict.as_json(answer) if given.json else predict.as_text(answer)))
  return status


def _plan(config, given):
  from apprentice_jax.plan import report
  from apprentice_jax.training import start

  _check_folder(given.out)
  config = start.named(config)
  found = report.plan_on(
    config,
    _need(given.topology, "topology"),
    examples=given.examples,
    classes=given.classes,
    max_batch=given.max_batch,
  )
  print(report.table(found))
  if given.scaling:
    for plan in filter(lambda p: "all_reduced" in p, found["plans"]):
      plan["weak_scaling"] = report.weak_scaling(plan, config)
      print(
        f"\nOn paper, from {plan['topology']}: {plan['batch_per_chip']} images a chip\n\n"
        + report.scaling_table(plan["weak_scaling"])
      )
  if given.out:
    pathlib.Path(given.out).write_text(json.dumps(found, indent=1))


def _check_folder(out: str):
  from apprentice_jax.errors import ConfigError

  folder = pathlib.Path(out).parent
  if out and not folder.is_dir():
    raise ConfigError(f"cannot write {out}: there is no folder {folder}.")


def _bench(config, given):
  from apprentice_jax.bench import training
  from apprentice_jax.training import start

  _check_folder(given.out)
  report = training.measure(start.named(_need(config, "config")))
  print(training.table(report))
  if given.out:
    pathlib.Path(given.out).write_text(json.dumps(report, indent=1))


def _need(value, flag: str):
  from apprentice_jax.errors import ConfigError

  if not value:
    raise ConfigError(f"this command needs --{flag}=...; see apprentice --help.")
  return value
