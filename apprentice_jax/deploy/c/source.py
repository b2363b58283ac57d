"""The text of a network's C files."""

import pathlib
import re

import numpy as np

from apprentice_jax.deploy.c import constants, masks, memory
from apprentice_jax.deploy.c.memory import SLACK, Memory
from apprentice_jax.deploy.c.plan import Plan, Pool, plan
from apprentice_jax.deploy.network import Lowered

_FOLDER = pathlib.Path(__file__).parent
REPORT = " * (memory)\n"  # the line of a header that `report` takes the place of


def sources(network: Lowered, name: str) -> dict[str, str]:
  """The files of a network.

  Args:
    network: of quantized activations and weights; its ends may have floats.
    name: of the files and the beginning of all public names; a C identifier.

  Returns:
    Text by file name: NAME.h and NAME.c.

  Raises:
    BadNetwork: a part of the network has no form in C.
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


def exact(network: Lowered) -> bool:
  """Whether the code's logits are the definition's to the bit: with integers at both ends."""
  planned = plan(network)
  return not (planned.float_stem or planned.float_head)


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


def test(name: str, images: np.ndarray, logits: np.ndarray, exact: bool) -> str:
  """A program that compares logits; prints PASS or FAIL, and ends with 0 or 1.

  Args:
    name: the beginning of the network's names.
    images: uint8 (images, height, width, channels).
    logits: float32 (images, classes).
    exact: whether all bits have to be equal; else numbers within a hundredth of the largest.
  """
  upper, size = name.upper(), images[0].size
  differ = f"memcmp(logits, expected + i * {upper}_CLASSES, sizeof logits) != 0"
  if not exact:
    differ = f"differ(logits, expected + i * {upper}_CLASSES)"
  return f"""/* Prints PASS if {name}.c computes the logits that it was exported for, else FAIL. */
#include <stdio.h>
#include <string.h>

#include "{name}.h"

{constants.array("uint8_t", "images", images.ravel())}

/* The logits' bits. */
{constants.array("uint32_t", "expected", [f"{bits}u" for bits in logits.view(np.uint32).ravel()])}

static {name}_arena_t arena;
{"" if exact else _differ(upper, float(np.abs(logits).max()) / 100)}
int main(void) {{
  float logits[{upper}_CLASSES];
  size_t i;
  for (i = 0; i < {len(images)}; i++) {{
    {name}_logits(images + i * {size}u, logits, &arena);
    if ({differ}) {{
      puts("FAIL");
      return 1;
    }}
  }}
  puts("PASS");
  return 0;
}}
"""


def _differ(upper: str, tolerance: float) -> str:
  return f"""
/* Sums of floats depend on their order. */
static int differ(const float *logits, const uint32_t *bits) {{
  size_t k;
  for (k = 0; k < {upper}_CLASSES; k++) {{
    float logit;
    memcpy(&logit, bits + k, sizeof logit);
    if (!(logits[k] - logit < {tolerance:.6f}f && logit - logits[k] < {tolerance:.6f}f)) {{
      return 1;
    }}
  }}
  return 0;
}}
"""


def _header(p: Plan, m: Memory, name: str) -> str:
  n, upper = p.network, name.upper()
  height, width, channels = n.image_shape
  where = value = ""
  # Texts of a file could end the comment that they stand in.
  title = re.sub(r"[^A-Za-z0-9_,. -]", "?", f"{n.architecture} at {n.precision}")
  stem = f"""    struct {{
      int16_t pixels[{m.pixels}];
      int16_t kernels[{m.kernels}];
    }} stem;
"""
  if p.float_stem:
    stem = f"    float pixels[{m.pixels // 2}];\n"
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
  return f"""/* {name}: {title}, as plain C99, written by apprentice-jax.
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
{stem}    int32_t alignment;
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
  large = any(map(constants.is_large, [p.stem, *p.layers]))
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
    read("stem_float.c" if p.float_stem else "stem.c"),
    read("head_float.c" if p.float_head else "head.c"),
    *([read("pool.c")] if any(isinstance(step, Pool) for step in p.steps) else []),
    "/* ---- the network ------------------------------------------------------------------- */",
    "",
    f"const char *const {name}_classes[{len(n.class_names)}] = {{",
    ",\n".join(f"  {constants.quoted(c)}" for c in n.class_names),
    "};",
    "",
    constants.array(_pixel_type(p), "NN_table", p.table.ravel()),
  ]
  tensors = {id(step.output): step.output for step in p.steps}
  names = {key: f"NN_t{i}" for i, key in enumerate(tensors)}
  text += [
    f"static const NN_tensor_t {names[key]} = {constants.tensor_constant(t)};"
    for key, t in tensors.items()
  ]
  text += constants.coded_weights(p.stem.branch.conv, "NN_first", 8)
  label = {}
  for i, branch in enumerate(p.branches):
    label[id(branch)] = f"NN_c{i}"
    text += constants.weight_arrays(
      branch.conv, f"NN_c{i}", masks.encode(branch.conv.weights, branch.segment)
    )
  for layer in p.layers:
    if layer.shortcut:
      i = label[id(layer.shortcut)]
      text.append(
        f"static const NN_conv_t {i} = {constants.conv_constant(layer.shortcut, i, names)};"
      )
  label[id(p.stem.branch)] = "NN_first"
  text.append(
    f"static const NN_layer_t NN_stem_layer = {constants.layer_constant(p.stem, label, names)};"
  )
  for i, layer in enumerate(p.layers):
    text.append(
      f"static const NN_layer_t NN_l{i} = {constants.layer_constant(layer, label, names)};"
    )
  text += constants.coded_weights(p.logits, "NN_head")
  text.append(f"static const NN_conv_t NN_head = {constants.coded_constant(p.logits, 'NN_head')};")
  text += ["", *_run(p, m, name, names)]
  prefixed = re.sub(r"\bNN_(?!(SOFT|LARGE|PORTABLE)\b)", f"{name}_", "\n".join(text))
  macros = set(re.findall(r"^#define (\w+)", prefixed, re.MULTILINE)) - {"NN_SOFT", "NN_LARGE"}
  return prefixed + "".join(f"#undef {macro}\n" for macro in sorted(macros))


def _pixel_type(p: Plan) -> str:
  return {"f": "float", "i": "int8_t", "u": "uint8_t"}[p.table.dtype.kind]


def _stem_macros(p: Plan) -> list[str]:
  levels = p.stem.branch.conv.weights.levels
  rows, columns, channels, features = levels.shape
  height, width, _ = p.network.image_shape
  return [
    f"typedef {_pixel_type(p)} NN_level_t;",
    f"#define NN_STEM_BYTES {int(p.table.dtype == np.int8 and np.abs(levels).max() < 128)}",
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
    f"  {'float' if p.float_head else 'uint8_t'} means[{p.logits.weights.levels.shape[2]}];",
    "  NN_work_t work;",
    "  work.column = arena->part.layer.column + 2;",
    f"  work.apart = {m.apart};",
    "  work.sum = arena->sum;",
    f"  work.side = {p.stem.output.pitch};",
    *_value(m),
    f"  NN_clear(&{names[id(p.stem.output)]}, arena->levels);",
    *_call_stem(p),
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
  text += [
    *_call_head(p, names[id(p.mean_input)], f"{upper}_CLASSES"),
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


def _call_stem(p: Plan) -> list[str]:
  if p.float_stem:
    return [
      "  NN_stem(&NN_stem_layer, NN_first_floats, NN_table, image, arena->levels,",
      "          arena->part.pixels);",
    ]
  return [
    "  NN_stem(&NN_stem_layer, NN_table, image, arena->levels, &work,",
    "          (NN_pixel_t *)arena->part.stem.pixels, (NN_pixel_t *)arena->part.stem.kernels);",
  ]


def _call_head(p: Plan, tensor: str, classes: str) -> list[str]:
  multiplier, channels = constants.number(p.mean.multiplier), p.logits.weights.levels.shape[2]
  if p.float_head:
    return [
      f"  NN_mean(&{tensor}, {multiplier}, arena->levels, means);",
      f"  NN_classify(&NN_head, NN_head_floats, {channels}, means, {classes}, logits);",
    ]
  return [
    f"  NN_mean(&{tensor}, {multiplier}, {p.mean_grid.high}, arena->levels, means);",
    f"  NN_classify(&NN_head, {channels}, means, {classes}, logits);",
  ]


def _value(m: Memory) -> list[str]:
  """Where values of shortcuts lie: fixed numbers, which are integers or floats."""
  if not m.values:
    return ["  work.value = NULL;"]
  whole, real = "  work.value = arena->value.whole;", "  work.value = arena->value.real;"
  return ["#ifdef NN_SOFT", whole, "#else", real, "#endif"]
