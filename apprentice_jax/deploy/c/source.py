"""The text of a network's C files."""

import pathlib
import re

import numpy as np

from apprentice_jax.deploy.c.plan import Plan, Tensor, plan
from apprentice_jax.deploy.network import FRACTION, Conv, Lowered

_FOLDER = pathlib.Path(__file__).parent
SLACK = 16  # bytes behind the levels, which tiles at a right edge read and drop
LIMIT = 2.0**30  # where a number stops whose sum with others is an int32


def sources(network: Lowered, name: str) -> dict[str, str]:
  """The files of a network.

  Args:
    network: integers throughout: from a network with quantized activations, with 8-bit ends.
    name: of the files and the beginning of all public names; a C identifier.

  Returns:
    Text by file name: NAME.h and NAME.c.

  Raises:
    BadNetwork: a part of the network has no integer form.
  """
  planned = plan(network)
  return {f"{name}.h": _header(planned, name), f"{name}.c": _source(planned, name)}


def arena_bytes(network: Lowered) -> int:
  """The bytes of the memory that the code needs, NAME_arena_t."""
  p = plan(network)
  lists = _lists(p)
  wide = 2 if lists["offset"] == "uint16_t" else 4
  parts = (lists["offsets"] * wide, 2 * max(lists["values"], 1), 2 * max(lists["counts"], 1))
  size = sum(parts) + p.bytes + SLACK
  return -(-size // wide) * wide


def makefile(name: str) -> str:
  """A Makefile whose first target builds and runs the test."""
  return f"""# `make` builds the test for this machine and runs it: it prints PASS or FAIL.
CC ?= cc
CFLAGS ?= -O2
test: {name}_test
\t./{name}_test
{name}_test: {name}.c {name}_test.c {name}.h
\t$(CC) -std=c99 -ffp-contract=off $(CFLAGS) {name}.c {name}_test.c -o $@ -lm
.PHONY: test
"""


def test(name: str, images: np.ndarray, logits: np.ndarray) -> str:
  """A program that compares logits bit for bit; prints PASS or FAIL, and ends with 0 or 1."""
  upper, size = name.upper(), images[0].size
  return f"""/* Prints PASS if {name}.c computes the logits that it was exported for, else FAIL. */
#include <stdio.h>
#include <string.h>

#include "{name}.h"

{_array("uint8_t", "images", images.ravel())}

/* The logits' bits. */
{_array("uint32_t", "expected", [f"{bits}u" for bits in logits.view(np.uint32).ravel()])}

static {name}_arena_t arena;

int main(void) {{
  float logits[{upper}_CLASSES];
  size_t i;
  for (i = 0; i < {len(images)}; i++) {{
    {name}_logits(images + i * {size}u, logits, &arena);
    if (memcmp(logits, expected + i * {upper}_CLASSES, sizeof logits) != 0) {{
      puts("FAIL");
      return 1;
    }}
  }}
  puts("PASS");
  return 0;
}}
"""


def _header(p: Plan, name: str) -> str:
  n, upper = p.network, name.upper()
  height, width, channels = n.image_shape
  lists = _lists(p)
  return f"""/* {name}: {n.architecture} at {n.precision}, as plain C99, written by apprentice-jax.
 *
 *     static {name}_arena_t arena;
 *     float logits[{upper}_CLASSES];
 *     {name}_logits(image, logits, &arena);
 *
 * An image is {height} x {width} x {channels} bytes: rows, columns, colours. The arena takes
 * {arena_bytes(n):,} bytes, and holds nothing between calls. The code allocates nothing and has no
 * state. It was tried with gcc 12 on x86-64; no flag that was tried changes a bit of the logits.
 * -ffast-math is refused.
 * Licence of the code: Apache-2.0. The weights are their trainer's. */
#ifndef {upper}_H
#define {upper}_H

#include <stddef.h>
#include <stdint.h>

#define {upper}_HEIGHT {height}
#define {upper}_WIDTH {width}
#define {upper}_CHANNELS {channels}
#define {upper}_CLASSES {len(n.class_names)}

/* The memory of one call; it holds nothing between calls. */
typedef struct {{
  {lists["offset"]} offsets[{lists["offsets"]}];
  int16_t values[{max(lists["values"], 1)}];
  uint16_t counts[{max(lists["counts"], 1)}];
  uint8_t levels[{p.bytes + SLACK}];
}} {name}_arena_t;

extern const char *const {name}_classes[{upper}_CLASSES];

/* The logits of an image (height, width, channels) of bytes. */
void {name}_logits(const uint8_t *image, float *logits, {name}_arena_t *arena);

/* The likeliest class of an image: the first of the largest logits. */
size_t {name}_class(const uint8_t *image, {name}_arena_t *arena);

#endif
"""


def _lists(p: Plan) -> dict:
  """Sizes of the lists that one output channel needs, for a layer and its shortcut together."""
  size = lambda b: b.conv.weights.levels[..., 0].size
  segments = lambda b: -(-b.input.shape[2] // b.segment)
  pairs = [[b for b in (layer.branch, layer.shortcut) if b] for layer in p.layers]
  far = max((b.segment if b.magnitudes else b.input.shape[2]) * b.input.plane for b in p.branches)
  most = max(b.conv.weights.levels.shape[0] * b.input.pitch for b in p.branches)
  return {
    "offset": "uint16_t" if far + most < 2**16 else "uint32_t",
    "offsets": max(sum(map(size, pair)) for pair in pairs),
    "values": max(sum(size(b) for b in pair if not b.magnitudes) for pair in pairs),
    "counts": max(
      sum(2 * b.magnitudes * (segments(b) + 1) for b in pair if b.magnitudes) for pair in pairs
    ),
  }


def _source(p: Plan, name: str) -> str:
  n, lists = p.network, _lists(p)
  large = any(map(_large, p.layers))
  text = [
    f'#include "{name}.h"',
    "",
    "#include <math.h>",
    "#include <string.h>",
    "",
    "#ifdef __FAST_MATH__",
    '#error "-ffast-math changes the results: compile this file without it"',
    "#endif",
    "#if defined(__FLT_EVAL_METHOD__) && __FLT_EVAL_METHOD__ != 0 && __FLT_EVAL_METHOD__ != 16",
    '#error "float expressions have to be computed in float32: on x86 take -msse2 -mfpmath=sse"',
    "#endif",
    "",
    *(
      ["#define NN_LARGE /* products may leave 31 bits */", "#undef NN_SOFT"]
      if large
      else [
        "#if !defined(NN_SOFT) && ((defined(__arm__) && !defined(__ARM_FP)) || \\",
        "                          (defined(__riscv) && !defined(__riscv_flen)))",
        "#define NN_SOFT",
        "#endif",
      ]
    ),
    "",
    f"typedef {lists['offset']} NN_offset_t;",
    "typedef uint16_t NN_count_t;",
    "",
    (_FOLDER / "types.h").read_text(),
    (_FOLDER / "kernels.c").read_text(),
    (_FOLDER / "layers.c").read_text(),
    *([(_FOLDER / "pool.c").read_text()] if len(p.layers) < len(p.steps) else []),
    "/* ---- the network ------------------------------------------------------------------- */",
    "",
    f"const char *const {name}_classes[{len(n.class_names)}] = {{",
    ",\n".join(f"  {_quoted(c)}" for c in n.class_names),
    "};",
    "",
    _array("uint8_t", "NN_pixels", p.table.ravel()),
  ]
  tensors = {id(t): t for step in p.steps for t in _tensors(step)} | {id(p.image): p.image}
  names = {key: f"NN_t{i}" for i, key in enumerate(tensors)}
  for key, tensor in tensors.items():
    text.append(f"static const NN_tensor_t {names[key]} = {_tensor(tensor)};")
  label = {}
  for i, branch in enumerate(p.branches):
    label[id(branch)] = f"NN_c{i}"
    text += _weights(branch.conv, f"NN_c{i}")
  for layer in p.layers:
    if layer.shortcut:
      i = label[id(layer.shortcut)]
      text.append(f"static const NN_conv_t {i} = {_conv(layer.shortcut, i, names)};")
  for i, layer in enumerate(p.layers):
    text.append(f"static const NN_layer_t NN_l{i} = {_layer(layer, label, names)};")
  text += _weights(p.logits, "NN_head")
  head_tensor = Tensor("", (1, 1, p.logits.weights.levels.shape[2]), 0, 255)
  text.append(f"static const NN_tensor_t NN_means = {_tensor(head_tensor)};")
  text.append(f"static const NN_conv_t NN_head = {_head(p.logits)};")
  text += ["", *_run(p, name, names)]
  return (
    re.sub(r"\bNN_", f"{name}_", "\n".join(text))
    .replace(f"{name}_SOFT", "NN_SOFT")
    .replace(f"{name}_LARGE", "NN_LARGE")
    .replace(f"{name}_PORTABLE", "NN_PORTABLE")
  )


def _run(p: Plan, name: str, names) -> list[str]:
  upper, layers = name.upper(), iter(range(len(p.layers)))
  text = [
    f"void {name}_logits(const uint8_t *image, float *logits, {name}_arena_t *arena) {{",
    f"  uint8_t means[{p.logits.weights.levels.shape[2]}];",
    "  NN_lists_t lists[2];",
    f"  NN_clear(&{names[id(p.image)]}, arena->levels);",
    f"  NN_image(&{names[id(p.image)]}, NN_pixels, image, arena->levels);",
  ]
  for step in p.steps:
    if isinstance(step, tuple):
      text.append(f"  NN_clear(&{names[id(step[2])]}, arena->levels);")
      text.append(f"  NN_pool(&{names[id(step[1])]}, &{names[id(step[2])]}, arena->levels);")
      continue
    i, offsets, counts, values = next(layers), 0, 0, 0
    for k, b in enumerate(b for b in (step.branch, step.shortcut) if b):
      text.append(f"  lists[{k}].offsets = arena->offsets + {offsets};")
      text.append(f"  lists[{k}].values = arena->values + {values if not b.magnitudes else 0};")
      text.append(f"  lists[{k}].counts = arena->counts + {counts};")
      segments = -(-b.input.shape[2] // b.segment)
      text.append(f"  lists[{k}].next = arena->counts + {counts + 2 * b.magnitudes * segments};")
      size = b.conv.weights.levels[..., 0].size
      offsets, values = offsets + size, values + size * (not b.magnitudes)
      counts += 2 * b.magnitudes * (segments + 1)
    if step.output.name not in p.in_place:
      text.append(f"  NN_clear(&{names[id(step.output)]}, arena->levels);")
    text.append(f"  NN_layer(&NN_l{i}, arena->levels, lists);")
  multiplier = _float(p.mean.multiplier)
  text += [
    f"  NN_mean(&{names[id(p.mean_input)]}, {multiplier}, {p.mean_grid.high}, arena->levels,",
    "          means);",
    f"  NN_classify(&NN_head, means, {upper}_CLASSES, logits);",
    "}",
    "",
    f"size_t {name}_class(const uint8_t *image, {name}_arena_t *arena) {{",
    f"  float logits[{upper}_CLASSES];",
    "  size_t i, best = 0;",
    f"  {name}_logits(image, logits, arena);",
    f"  for (i = 1; i < {upper}_CLASSES; i++) {{",
    "    best = logits[i] > logits[best] ? i : best;",
    "  }",
    "  return best;",
    "}",
    "",
  ]
  return text


def _tensors(step):
  return step[1:] if isinstance(step, tuple) else (step.branch.input, step.output)


def _tensor(t: Tensor) -> str:
  height, width, channels = t.shape
  return (
    f"{{{t.start}u, {t.plane}u, {t.pitch}, {height}, {width}, {channels}, {t.border}, {t.zero}}}"
  )


def _weights(conv: Conv, label: str) -> list[str]:
  return [
    _array("uint8_t", f"{label}_weights", np.frombuffer(b"".join(_codes(conv)), np.uint8)),
    _array("float", f"{label}_multiplier", conv.multiplier.T.ravel()),
    _array("float", f"{label}_addend", conv.addend),
  ]


def _codes(conv: Conv) -> list[bytes]:
  """Each output channel's codes in the order of input channels, rows and columns."""
  w = conv.weights
  levels = w.levels.astype(np.int64).transpose(3, 2, 0, 1).reshape(w.levels.shape[3], -1)
  codes = (levels + w.top) // 2 if w.odd else levels + w.top
  return [
    np.packbits((c[:, None] >> np.arange(w.bits)) & 1, bitorder="little").tobytes() for c in codes
  ]


def _conv(branch, label: str, names) -> str:
  conv = branch.conv
  grid, again = branch.own or (None, None)
  return _conv_fields(
    conv,
    f"&{names[id(branch.input)]}",
    label,
    branch.segment,
    branch.magnitudes,
    (again.multiplier, grid.low, grid.high) if grid else (0.0, 0, 0),
  )


def _head(conv: Conv) -> str:
  return _conv_fields(conv, "&NN_means", "NN_head", conv.weights.levels.shape[2], 0, (0.0, 0, 0))


def _conv_fields(conv, tensor, label, segment, magnitudes, own) -> str:
  w = conv.weights
  rows, columns = w.levels.shape[:2]
  return (
    f"{{{tensor}, {label}_weights, {label}_multiplier, {label}_addend, {len(_codes(conv)[0])}, "
    f"{segment}, {rows}, {columns}, {conv.stride}, {w.bits}, {int(w.odd)}, {magnitudes}, "
    f"{len(conv.multiplier)}, {w.top}, {_float(own[0])}, {own[1]}, {own[2]}}}"
  )


def _layer(layer, label, names) -> str:
  conv = _conv(layer.branch, label[id(layer.branch)], names)
  shortcut = f"&{label[id(layer.shortcut)]}" if layer.shortcut else "NULL"
  added, scale, before, stride = "NULL", "0.0f", 0, 0
  if layer.added:
    source, rescale = layer.added
    added, scale, stride = f"&{names[id(source)]}", _float(rescale.multiplier), rescale.stride
    before = (rescale.channels - source.shape[2]) // 2
  return (
    f"{{{conv}, {shortcut}, {added}, {scale}, {before}, {stride}, {_tensor(layer.output)}, "
    f"{layer.grid.low}, {layer.grid.high}}}"
  )


def _large(layer) -> bool:
  """Whether a number on its way to the grid may be out of the C code's reach and matter.

  A number stops at `LIMIT`, far beyond the grid. That is no matter where all others together cannot
  bring the sum back to the grid.
  """
  terms = [np.abs(layer.branch.conv.addend).astype(np.float64)]
  for branch in (layer.branch, layer.shortcut):
    if branch:
      levels = branch.conv.weights.levels.astype(np.int64)
      sides = np.stack([np.maximum(levels, 0), np.maximum(-levels, 0)]).sum((1, 2, 3))
      multipliers = np.abs(branch.conv.multiplier).astype(np.float64)
      if len(multipliers) == 1:
        sides = sides.max(0, keepdims=True)
      terms += list(branch.input.top * sides * multipliers)
  if layer.shortcut:
    terms.append(np.abs(layer.shortcut.conv.addend).astype(np.float64))
  if layer.added:
    source, rescale = layer.added
    terms.append(np.full(len(terms[0]), source.top * abs(rescale.multiplier)))
  others = np.sum(terms, 0) - np.max(terms, 0)
  return bool(np.any(others > LIMIT - 2 * FRACTION * 2**8))


def _float(value) -> str:
  """A float32 constant, exactly."""
  return np.format_float_scientific(np.float32(value), unique=True, trim="0") + "f"


def _array(kind: str, name: str, values) -> str:
  show = _float if kind == "float" else str
  rows, row = [], "  "
  for value in values:
    piece = show(value) + ", "
    if len(row) + len(piece) > 100:
      rows.append(row.rstrip())
      row = "  "
    row += piece
  body = "\n".join([*rows, row.rstrip().rstrip(",")])
  return f"static const {kind} {name}[{len(values)}] = {{\n{body}\n}};"


def _quoted(text: str) -> str:
  data = text.encode()
  plain = lambda b: chr(b) if 32 <= b < 127 and b not in b'"\\?' else f"\\{b:03o}"
  return '"' + "".join(map(plain, data)) + '"'
