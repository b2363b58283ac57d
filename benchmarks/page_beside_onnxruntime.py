"""An exported page beside onnxruntime-web: one image's time in Chromium, and what is downloaded.

    npm install --prefix=FOLDER onnxruntime-web
    python benchmarks/page_beside_onnxruntime.py --library=FOLDER/node_modules/onnxruntime-web \\
      --out=results/web/beside_onnxruntime.json

ResNet-8 on images of CIFAR-10's size, one thread, one image at a time. The page and the ONNX file
in its exact form have the network of the zoo. The others have random weights. "fast" is our ONNX
file in its fast form, of a student with residual quantization points. "QDQ" is our float32 file as
ONNX Runtime's quantizer changes it. All are served from 127.0.0.1 and take turns in one tab. The
table has medians, and the median ratio of neighbouring timings.
"""

import argparse
import contextlib
import functools
import http.server
import importlib.util
import json
import pathlib
import shutil
import statistics
import tempfile
import threading

import c_beside_onnxruntime as beside
import command
import numpy as np

from apprentice_jax import document
from apprentice_jax.bench.machine import processor
from apprentice_jax.bench.step import ROUNDS
from apprentice_jax.deploy import interpret, registry
from apprentice_jax.errors import ConfigError

MODEL, SIDE = "resnet8-cifar10-8a2w", 32
# Each contestant's name, file, and, of a page, the part of it that has the code.
PAGE = "page"
CONTESTANTS = (
  (PAGE, "page.html", "simd"),
  ("page, without SIMD", "page.html", "plain"),
  ("onnxruntime-web int8, exact", "exact.onnx", ""),
  ("onnxruntime-web int8, fast", "fast.onnx", ""),
  ("onnxruntime-web int8, QDQ", "qdq.onnx", ""),
  ("onnxruntime-web float32", "float32.onnx", ""),
)
LIBRARY = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
SCRIPT = pathlib.Path(__file__).with_suffix(".mjs")
OWN = {"index.html", "bench.mjs", "image.bin"}  # files of this benchmark alone
START = '<!DOCTYPE html><title>benchmark</title><script type="module" src="bench.mjs"></script>'
FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking")
TURN = 50  # milliseconds


class Handler(http.server.SimpleHTTPRequestHandler):
  """Serves a folder, and notes the bytes of each file that is asked for."""

  sent: dict[str, int] = {}
  extensions_map = {".html": "text/html", ".mjs": "text/javascript", "": "application/octet-stream"}

  def send_head(self):
    file = pathlib.Path(self.translate_path(self.path))
    if file.is_file() and file.name not in OWN:
      self.sent[file.name] = file.stat().st_size
    return super().send_head()

  def log_message(self, *_):
    pass


@contextlib.contextmanager
def served(folder: pathlib.Path):
  """Serves a folder from 127.0.0.1; yields its address."""
  handler = functools.partial(Handler, directory=str(folder))
  with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/index.html"
    server.shutdown()


def make(folder: pathlib.Path, library: pathlib.Path) -> np.ndarray:
  """Writes what is served; returns the page's logits of the image that all compute."""
  network, (image,) = registry.load(MODEL).network, beside.random_images(1, SIDE, seed=0)
  fast = beside.random_network("resnet8", "8A,2W", "8bit", residual=True)
  floats = beside.random_network("resnet8", "32A,32W", "float")
  registry.write(network, "web", folder / "page.html")
  registry.write(network, "onnx", folder / "exact.onnx", form="exact")
  registry.write(fast, "onnx", folder / "fast.onnx", form="fast")
  registry.write(floats, "onnx", folder / "float32.onnx")
  beside.static_int8(folder / "float32.onnx", folder / "qdq.onnx", SIDE)
  for name in LIBRARY:
    shutil.copy(library / "dist" / name, folder)
  shutil.copy(SCRIPT, folder / "bench.mjs")
  (folder / "image.bin").write_bytes(image.tobytes())
  (folder / "index.html").write_text(START)
  return interpret.logits(network, image[None])[0]


def run(library: pathlib.Path, rounds: int = 0) -> dict:
  """Times all contestants.

  Args:
    library: the folder of the npm package onnxruntime-web.
    rounds: turns of each contestant; 0: as many as other benchmarks.
  """
  from playwright.sync_api import sync_playwright

  with contextlib.ExitStack() as stack:
    folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
    expected = make(folder, library)
    address = stack.enter_context(served(folder))
    driver = stack.enter_context(sync_playwright())
    chromium = shutil.which("chromium")
    browser = driver.chromium.launch(executable_path=chromium, args=FLAGS)
    downloads = {}
    for contestant in CONTESTANTS:
      tab = browser.new_page()
      Handler.sent.clear()
      logits = opened(tab, address).evaluate("(which) => bench.logitsOf(which)", contestant)
      downloads[contestant[0]] = sum(Handler.sent.values())
      if contestant[2] and not np.array_equal(np.float32(logits), expected):
        raise ConfigError(f"the {contestant[0]} computes other logits.")
      tab.close()
    tab = opened(browser.new_page(), address)
    for contestant in CONTESTANTS:
      tab.evaluate("(which) => bench.logitsOf(which)", contestant)
    times = tab.evaluate("(how) => bench.inTurns(how)", [rounds or ROUNDS, TURN])
    version = browser.version
    browser.close()
  ratio = lambda name: statistics.median(a / b for a, b in zip(times[name], times[PAGE]))
  return {
    "processor": processor(),
    "chromium": version,
    "onnxruntime-web": json.loads((library / "package.json").read_text())["version"],
    "milliseconds": {name: statistics.median(values) for name, values in times.items()},
    "shortest": {name: min(values) for name, values in times.items()},
    "time / the page's": {name: ratio(name) for name in times},
    "bytes": downloads,
  }


def opened(tab, address: str):
  """A tab, once the benchmark's script is there."""
  tab.goto(address)
  tab.wait_for_function("window.bench")
  return tab


def table(report: dict) -> str:
  """The report as Markdown."""
  columns = ["by", "bytes to download", "ms, median", "ms, shortest", "time / the page's"]
  rows = [
    [
      name,
      f"{report['bytes'][name]:,}",
      f"{milliseconds:.2f}",
      f"{report['shortest'][name]:.2f}",
      f"{report[columns[-1]][name]:.2f}",
    ]
    for name, milliseconds in report["milliseconds"].items()
  ]
  return (
    f"One thread, one image at a time, in Chromium {report['chromium']} on {report['processor']}; "
    f"onnxruntime-web {report['onnxruntime-web']}.\n\n"
  ) + document.table(columns, rows)


def measure(arguments: list[str]) -> tuple[dict, str]:
  """The report for a command's arguments, and where to write it; the table lies beside it."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument(
    "--library", type=pathlib.Path, required=True, help="onnxruntime-web's folder"
  )
  parser.add_argument("--rounds", type=int, default=0, help="turns of each; default: 15")
  parser.add_argument("--out", default="", help="a file for the whole report, as JSON")
  flags = parser.parse_args(arguments)
  if missing := [name for name in LIBRARY if not (flags.library / "dist" / name).is_file()]:
    raise ConfigError(f"--library={flags.library} has no dist/{missing[0]}: see --help.")
  if not shutil.which("chromium"):
    raise ConfigError("this benchmark takes Chromium: apt install chromium.")
  if not importlib.util.find_spec("playwright"):
    raise ConfigError("this benchmark takes Playwright: pip install 'apprentice-jax[test]'.")
  command.check_folder(flags.out)
  report = run(flags.library, flags.rounds)
  if flags.out:
    pathlib.Path(flags.out).with_suffix(".md").write_text(table(report) + "\n")
  return report, flags.out


if __name__ == "__main__":
  command.main(measure, table)
