"""The text of a network's C files."""

import pathlib
import re

import numpy as np

from apprentice_jax.deploy.c import masks, memory
from apprentice_jax.deploy.c.memory import SLACK, Memory
from apprentice_jax.deploy.c.plan import Layer, Plan, Pool, Tensor, plan
from apprentice_jax.deploy.network import FRACTION, Conv, Lowered

_FOLDER = pathlib.Path(__file__).parent
REPORT = " * (memory)\n"  # the line of a header that `report` takes the place of
LIMIT = 2.0**31  # where a number stops in the C code


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
  placed = memory.place(planned)
  return {
    f"{name}.h": _header(planned, placed, name),
    f"{name}.c": _source(planned, placed, name),
  }


def arena_bytes(network: Lowered) -> int:
  """The bytes of the memory that the code needs, NAME_arena_t."""
  return memory.place(plan(network)).arena


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


def _header(p: Plan, m: Memory, name: str) -> str:
  n, upper = p.network, name.upper()
  height, width, channels = n.image_shape
  where = value = ""
  if m.values:
    value = f"""  union {{
    float real[{m.values}];
    int32_t whole[{m.values}];
  }} value;
"""
  if m.image is not None:
    where = f"""
/* An image may lie in the arena, which then takes no memory beside it; the call overwrites it. */
#define {upper}_IMAGE_IN_ARENA {m.image}
#define {upper}_IMAGE(arena) ((arena)->levels + {upper}_IMAGE_IN_ARENA)
"""
  return f"""/* {name}: {n.architecture} at {n.precision}, as plain C99, written by apprentice-jax.
 *
 *     static {name}_arena_t arena;
 *     float logits[{upper}_CLASSES];
 *     {name}_logits(image, logits, &arena);
 *
 * An image is {height} x {width} x {channels} bytes: rows, columns, colours. The arena holds
 * nothing between calls. The code allocates nothing and has no state. No flag changes a bit of the
 * logits; -ffast-math is refused. Tried with gcc 12 and clang 14 for x86-64, and with gcc 12 for
 * Cortex-M0, M4, M7, M55 and RV32IMC, at -O2 and -O3.
{REPORT} * Licence of the code: Apache-2.0. The weights are their trainer's. */
#ifndef {upper}_H
#define {upper}_H

#include <stddef.h>
#include <stdint.h>

#define {upper}_HEIGHT {height}
#define {upper}_WIDTH {width}
#define {upper}_CHANNELS {channels}
#define {upper}_CLASSES {len(n.class_names)}
#define {upper}_ARENA_BYTES {m.arena}

/* The memory of one call; it holds nothing between calls. */
typedef struct {{
  uint8_t levels[{m.levels + SLACK}];
  union {{
    struct {{
      uint16_t list[{m.list}];
      uint16_t column[{max(m.apart * m.columns, 2)}];
    }} layer;
    struct {{
      int16_t pixels[{m.pixels}];
      int16_t kernels[{m.kernels}];
    }} stem;
    int32_t alignment;
  }} part;
{value}  int32_t sum[{m.sums}];
}} {name}_arena_t;
{where}
extern const char *const {name}_classes[{upper}_CLASSES];

/* The logits of an image (height, width, channels) of bytes. */
void {name}_logits(const uint8_t *image, float *logits, {name}_arena_t *arena);

/* The likeliest class of an image: the first of the largest logits. */
size_t {name}_class(const uint8_t *image, {name}_arena_t *arena);

#endif
"""


def _source(p: Plan, m: Memory, name: str) -> str:
  n = p.network
  large = any(map(_large, [p.stem, *p.layers]))
  read = lambda file: (_FOLDER / file).read_text()
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
    *_stem_macros(p),
    "",
    read("arithmetic.c"),
    read("types.h"),
    read("weights.c"),
    read("sums.c"),
    read("layers.c"),
    read("ends.c"),
    *([read("pool.c")] if any(isinstance(step, Pool) for step in p.steps) else []),
    "/* ---- the network ------------------------------------------------------------------- */",
    "",
    f"const char *const {name}_classes[{len(n.class_names)}] = {{",
    ",\n".join(f"  {_quoted(c)}" for c in n.class_names),
    "};",
    "",
    _array(_pixel_type(p), "NN_table", p.table.ravel()),
  ]
  tensors = {id(step.output): step.output for step in p.steps}
  names = {key: f"NN_t{i}" for i, key in enumerate(tensors)}
  text += [f"static const NN_tensor_t {names[key]} = {_tensor(t)};" for key, t in tensors.items()]
  text += _weights(p.stem.branch.conv, "NN_first", _codes(p.stem.branch.conv, 8))
  label = {}
  for i, branch in enumerate(p.branches):
    label[id(branch)] = f"NN_c{i}"
    text += _weights(branch.conv, f"NN_c{i}", masks.encode(branch.conv.weights, branch.segment))
  for layer in p.layers:
    if layer.shortcut:
      i = label[id(layer.shortcut)]
      text.append(f"static const NN_conv_t {i} = {_conv(layer.shortcut, i, names)};")
  label[id(p.stem.branch)] = "NN_first"
  text.append(f"static const NN_layer_t NN_stem_layer = {_layer(p.stem, label, names)};")
  for i, layer in enumerate(p.layers):
    text.append(f"static const NN_layer_t NN_l{i} = {_layer(layer, label, names)};")
  text += _weights(p.logits, "NN_head", _codes(p.logits))
  text.append(f"static const NN_conv_t NN_head = {_coded(p.logits, 'NN_head')};")
  text += ["", *_run(p, m, name, names)]
  prefixed = re.sub(r"\bNN_(?!(SOFT|LARGE|PORTABLE)\b)", f"{name}_", "\n".join(text))
  macros = set(re.findall(r"^#define (\w+)", prefixed, re.MULTILINE)) - {"NN_SOFT", "NN_LARGE"}
  return prefixed + "".join(f"#undef {macro}\n" for macro in sorted(macros))


def _pixel_type(p: Plan) -> str:
  return "int8_t" if p.table.min() < 0 else "uint8_t"


def _stem_macros(p: Plan) -> list[str]:
  rows, columns, channels, features = p.stem.branch.conv.weights.levels.shape
  height, width, _ = p.network.image_shape
  return [
    f"typedef {_pixel_type(p)} NN_level_t;",
    f"#define NN_STEM_ROWS {rows}",
    f"#define NN_STEM_COLUMNS {columns}",
    f"#define NN_STEM_CHANNELS {channels}",
    f"#define NN_STEM_FEATURES {features}",
    f"#define NN_STEM_STRIDE {p.stem.branch.conv.stride}",
    f"#define NN_STEM_HEIGHT {height}",
    f"#define NN_STEM_WIDTH {width}",
  ]


def _run(p: Plan, m: Memory, name: str, names) -> list[str]:
  upper, layers = name.upper(), iter(range(len(p.layers)))
  offset = 0
  text = [
    f"void {name}_logits(const uint8_t *image, float *logits, {name}_arena_t *arena) {{",
    f"  uint8_t means[{p.logits.weights.levels.shape[2]}];",
    "  NN_work_t work;",
    "  work.column = arena->part.layer.column + 2;",
    f"  work.apart = {m.apart};",
    "  work.sum = arena->sum;",
    f"  work.side = {p.stem.output.pitch};",
    *_value(m),
    f"  NN_clear(&{names[id(p.stem.output)]}, arena->levels);",
    "  NN_stem(&NN_stem_layer, NN_table, image, arena->levels, &work, arena->part.stem.pixels,",
    "          arena->part.stem.kernels);",
    f"  work.side = {m.side};",
  ]
  for step in p.steps[1:]:
    output = names[id(step.output)]
    if step.output.name not in m.in_place:
      text.append(f"  NN_clear(&{output}, arena->levels);")
    if isinstance(step, Pool):
      text.append(f"  NN_pool(&{names[id(step.input)]}, &{output}, arena->levels);")
      continue
    offset = 0
    for k, branch in enumerate(step.branches):
      text.append(f"  work.lists[{k}].list = arena->part.layer.list + {offset};")
      offset += -(-branch.list_length // 2) * 2
    text.append(f"  NN_layer(&NN_l{next(layers)}, arena->levels, &work);")
  multiplier = _float(p.mean.multiplier)
  channels = p.logits.weights.levels.shape[2]
  text += [
    f"  NN_mean(&{names[id(p.mean_input)]}, {multiplier}, {p.mean_grid.high}, arena->levels,",
    "          means);",
    f"  NN_classify(&NN_head, {channels}, means, {upper}_CLASSES, logits);",
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


def _value(m: Memory) -> list[str]:
  """Where values of shortcuts lie: fixed numbers, which are integers or floats."""
  if not m.values:
    return ["  work.value = NULL;"]
  whole, real = "  work.value = arena->value.whole;", "  work.value = arena->value.real;"
  return ["#ifdef NN_SOFT", whole, "#else", real, "#endif"]


def _tensor(t: Tensor) -> str:
  height, width, channels = t.shape
  return (
    f"{{{t.start}u, {t.plane}u, {t.pitch}, {height}, {width}, {channels}, {t.border}, {t.zero}}}"
  )


def _weights(conv: Conv, label: str, channels: list[bytes]) -> list[str]:
  return [
    _array("uint8_t", f"{label}_weights", np.frombuffer(b"".join(channels), np.uint8)),
    _array("float", f"{label}_multiplier", conv.multiplier.T.ravel()),
    _array("float", f"{label}_addend", conv.addend),
  ]


def _codes(conv: Conv, bits: int = 0) -> list[bytes]:
  """Each output channel's codes in the order of rows, columns and input channels."""
  w = conv.weights
  bits = bits or w.bits
  levels = w.levels.astype(np.int64).transpose(3, 0, 1, 2).reshape(w.levels.shape[3], -1)
  codes = (levels + w.top) // 2 if w.odd else levels + w.top
  return [
    np.packbits((c[:, None] >> np.arange(bits)) & 1, bitorder="little").tobytes() for c in codes
  ]


def _conv(branch, label: str, names) -> str:
  """A convolution on planes."""
  conv, w = branch.conv, branch.conv.weights
  size = len(masks.encode(w, branch.segment)[0])
  return _fields(
    conv,
    f"&{names[id(branch.input)]}",
    label,
    size,
    branch.segment,
    len(masks.digits(w)),
    branch.own,
  )


def _coded(conv: Conv, label: str) -> str:
  """A convolution whose weights are codes."""
  bits = 8 if label == "NN_first" else 0
  return _fields(conv, "NULL", label, len(_codes(conv, bits)[0]), 0, 0, None)


def _fields(conv, tensor, label, size, segment, digits, own) -> str:
  w = conv.weights
  rows, columns = w.levels.shape[:2]
  return (
    f"{{{tensor}, {label}_weights, {label}_multiplier, {label}_addend, {size}, "
    f"{segment}, {rows}, {columns}, {conv.stride}, {w.bits}, {int(w.odd)}, {digits}, "
    f"{len(conv.multiplier)}, {int(masks.recoded(w))}, {int(own is not None)}, {w.top}, "
    f"{_own(own)}}}"
  )


def _own(own) -> str:
  """A branch's own grid, and what its levels are of the next one's."""
  if own is None:
    return "0, 0, 0.0f"
  grid, rescale = own
  return f"{grid.low}, {grid.high}, {_float(rescale.multiplier)}"


def _layer(layer: Layer, label, names) -> str:
  name = label[id(layer.branch)]
  stem = name == "NN_first"
  conv = _coded(layer.branch.conv, name) if stem else _conv(layer.branch, name, names)
  shortcut = f"&{label[id(layer.shortcut)]}" if layer.shortcut else "NULL"
  added, scale, before, stride = "NULL", "0.0f", 0, 0
  if layer.added:
    source, rescale = layer.added
    added, scale, stride = f"&{names[id(source)]}", _float(rescale.multiplier), rescale.stride
    before = (rescale.channels - source.shape[2]) // 2
  return (
    f"{{{conv}, {shortcut}, {added}, {scale}, {before}, {stride}, {layer.band}, "
    f"{_tensor(layer.output)}, {layer.grid.low}, {layer.grid.high}}}"
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
      terms += list(_largest(branch) * sides * multipliers)
  if layer.shortcut:
    terms.append(np.abs(layer.shortcut.conv.addend).astype(np.float64))
  if layer.added:
    source, rescale = layer.added
    terms.append(np.full(len(terms[0]), source.top * abs(rescale.multiplier)))
  others = np.sum(terms, 0) - np.max(terms, 0)
  return bool(np.any(others > LIMIT - 2 * FRACTION * 2**8))


def _largest(branch) -> int:
  """The largest magnitude of the levels that a branch reads."""
  zero = branch.input.zero
  return max(branch.input.top - zero, zero)


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
