"""The input pipeline beside tf.data.

    python benchmarks/beside_tf_data.py --data_dir=PHOTOS [--out=FILE.json]

PHOTOS has photos in train/CLASS/. TensorFlow comes with the extra ``[bench]``.

Both read the same files and make the same crops on the same cores, in turns. The median ratio of
neighbouring timings is compared, and the processor time of an image: other work of the machine
falls on both or on neither. tf.data is favoured in one thing: the windows of all images are worked
out for it beforehand. Both resize with antialiasing.
"""

import argparse
import io
import math
import os
import pathlib
import platform
import statistics
import tempfile
import time
from unittest import mock

import command
import cv2
import numpy as np
import simplejpeg
from photos import KINDS, Kind, make
from PIL import Image
from scipy import sparse

from apprentice_jax.data import crops as cropping
from apprentice_jax.data import encoded, order, stream
from apprentice_jax.data import folder as folders
from apprentice_jax.data import images as decoding
from apprentice_jax.errors import ConfigError

BATCH = 32
SEED = 0
CROPS = cropping.Crops()
_COMPARED = 3  # batches whose pixels are compared
_NAMES = ("ours", "tf.data")
_OPENCV = ("resize", "flip", "transpose", "convertScaleAbs")  # they let go of Python's lock


def run(data_dir: str, images: int = 4096, rounds: int = 15) -> dict:
  """Times both pipelines on three sets of JPEGs and compares what comes out.

  Args:
    data_dir: a folder with photos in train/CLASS/, see `encoded.Folder`.
    images: timed in a round, of 224x224; fewer of the larger ones, in proportion.
    rounds: timings of each pipeline.

  Returns:
    "machine", and "sets": by name, what `make`, `_timings`, `_python_time` and `_quality` say.

  Raises:
    ConfigError: there are no photos, or no TensorFlow.
  """
  tf = _tensorflow()
  try:
    photos = encoded.load(encoded.FOLDER, "train", data_dir)
  except ValueError as error:
    raise ConfigError(str(error)) from None
  sets = {}
  with tempfile.TemporaryDirectory() as folder:
    for name, kind in KINDS.items():
      root = pathlib.Path(folder) / name
      made = make(photos, kind._replace(files=min(kind.files, images)), root)
      examples = encoded.load(encoded.FOLDER, "train", str(root))
      share = 224**2 / (kind.height * kind.width)
      steps = max(4 * stream.cores(), round(share * images / BATCH))
      sets[name] = {
        **made,
        "images_a_round": steps * BATCH,
        **_timings(tf, examples, kind, steps, rounds),
        **_python_time(examples, steps),
        **_quality(tf, examples, kind),
      }
  return {
    "sets": sets,
    "machine": {
      "cores": stream.cores(),
      "batch": BATCH,
      "rounds": rounds,
      "python": platform.python_version(),
      "numpy": np.__version__,
      "opencv": cv2.__version__,
      "simplejpeg": simplejpeg.__version__,
      "tensorflow": tf.__version__,
    },
  }


def table(report: dict, chip: float = 2500.0) -> str:
  """The report for reading.

  Args:
    report: from `run`.
    chip: images a second that one accelerator trains on: an assumption about the consumer.
  """
  machine = report["machine"]
  lines = [
    "{cores} cores, batches of {batch}, {rounds} rounds, TensorFlow {tensorflow}".format(**machine)
  ]
  for name, found in report["sets"].items():
    lines += ["", f"{name}: {found['files']} files of {found['mean_bytes']:,.0f} bytes"]
    for who in _NAMES:
      lines.append(
        f"  {who:8s}{found['images_per_second'][who]:8,.0f} images/s; a core: "
        f"{found['images_per_second_per_core'][who]:7,.0f} images/s, "
        f"{found['cpu_microseconds'][who]:,.0f} us an image"
      )
    python, core = found["python_microseconds"], found["images_per_second_per_core"]["ours"]
    lines += [
      f"  ours / tf.data: {found['ratio']:.2f} in images/s, {found['cpu_ratio']:.2f} a core",
      f"  2 workers of 1 thread / ours: {found['workers_ratio']:.2f}",
      f"  Python holds its lock for {python:.0f} us an image: at most "
      f"{found['ceiling_per_process']:,.0f} images/s in a process",
    ]
    for chips in (4, 8):
      need = chips * chip
      lines.append(
        f"  {chips} chips of {chip:,.0f} images/s (assumed): {need / core:.1f} cores, "
        f"{chip / core:.1f} a chip; processes: {math.ceil(need * python / 1e6)}"
      )
    lines.append(
      "  decoded at 1/r: "
      + ", ".join(f"{share:.0%} r = {r}" for r, share in found["reductions"].items())
    )
    lines += [
      f"  {between}: {'-' if psnr is None else f'{psnr:.1f} dB'}"
      for between, psnr in found["psnr"].items()
    ]
  return "\n".join(lines)


def psnr(a: np.ndarray, b: np.ndarray) -> float:
  """Peak signal-to-noise ratio in dB: the mean over images, of which identical ones count as 100.

  Args:
    a, b: uint8 (images, height, width, channels).
  """
  errors = np.square(a.astype(np.float32) - b.astype(np.float32)).mean((1, 2, 3), dtype=np.float64)
  return float(np.mean(10 * np.log10(255**2 / np.maximum(errors, 255**2 / 1e10))))


def _timings(tf, examples, kind: Kind, steps: int, rounds: int) -> dict:
  """Times both pipelines in turns, and then ours with and without worker processes.

  Returns:
    "images_per_second", "images_per_second_per_core" and "cpu_microseconds" of an image: medians; a
    core's images are those of the processor time that this process took, not of the time that
    passed. "ratio", "cpu_ratio", "workers_ratio": of ours to tf.data's, of the second kind, and of
    two workers' to ours; above 1 is faster.
  """
  warm = (
    stream.cores() + 1
  )  # before and after, so that what is timed is neither the start nor the end
  source = stream.TrainingShares(examples, CROPS, SEED, stream.Layout(BATCH), steps + 2 * warm)
  dataset = _tf_data(tf, examples, kind, steps + 2 * warm)
  runners = {"ours": lambda: stream.read(source), "tf.data": dataset.as_numpy_iterator}
  found = {name: [] for name in runners}
  for runner in runners.values():
    _timed(runner(), warm, steps)
  for _ in range(rounds):
    for name, runner in runners.items():
      found[name].append(_timed(runner(), warm, steps))
  workers = [
    _timed(stream.read(source), warm, steps)[0]
    / _timed(stream.read(source, threads=1, workers=2), warm, steps)[0]
    for _ in range(min(3, rounds))
  ]  # few: each starts two processes
  wall, cpu = (
    {k: statistics.median(pair[i] for pair in v) for k, v in found.items()} for i in range(2)
  )
  ratios = [[theirs[i] / own[i] for own, theirs in zip(*found.values())] for i in range(2)]
  return {
    "images_per_second": {k: 1 / v for k, v in wall.items()},
    "images_per_second_per_core": {k: 1 / v for k, v in cpu.items()},
    "cpu_microseconds": {k: 1e6 * v for k, v in cpu.items()},
    "ratio": statistics.median(ratios[0]),
    "cpu_ratio": statistics.median(ratios[1]),
    "workers_ratio": statistics.median(workers),
  }


def _timed(batches, warm: int, steps: int) -> tuple[float, float]:
  """Seconds that passed, and seconds of the processor, for each image of ``steps`` batches."""
  for i, _ in enumerate(batches):  # to the end, so that no thread works on beside what comes next
    if i == warm - 1:
      began = time.perf_counter(), time.process_time()
    elif i == warm + steps - 1:
      ended = time.perf_counter(), time.process_time()
  return tuple((b - a) / steps / BATCH for a, b in zip(began, ended))


def _tf_data(tf, examples, kind: Kind, steps: int, method: str = "INTEGER_FAST"):
  """The usual pipeline for JPEGs, which decodes the window alone; each part as fast as it gets."""
  drawn = _drawn(examples, kind, steps)

  def image(path, window, mirrored):
    pixels = tf.io.decode_and_crop_jpeg(
      tf.io.read_file(path), window, channels=3, dct_method=method
    )
    pixels = tf.image.resize(pixels, (CROPS.size, CROPS.size), antialias=True)
    pixels = tf.cast(pixels, tf.uint8)
    # Reverse takes a flag for each axis: faster than tf.cond, and than image[:, ::step].
    pixels = tf.raw_ops.Reverse(tensor=pixels, dims=tf.stack([False, mirrored, False]))
    return tf.ensure_shape(pixels, (CROPS.size, CROPS.size, 3))

  paths, windows, mirrored = ([d[i] for d in drawn] for i in range(1, 4))
  dataset = tf.data.Dataset.from_tensor_slices((paths, np.array(windows, np.int32), mirrored))
  return (
    dataset.map(image, num_parallel_calls=tf.data.AUTOTUNE)
    .batch(BATCH, drop_remainder=True)
    .prefetch(tf.data.AUTOTUNE)
  )


def _drawn(examples, kind: Kind, steps: int) -> list:
  """(index, path, window, whether mirrored) of each example of the stream."""
  result = []
  for index, epoch in zip(*order.examples(SEED, len(examples), 0, steps * BATCH)):
    draws = cropping.uniforms(SEED, int(epoch), int(index))
    window = cropping.random_window(kind.height, kind.width, CROPS, draws)
    result.append((int(index), examples.name(int(index)), window, bool(draws[-1, 0] < 0.5)))
  return result


def _python_time(examples, steps: int) -> dict:
  """How long Python holds its lock for an image.

  One thread's processor time, less that inside the calls that let go of the lock: reading a file,
  decoding, resizing and mirroring. The little that a call does before and after counts as outside
  it.

  Returns:
    "python_microseconds" of an image, and "ceiling_per_process": images a second that they allow.
  """
  source = stream.TrainingShares(examples, CROPS, SEED, stream.Layout(BATCH), steps)
  outside, rest = 0.0, []

  def clocked(function):
    def call(*args, **kwargs):
      nonlocal outside
      began, before = time.thread_time(), outside
      result = function(*args, **kwargs)
      outside = before + time.thread_time() - began  # whatever calls within it have added
      return result

    return call

  class File(io.BufferedReader):
    read = clocked(io.BufferedReader.read)

  with (
    mock.patch.object(simplejpeg, "decode_jpeg", clocked(simplejpeg.decode_jpeg)),
    mock.patch.multiple(cv2, **{name: clocked(getattr(cv2, name)) for name in _OPENCV}),
    mock.patch.object(np, "ascontiguousarray", clocked(np.ascontiguousarray)),
    mock.patch.object(sparse.csr_array, "__matmul__", clocked(sparse.csr_array.__matmul__)),
    mock.patch.object(folders, "open", lambda path, _: File(io.FileIO(path)), create=True),
  ):
    for step in range(min(steps, 30)):
      outside, began = 0.0, time.thread_time()
      source[step]
      rest.append((time.thread_time() - began - outside) / BATCH)
  seconds = statistics.median(rest)
  return {"python_microseconds": 1e6 * seconds, "ceiling_per_process": 1 / seconds}


def _quality(tf, examples, kind: Kind) -> dict:
  """Compares the first outputs of both with each other and with those of slower ways.

  Returns:
    "reductions": how large a part of the crops ours decodes at 1, 1/2, ... of the resolution.
    "psnr" in dB: ours to tf.data's, as it is timed and with its exact decoder, which tells whether
    the crops are the same; both to Pillow's antialiased resize of all pixels; ours, of crops
    decoded at less than the full resolution (None: there are none), and the others alone.
  """
  drawn = _drawn(examples, kind, _COMPARED)
  source = stream.TrainingShares(examples, CROPS, SEED, stream.Layout(BATCH), _COMPARED)
  ours = np.concatenate([source[i].images for i in range(_COMPARED)])
  fast, exact = (
    np.concatenate(list(_tf_data(tf, examples, kind, _COMPARED, method).as_numpy_iterator()))
    for method in ("INTEGER_FAST", "INTEGER_ACCURATE")
  )
  used = [cropping.reduction(min(w.height, w.width) / CROPS.size) for _, _, w, _ in drawn]
  expected, reduced = _references(examples, drawn), np.array(used) > 1
  among = lambda which: psnr(ours[which], expected[which]) if which.any() else None
  return {
    "reductions": {str(r): used.count(r) / len(used) for r in sorted(set(used))},
    "psnr": {
      "ours / tf.data": psnr(ours, fast),
      "ours / tf.data, exact decoder": psnr(ours, exact),
      "ours / Pillow": psnr(ours, expected),
      "tf.data / Pillow": psnr(fast, expected),
      "ours at r > 1 / Pillow": among(reduced),
      "ours at r = 1 / Pillow": among(~reduced),
    },
  }


def _references(examples, drawn) -> np.ndarray:
  """Crops of images decoded in full, resized by Pillow."""
  result = []
  for index, _, window, mirrored in drawn:
    pixels = decoding.pixels(decoding.inspect(next(examples.read([index]))[0]))
    part = pixels[window.top : window.top + window.height, window.left : window.left + window.width]
    resized = Image.fromarray(part).resize((CROPS.size, CROPS.size), Image.Resampling.BILINEAR)
    result.append(np.asarray(resized)[:, :: -1 if mirrored else 1])
  return np.stack(result)


def _tensorflow():
  os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
  try:
    import tensorflow as tf
  except ImportError:
    raise ConfigError(
      "the input benchmark compares with tf.data, which takes TensorFlow: "
      "pip install 'apprentice-jax[bench]'"
    ) from None
  tf.config.set_visible_devices([], "GPU")  # JAX's, if anyone's
  return tf


def measure(arguments: list[str]) -> tuple[dict, str]:
  """The report for a command's arguments, and where to write it."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--data_dir", required=True, help="a folder with photos in train/CLASS/")
  parser.add_argument("--out", default="", help="a file for the whole report, as JSON")
  flags = parser.parse_args(arguments)
  command.check_folder(flags.out)
  return run(os.path.expanduser(flags.data_dir)), flags.out


if __name__ == "__main__":
  command.main(measure, table)
