"""Quantizers go through memory as seldom as they can, by the compiled programs; bytes are those of
the program."""

import importlib.util
import json
import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "results" / "plan"))

import passes  # noqa: E402

TEXT = """HloModule step, is_scheduled=true

ENTRY %main (p: f32[100,128]) -> (f32[100,128]) {
  %p = f32[100,128]{1,0:T(8,128)} parameter(0)
  %zero = f32[]{:T(128)} constant(0)
  %copy-start = (f32[100,128]{1,0:T(8,128)S(1)}, f32[100,128]{1,0:T(8,128)}, u32[]{:S(2)}) \
copy-start(%p)
  %sum = (f32[]{:T(128)}, pred[100,128]{1,0:T(8,128)(4,1)}) fusion(%p), kind=kLoop, calls=%c
  %total = f32[]{:T(128)} get-tuple-element(%sum), index=0
  %mask = pred[100,128]{1,0:T(8,128)(4,1)} get-tuple-element(%sum), index=1
  %copy-done = f32[100,128]{1,0:T(8,128)S(1)} copy-done(%copy-start)
  %out = bf16[100,128]{1,0:T(8,128)(2,1)} fusion(%copy-done, %mask, %total, %zero), kind=kLoop, \
calls=%d
  ROOT %tuple = (bf16[100,128]{1,0:T(8,128)(2,1)}) tuple(%out)
}
"""


def test_every_read_and_write_counts_once_and_a_fetched_operand_as_itself():
  n = 100 * 128
  assert passes.traffic(TEXT) == (4 * n + 4 + n) + (4 * n + n + 4 + 4 + 2 * n)


@pytest.mark.slow
@pytest.mark.skipif(not importlib.util.find_spec("libtpu"), reason="libtpu is not installed")
def test_no_quantizer_makes_a_pass_too_many(tmp_path):
  environment = {
    **os.environ,
    "XLA_FLAGS": "",
    "PYTHONPATH": str(ROOT),
  }  # those of tests optimize less
  done = subprocess.run(
    [sys.executable, ROOT / "results/plan/quantizer_bytes.py", tmp_path / "out.json"],
    env=environment,
    capture_output=True,
    text=True,
    timeout=240,
  )
  assert done.returncode == 0, done.stderr
  report = json.loads((tmp_path / "out.json").read_text())
  assert report.keys() == passes.CASES.keys()
  for name, found in report.items():
    for which, row in found.items():
      assert row["fewest"] <= row["bytes"] < 1.001 * row["fewest"], (name, which)
      assert f"| {name} | {which} |" in done.stdout
