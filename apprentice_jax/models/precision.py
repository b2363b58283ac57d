"""The meaning of a precision such as ``8A,2W``: bits, quantizers, and the layers they apply to."""

import dataclasses
import fnmatch
import re
from typing import NamedTuple

from apprentice_jax.errors import nearest

FULL = 32  # bits of full precision

# Name -> the bits it can do.
WEIGHT_QUANTIZERS = {
  "twn": range(2, 3),
  "ttq": range(2, 3),
  "wrpn": range(2, 9),
  "dorefa": range(1, 9),
  "lsq": range(2, 9),
}
ACTIVATION_QUANTIZERS = dict.fromkeys(("wrpn", "dorefa", "pact", "lsq"), range(1, 9))


class Precision(NamedTuple):
  """Bits of activations and weights; 32 is full precision."""

  activations: int = FULL
  weights: int = FULL

  @classmethod
  def parse(cls, text: str) -> "Precision":
    """Reads the paper's notation, ``8A,2W``; the comma may be left out, as in ``8A2W``.

    Raises:
      ValueError: text is not of that form, or its bits are neither 1 to 8 nor 32.
    """
    match = re.fullmatch(r"\s*(\d+)A\s*,?\s*(\d+)W\s*", str(text), re.IGNORECASE)
    bits = tuple(map(int, match.groups())) if match else ()
    if not match or any(b != FULL and not 1 <= b <= 8 for b in bits):
      raise ValueError(
        f"precision {text!r} is not one: write activation and weight bits as in '8A,2W', each 1 "
        "to 8, or 32 for full precision."
      )
    return cls(*bits)

  def __str__(self):
    return f"{self.activations}A,{self.weights}W"


@dataclasses.dataclass(frozen=True)
class Quantization:
  """How a network is quantized.

  Attributes:
    precision: bits of activations and weights.
    weights: a name of WEIGHT_QUANTIZERS, or "default": see `default_weights`; or "paper": what
      Apprentice used, ttq for 2 bits, else wrpn.
    activations: a name of ACTIVATION_QUANTIZERS, or "default": see `default_activations`; or
      "paper": wrpn.
    per_channel: one weight scale per output channel instead of one per tensor; of ttq one pair of
      magnitudes, with one threshold per tensor (published is one pair per tensor: "paper" wants
      False); dorefa always has one.
    wrpn_scale: "max", the largest magnitude of the channel or tensor, or "unit", 1: WRPN to the
      letter.
    full_precision: patterns of layer names (as shell wildcards, matched against the name's end)
      whose weights are left in full precision.
    residual: also quantize each residual branch before the addition, at the activations' bits, with
      a signed `lsq` grid: for inference whose additions run on integers.
  """

  precision: Precision = Precision()
  weights: str = "default"
  activations: str = "default"
  per_channel: bool = True
  wrpn_scale: str = "max"
  full_precision: tuple[str, ...] = ("stem", "head")
  residual: bool = False

  def __post_init__(self):
    weight_bits, activation_bits = self.precision.weights, self.precision.activations
    # By name from here on: whoever reads a network knows its quantizers without the rules.
    if self.weights == "default":
      object.__setattr__(self, "weights", default_weights(weight_bits))
    if self.activations == "default":
      object.__setattr__(self, "activations", default_activations(activation_bits))
    if self.weights == "paper":
      object.__setattr__(self, "weights", "ttq" if weight_bits == 2 else "wrpn")
    if self.activations == "paper":
      object.__setattr__(self, "activations", "wrpn")
    _check("weight", self.weights, weight_bits, WEIGHT_QUANTIZERS)
    _check("activation", self.activations, activation_bits, ACTIVATION_QUANTIZERS)
    if self.residual and activation_bits == 1:
      raise ValueError("residual quantization points have a sign and need 2 bits or more.")
    if self.wrpn_scale not in ("max", "unit"):
      raise ValueError(f"wrpn_scale {self.wrpn_scale!r} is not one: choose 'max' or 'unit'.")

  @property
  def weight_level(self) -> int:
    """The largest magnitude of a weight's level."""
    bits = self.precision.weights
    return 2**bits - 1 if self.weights == "dorefa" else 2 ** (bits - 1) - 1

  def quantizes_weights(self, path: str) -> bool:
    """Whether the layer at path, such as ``stage1_block2/conv1``, has quantized weights."""
    return self.precision.weights != FULL and not any(
      matches(path, pattern) for pattern in self.full_precision
    )


def matches(path: str, pattern: str) -> bool:
  """Whether a layer's path, or its end, is of a shell-wildcard pattern: "stem", "*/shortcut"."""
  return any(fnmatch.fnmatchcase(path, p) for p in (pattern, "*/" + pattern))


def default_weights(bits: int) -> str:
  """The weight quantizer of a precision that names none."""
  return {1: "dorefa", 2: "twn"}.get(bits, "lsq")


def default_activations(bits: int) -> str:
  """The activation quantizer of a precision that names none."""
  # At few bits a clip that starts at 6 leaves few levels to use.
  return "pact" if bits >= 4 else "lsq"


def _check(kind, name, bits, known):
  if name not in known:
    raise ValueError(f"{kind} quantizer {name!r} does not exist: {nearest(name, known)}")
  if bits != FULL and bits not in known[name]:
    able = [n for n, r in known.items() if bits in r]
    raise ValueError(
      f"{kind} quantizer {name!r} cannot do {bits} bits: "
      + (f"use {' or '.join(able)}." if able else f"no {kind} quantizer can.")
    )
