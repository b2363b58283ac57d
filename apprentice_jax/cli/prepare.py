"""Downloads a dataset of tensorflow-datasets and stores it as training reads it.

It needs the extra [prepare]; training needs no TensorFlow.
"""

from apprentice_jax.cli import flags as shared
from apprentice_jax.errors import ConfigError

HELP = "download and convert a dataset of tensorflow-datasets"


def flags(parser):
  add = parser.add_argument
  add("--dataset", metavar="NAME", help="its name in tensorflow-datasets, such as cifar10")
  add("--data_dir", metavar="DIR", help="a folder for it; default: that of tensorflow-datasets")


def run(given):
  shared.need(given, "dataset")
  from apprentice_jax.data.prepare import prepare

  try:
    folder = prepare(given.dataset, given.data_dir)
  except ValueError as error:
    raise ConfigError(str(error)) from None
  print(f"{given.dataset} is in {folder}")
