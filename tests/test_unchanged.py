"""Programs are compared as graphs: order of arguments and numbers alone may differ."""

import gzip
import pathlib
import subprocess
import sys

import pytest

SCRIPTS = pathlib.Path(__file__).parents[1] / "results" / "unchanged"
# last: other folders of tests and results have modules of the same names
sys.path.append(str(SCRIPTS))

import graphs  # noqa: E402

PROGRAM = """module @program attributes {mhlo.num_replicas = 1 : i32} {
  sdy.mesh @mesh = <["replicas"=2]>
  func.func public @f0(%arg0: tensor<4xf32> {jax.buffer_donor = true}, %arg1: tensor<f32>, \
%arg2: tensor<i32>, %arg3: tensor<i32>) -> (tensor<4xf32>, tensor<i32>) {
    %c = stablehlo.constant dense<0> : tensor<i32>
    %0:3 = stablehlo.while(%iterArg = %c, %iterArg_0 = %arg0, %iterArg_1 = %arg1) : \
tensor<i32>, tensor<4xf32>, tensor<f32>
    cond {
      %4 = stablehlo.compare LT, %iterArg, %arg2, SIGNED : \
(tensor<i32>, tensor<i32>) -> tensor<i1>
      stablehlo.return %4 : tensor<i1>
    } do {
      %c_2 = stablehlo.constant dense<1> : tensor<i32>
      %4 = stablehlo.add %iterArg, %c_2 : tensor<i32>
      %5 = func.call @f1(%iterArg_0, %iterArg_1) : (tensor<4xf32>, tensor<f32>) -> tensor<4xf32>
      stablehlo.return %4, %5, %iterArg_1 : tensor<i32>, tensor<4xf32>, tensor<f32>
    }
    %1 = sdy.manual_computation(%0#1, %0#2) in_shardings=[<@mesh, [{"replicas"}]>, <@mesh, []>] \
out_shardings=[<@mesh, [{"replicas"}]>] manual_axes={"replicas"} \
(%arg4: tensor<2xf32>, %arg5: tensor<f32>) {
      %4 = stablehlo.broadcast_in_dim %arg5, dims = [] : (tensor<f32>) -> tensor<2xf32>
      %5 = stablehlo.divide %arg4, %4 : tensor<2xf32>
      sdy.return %5 : tensor<2xf32>
    } : (tensor<4xf32>, tensor<f32>) -> tensor<4xf32>
    %2 = stablehlo.subtract %arg2, %arg3 : tensor<i32>
    %3 = "stablehlo.case"(%2) ({
      stablehlo.return %arg2 : tensor<i32>
    }, {
      stablehlo.return %arg3 : tensor<i32>
    }) : (tensor<i32>) -> tensor<i32>
    return %1, %3 : tensor<4xf32>, tensor<i32>
  }
  func.func private @f1(%arg0: tensor<4xf32>, %arg1: tensor<f32>) -> tensor<4xf32> {
    %0 = stablehlo.broadcast_in_dim %arg1, dims = [] : (tensor<f32>) -> tensor<4xf32>
    %1 = stablehlo.subtract %arg0, %0 : tensor<4xf32>
    return %1 : tensor<4xf32>
  }
}
"""


def changed(*pairs):
  text = PROGRAM
  for old, new in pairs:
    assert old in text, old
    text = text.replace(old, new)
  return text


@pytest.mark.parametrize(
  "pairs",
  [
    # main's arguments
    [
      ("%arg1: tensor<f32>, %arg2: tensor<i32>, ", "%arg2: tensor<i32>, %arg1: tensor<f32>, "),
    ],
    [("%arg2: tensor<i32>, %arg3: tensor<i32>)", "%arg3: tensor<i32>, %arg2: tensor<i32>)")],
    # numbers
    [("%arg3", "%arg7"), ("%2 ", "%20 "), ("(%2)", "(%20)")],
    # what the loop carries
    [
      ("%iterArg_0 = %arg0, %iterArg_1 = %arg1)", "%iterArg_1 = %arg1, %iterArg_0 = %arg0)"),
      (
        ": tensor<i32>, tensor<4xf32>, tensor<f32>\n    cond",
        ": tensor<i32>, tensor<f32>, tensor<4xf32>\n    cond",
      ),
      (
        "%5, %iterArg_1 : tensor<i32>, tensor<4xf32>, tensor<f32>",
        "%iterArg_1, %5 : tensor<i32>, tensor<f32>, tensor<4xf32>",
      ),
      ("(%0#1, %0#2)", "(%0#2, %0#1)"),
    ],
    # what the manual computation takes
    [
      ("(%0#1, %0#2)", "(%0#2, %0#1)"),
      ('[<@mesh, [{"replicas"}]>, <@mesh, []>]', '[<@mesh, []>, <@mesh, [{"replicas"}]>]'),
      ("(%arg4: tensor<2xf32>, %arg5: tensor<f32>)", "(%arg5: tensor<f32>, %arg4: tensor<2xf32>)"),
      (
        ": (tensor<4xf32>, tensor<f32>) -> tensor<4xf32>\n    %2",
        ": (tensor<f32>, tensor<4xf32>) -> tensor<4xf32>\n    %2",
      ),
    ],
    # a function
    [
      (
        "%5 = func.call @f1(%iterArg_0, %iterArg_1) : (tensor<4xf32>, tensor<f32>)"
        " -> tensor<4xf32>",
        "%6 = stablehlo.broadcast_in_dim %iterArg_1, dims = [] : (tensor<f32>) -> tensor<4xf32>\n"
        "%5 = stablehlo.subtract %iterArg_0, %6 : tensor<4xf32>",
      )
    ],
  ],
)
def test_orders_and_numbers_are_no_difference(pairs):
  assert changed(*pairs) != PROGRAM
  assert graphs.listing(changed(*pairs)) == graphs.listing(PROGRAM)


@pytest.mark.parametrize(
  "old, new",
  [
    ("%1 = stablehlo.subtract", "%1 = stablehlo.add"),
    ("dense<1>", "dense<2>"),
    ("subtract %arg2, %arg3", "subtract %arg3, %arg2"),
    ("subtract %arg0, %0", "subtract %0, %arg0"),
    ("divide %arg4, %4", "divide %4, %arg4"),
    ("compare LT", "compare LE"),
    ("compare LT, %iterArg, %arg2", "compare LT, %iterArg, %arg3"),
    ("return %4, %5, %iterArg_1", "return %4, %iterArg_0, %iterArg_1"),
    ("return %arg2 : tensor<i32>\n    }, {", "return %c : tensor<i32>\n    }, {"),
    ("return %1, %3 : tensor<4xf32>", "return %0#1, %3 : tensor<4xf32>"),
    ("(%2) ({", "(%arg2) ({"),
    ("jax.buffer_donor = true", "jax.buffer_donor = false"),
    (
      "    %2 = ",
      "    %9 = stablehlo.negate %arg2 : tensor<i32>\n    %2 = ",
    ),
    ('"replicas"', '"rows"'),
    ("num_replicas = 1", "num_replicas = 2"),
    ("call @f1(%iterArg_0, %iterArg_1)", "call @f1(%iterArg_0, %arg1)"),
  ],
)
def test_any_other_change_is_one(old, new):
  assert graphs.listing(changed((old, new))) != graphs.listing(PROGRAM)


def test_the_command_names_programs_that_differ(tmp_path):
  renumbered, other = changed(("%arg3", "%arg7")), changed(("dense<1>", "dense<2>"))
  for folder, texts in {"before": (PROGRAM, PROGRAM), "after": (renumbered, other)}.items():
    (tmp_path / folder).mkdir()
    for name, text in zip("ab", texts, strict=True):
      path = tmp_path / folder / f"{name}.program.gz"
      path.write_bytes(gzip.compress(text.encode()))
  command = [sys.executable, SCRIPTS / "compare.py", tmp_path / "before", tmp_path / "after"]
  done = subprocess.run(command, capture_output=True, text=True)
  a, b, total = done.stdout.splitlines()
  assert a.startswith("a.program.gz: ") and a.endswith("equal")
  assert "DIFFERENT" in b and "dense<1>" in b and "dense<2>" in b
  assert total.startswith("2 comparisons") and total.endswith("1 difference")
  assert done.returncode == 1
