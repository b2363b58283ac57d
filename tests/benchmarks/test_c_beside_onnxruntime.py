"""The benchmark of exported C code beside ONNX Runtime."""

import c_beside_onnxruntime as benchmark
import pytest
import tools

from apprentice_jax.errors import ConfigError


@pytest.mark.slow
def test_every_contestant_is_timed(monkeypatch, tmp_path):
  tools.program("gcc")
  tools.module("onnxruntime")
  monkeypatch.setattr(benchmark, "NETWORKS", {"resnet8": (8, 10)})
  monkeypatch.setattr(benchmark, "PRECISIONS", ("8A,2W",))
  monkeypatch.setattr(benchmark, "TURN", 0.001)
  out = tmp_path / "speed.json"
  report, path = benchmark.measure(["--networks=resnet8", "--rounds=2", f"--out={out}"])
  (network,) = report["networks"].values()
  contestants = ["ONNX Runtime float32", "ONNX Runtime int8", "C 8A,2W"]
  assert list(network["milliseconds"]) == contestants and path == str(out)
  assert all(network["milliseconds"].values())
  assert network["int8's time / its"]["ONNX Runtime int8"] == 1
  lines = out.with_suffix(".md").read_text().splitlines()
  assert report["processor"] in lines[0] and len(lines) == 4 + len(contestants)


def test_a_network_that_it_does_not_have():
  with pytest.raises(ConfigError, match=r"--networks: resnet9 is none of resnet8, resnet20"):
    benchmark.measure(["--networks=resnet8,resnet9"])
