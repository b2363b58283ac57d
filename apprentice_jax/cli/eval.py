"""Scores a network on a split of its dataset: of a workdir, a checkpoint, or an exported file.

A network of `apprentice models` knows its dataset; --config takes another one.
"""

from apprentice_jax.cli import config_file
from apprentice_jax.cli import flags as shared
from apprentice_jax.errors import ConfigError

HELP = "score a network on a split of a dataset"


def flags(parser):
  add = parser.add_argument
  add("--workdir", metavar="DIR", help="the folder of a run, whose network and config it takes")
  add(
    "--model",
    metavar="FILE|NAME",
    help="a checkpoint or an exported file, which has its own image sizes and needs --config; or a "
    "network of `apprentice models`",
  )
  shared.config(parser)
  add(
    "--split",
    metavar="NAME",
    help="validation, train, or a split of the dataset; default: the run's test images",
  )
  shared.data_dir(parser)
  add("--lowered", **shared.SWITCH, help="score the integer network that an export writes")
  add("--layers", **shared.SWITCH, help="print the cost of each layer")
  shared.processes(parser)


def run(given):
  if given.workdir and (given.model or given.config):
    raise ConfigError("eval takes --workdir, or --model and --config: see apprentice --help.")
  card = shared.model(given) if given.model else None
  if not card:
    shared.need(given, "config" if given.model else "workdir")
  config = _config(given, card) if given.model else None
  shared.join(given)
  from apprentice_jax.deploy import cost, registry
  from apprentice_jax.deploy.unlowered import Unlowered
  from apprentice_jax.training import cluster, devices, export
  from apprentice_jax.training.workdir import workdir_config

  devices.start(config and config.cpu_devices, given.workdir)
  path, packing, why = given.model or given.workdir, "bits", ""
  config = config or workdir_config(path)
  # A model that is no exported file is a checkpoint, which is scored as a run's network is.
  file = given.model and registry.recognised(path)
  if file and given.lowered and cluster.first():
    shared.note("--lowered changes nothing: an exported file is scored as it is.")
  if file or given.lowered:
    if file:
      predictor = registry.load(path)
    else:
      predictor = export.predictor(config, path, split=given.split, data_dir=given.data_dir)
      if isinstance(predictor.network, Unlowered) and cluster.first():
        shared.note("a network of your own has no integer form: its StableHLO program is scored.")
    same_data = bool(card) and card.data["data.name"] == config.data.name
    scores = export.evaluate(predictor, config, given.split, given.data_dir, same_data)
    network, packing = predictor.network, predictor.packing
  else:
    own = bool(given.workdir) and not given.split and not given.data_dir
    scores, network, why = export.score(config, path, given.split, given.data_dir, compare=own)
  if not cluster.first():
    return
  print(
    f"{given.split or 'test'}: accuracy {scores['accuracy']:.2%}, loss {scores['loss']:.4f}, "
    f"{scores['count']:,} examples"
  )
  if network is not None:
    print(cost.table(network, packing, by_layer=given.layers))
  elif why:
    print(f"its cost is not known, since it cannot be lowered: {why}")


def _config(given, card):
  """The config of the images: the one given, or that of a network of the zoo."""
  if given.config:
    return config_file.load(given)
  from apprentice_jax import config as configs

  return configs.checked(configs.restored(card.data))
