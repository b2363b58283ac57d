"""The benchmark of a page beside onnxruntime-web, for which a module of a few lines stands here."""

import json

import page_beside_onnxruntime as benchmark
import pytest
import tools

from apprentice_jax.errors import ConfigError

STAND_IN = """
export const env = {wasm: {}};
export class Tensor {}
export const InferenceSession = {create: async () => ({
  run: async () => ({logits: {data: new Float32Array(10)}}),
})};
"""


@pytest.fixture
def library(tmp_path):
  """A folder like that of the npm package."""
  (tmp_path / "dist").mkdir()
  for name in benchmark.LIBRARY:
    (tmp_path / "dist" / name).write_text(STAND_IN)
  (tmp_path / "package.json").write_text('{"version": "1.2.3"}')
  return tmp_path


@pytest.mark.slow
def test_every_contestant_is_timed_and_weighed(library, tmp_path, monkeypatch):
  for name in ("ziglang", "onnxruntime", "playwright.sync_api"):
    tools.module(name)
  tools.program("chromium")
  monkeypatch.setattr(benchmark, "TURN", 1)
  out = tmp_path / "speed.json"
  report, path = benchmark.measure([f"--library={library}", "--rounds=2", f"--out={out}"])
  names = [name for name, *_ in benchmark.CONTESTANTS]
  assert list(report["milliseconds"]) == names and path == str(out)
  assert all(report["milliseconds"].values()) and report["time / the page's"]["page"] == 1
  # A page is one file; the others take the library's first file and their own network.
  assert report["bytes"]["page"] == report["bytes"]["page, without SIMD"] > 90_000
  assert len(STAND_IN) < report["bytes"]["onnxruntime-web int8, exact"] < 50_000
  lines = out.with_suffix(".md").read_text().splitlines()
  assert "onnxruntime-web 1.2.3" in lines[0] and len(lines) == 4 + len(names)
  json.dumps(report)


def test_a_library_that_is_not_there(tmp_path):
  with pytest.raises(ConfigError, match="has no dist/ort.wasm.min.mjs: see --help"):
    benchmark.measure([f"--library={tmp_path}"])
