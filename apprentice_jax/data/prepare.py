"""Preparing a public dataset once, as ArrayRecord, so that training needs no TensorFlow."""

import importlib.util

from apprentice_jax.data import digits


def prepare(name: str, data_dir: str = "") -> str:
  """Downloads and prepares a tfds dataset as ArrayRecord; does nothing if it is there.

  Args:
    name: as tfds spells it, such as "cifar10"; "digits" needs no download and no TensorFlow.
    data_dir: where to; "": tfds's own folder.

  Returns:
    The folder the dataset is in.

  Raises:
    ValueError: TensorFlow is missing, the dataset does not exist, or it has to be downloaded by hand
      (with tfds's instructions).
  """
  if name == "digits":
    return str(digits.prepare(data_dir or None))
  if importlib.util.find_spec("tensorflow") is None:
    raise ValueError(f"preparing {name} takes TensorFlow, once: pip install 'apprentice-jax[prepare]'.")
  import tensorflow_datasets as tfds
  try:
    builder = tfds.builder(name, data_dir=data_dir or None, file_format="array_record")
  except tfds.core.DatasetNotFoundError:
    raise ValueError(f"tfds has no dataset {name!r}: see tensorflow.org/datasets/catalog.") from None
  try:
    builder.download_and_prepare()
  except AssertionError as error:  # how tfds asks for a manual download
    raise ValueError(" ".join(str(error).split())) from None
  return str(builder.data_dir)
