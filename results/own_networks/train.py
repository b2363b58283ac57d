"""Networks in plain Flax, quantized by `apprentice_jax.quantize`, on scikit-learn's digits.

    python results/own_networks/train.py --out=trainings.csv
    python results/own_networks/train.py --network=vit --precision=8A2W --scheme=B --seed=1

A seed's full-precision network comes first: it is the teacher of schemes B and C, and C's start.
"""

import argparse
import collections
import csv
import functools
import itertools
import statistics
import sys
import time
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from plain_flax import NETWORKS
from sklearn.datasets import load_digits

import apprentice_jax
from apprentice_jax import document
from apprentice_jax.data import order

FULL, PRECISIONS, SCHEMES, SEEDS = "32A,32W", ("8A,4W", "8A,2W"), ("baseline", "B", "C"), (0, 1)
TEST, BATCH, EPOCHS, RATE = 360, 64, 30, 2e-3  # the package's own split of the digits
FIELDS = ("network", "precision", "scheme", "seed", "accuracy", "seconds")


class Split(NamedTuple):
  images: jax.Array
  labels: jax.Array


@functools.cache
def digits() -> tuple[Split, Split]:
  """The training and the test split."""
  data = load_digits()
  images, labels = np.float32(data.images[..., None]), np.int32(data.target)
  test = order.held_out(labels, TEST)
  images = (images - images[~test].mean()) / images[~test].std()
  return tuple(Split(jnp.asarray(images[m]), jnp.asarray(labels[m])) for m in (~test, test))


@functools.cache
def optimizer(steps: int) -> optax.GradientTransformation:
  return optax.adamw(optax.cosine_decay_schedule(RATE, steps), weight_decay=1e-3)


@functools.partial(jax.jit, static_argnums=0)
def logits(net, variables, images):
  return net.apply(variables, images, train=False)


@functools.partial(jax.jit, static_argnums=(0, 1), donate_argnums=(2, 3))
def train_step(net, update, variables, state, batch: Split, teacher_logits, gamma):
  """One step; gamma weighs the teacher, and is 0 without one."""

  def loss(params):
    y, new = net.apply(
      {**variables, "params": params}, batch.images, train=True, mutable=["batch_stats"]
    )
    value, _ = apprentice_jax.apprentice_loss(
      y, teacher_logits, batch.labels, alpha=0.0, gamma=gamma
    )
    return value, new

  gradients, new = jax.grad(loss, has_aux=True)(variables["params"])
  updates, state = update(gradients, state, variables["params"])
  return {**new, "params": optax.apply_updates(variables["params"], updates)}, state


def train(net, seed: int, *, start=None, teacher=None, epochs: int = EPOCHS):
  """Trains a module.

  Args:
    net: a Linen module, quantized or not.
    seed: of the order of the images, and of the initialisation.
    start: variables to start from, of the plain module; None: new ones.
    teacher: logits of all training images; None: labels alone teach.
    epochs: passes over the training split.

  Returns:
    The variables.
  """
  split = digits()[0]
  size = len(split.labels)
  steps = epochs * size // BATCH
  index, _ = order.examples(seed, size, 0, steps * BATCH)
  if start is None:
    variables = jax.jit(net.init, static_argnames="train")(
      jax.random.key(seed), split.images[:BATCH], train=True
    )
  else:
    # Quantizers start from these images; the network's own parameters stay as they are.
    _, filled = net.apply(start, split.images[:BATCH], train=False, mutable=["params"])
    variables = jax.tree.map(jnp.copy, {**start, **filled})
  init, update = optimizer(steps)
  state = init(variables["params"])
  gamma = 0.0 if teacher is None else 0.5
  for chosen in index.reshape(steps, BATCH):
    batch = Split(split.images[chosen], split.labels[chosen])
    known = jnp.zeros((BATCH, 10)) if teacher is None else teacher[chosen]
    variables, state = train_step(net, update, variables, state, batch, known, gamma)
  return variables


def accuracy(net, variables) -> float:
  """Percent of the test images."""
  images, labels = digits()[1]
  return 100 * float(jnp.mean(jnp.argmax(logits(net, variables, images), -1) == labels))


def cells(network: str, precisions, schemes, seed: int):
  """Trains a network in full precision, and in each precision under each scheme.

  Yields:
    A dict with FIELDS for each training.
  """
  plain = NETWORKS[network](10)
  began = time.monotonic()

  def row(precision, scheme, net, variables):
    nonlocal began
    seconds, began = time.monotonic() - began, time.monotonic()
    score = round(accuracy(net, variables), 2)
    return dict(zip(FIELDS, (network, precision, scheme, seed, score, round(seconds, 1))))

  trained = train(plain, seed)
  yield row(FULL, "baseline", plain, trained)
  known = logits(plain, trained, digits()[0].images)
  for precision, scheme in itertools.product(precisions, schemes):
    net = apprentice_jax.quantize(plain, precision)
    options = {
      "baseline": {},
      "B": dict(teacher=known),
      "C": dict(teacher=known, start=trained, epochs=EPOCHS // 2),
    }[scheme]
    yield row(precision, scheme, net, train(net, seed, **options))


def table(rows: list[dict]) -> str:
  """Accuracies of all seeds as Markdown, mean ± standard deviation."""
  found = collections.defaultdict(list)
  for row in rows:
    found[row["network"], row["precision"], row["scheme"]].append(float(row["accuracy"]))

  def cell(scores):
    spread = f" ± {statistics.stdev(scores):.2f}" if len(scores) > 1 else ""
    return f"{statistics.mean(scores):.2f}{spread}" if scores else ""

  columns = [(FULL, "baseline"), *itertools.product(PRECISIONS, SCHEMES)]
  head = ["network", *(f"{precision} {scheme}" for precision, scheme in columns)]
  networks = dict.fromkeys(row["network"] for row in rows)
  return document.table(
    head,
    [[network, *(cell(found[network, *column]) for column in columns)] for network in networks],
  )


def main(arguments=None):
  parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
  parser.add_argument("--network", choices=NETWORKS, help="default: all")
  parser.add_argument("--precision", help=f"default: {' and '.join(PRECISIONS)}")
  parser.add_argument("--scheme", choices=SCHEMES, help="default: all")
  parser.add_argument("--seed", type=int, help=f"default: {SEEDS}")
  parser.add_argument("--out", help="a CSV file; default: standard output")
  flags = parser.parse_args(arguments)
  chosen = lambda one, several: several if one is None else (one,)
  with open(flags.out, "w") if flags.out else sys.stdout as file:
    writer = csv.DictWriter(file, FIELDS, lineterminator="\n")
    writer.writeheader()
    rows = []
    for network, seed in itertools.product(
      chosen(flags.network, NETWORKS), chosen(flags.seed, SEEDS)
    ):
      precisions, schemes = chosen(flags.precision, PRECISIONS), chosen(flags.scheme, SCHEMES)
      for row in cells(network, precisions, schemes, seed):
        writer.writerow(row)
        file.flush()
        rows.append(row)
  if flags.out:
    print(table(rows))


if __name__ == "__main__":
  main()
