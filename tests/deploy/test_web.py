"""A page's engine: the resize of `predict` and the logits of the definition, to the bit."""

import base64
import ctypes
import dataclasses
import importlib.util
import pathlib
import re
import subprocess

import numpy as np
import pytest
import tools
from networks import lowered, made
from PIL import Image

from apprentice_jax.deploy import interpret, predict, registry, web
from apprentice_jax.deploy.predictor import Predictor
from apprentice_jax.errors import ConfigError

FOLDER = pathlib.Path(web.__file__).parent
MODEL = "resnet8-cifar10-8a2w"
DEMO = pathlib.Path(__file__).parents[2] / "docs" / "demo.html"
# Calls the resize as the engine does, three rows at a time, the last of them beyond the photo.
CALLER = """
#include <stdlib.h>
#include "resize.c"

int run(const uint8_t *rgba, int32_t width, int32_t height, int32_t resize, int32_t out_width,
        int32_t out_height, int32_t channels, uint8_t *image) {
  resize_t r;
  int32_t y;
  if (!resize_photo(&r, width, height, resize, out_width, out_height, channels)) return 0;
  weigh(&r.columns, malloc(table(&r.columns) * 4));
  weigh(&r.rows, malloc(table(&r.rows) * 4));
  r.thin = malloc((size_t)(r.rows.end - r.rows.begin) * (size_t)r.columns.size * 3);
  for (y = 0; y < height; y += 3) {
    resize_rows(&r, rgba + 4 * (size_t)y * (size_t)width, y, y + 3 < height ? 3 : height - y);
  }
  resize_end(&r, image);
  free(r.columns.first);
  free(r.rows.first);
  free(r.thin);
  return 1;
}
"""


@pytest.fixture(scope="module")
def resize(tmp_path_factory):
  """resize(pixels, shape, short side) -> the network's image, or None; by the engine's C code."""
  folder = tmp_path_factory.mktemp("resize")
  (folder / "caller.c").write_text(CALLER)
  flags = [
    "-std=c99",
    "-O2",
    "-ffp-contract=off",
    "-Wall",
    "-Wextra",
    "-Werror",
    "-fPIC",
    "-shared",
  ]
  sanitizers = ["-fsanitize=undefined", "-fno-sanitize-recover"]
  command = [tools.program("gcc"), *flags, *sanitizers, f"-I{FOLDER}", folder / "caller.c"]
  subprocess.run([*command, "-lm", "-o", folder / "caller.so"], check=True)
  code = ctypes.CDLL(str(folder / "caller.so"))

  def call(pixels, shape, short_side):
    (height, width), image = pixels.shape[:2], np.zeros(shape, np.uint8)
    rgba = np.concatenate([pixels, np.full((height, width, 1), 255, np.uint8)], -1)
    pointers = [a.ctypes.data_as(ctypes.c_void_p) for a in (rgba, image)]
    out_height, out_width, channels = shape
    done = code.run(
      pointers[0], width, height, short_side, out_width, out_height, channels, pointers[1]
    )
    return image if done else None

  return call


def photo(height, width, seed=0):
  return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


@pytest.mark.parametrize(
  "shape, short_side",
  [
    ((32, 32, 3), 0),
    ((32, 32, 1), 37),
    ((7, 7, 3), 8),
    ((1, 1, 3), 3),
    ((28, 28, 1), 0),
    ((96, 96, 3), 111),
  ],
  ids=str,
)
def test_the_resize_is_predicts(shape, short_side, resize, tmp_path):
  path, taken = tmp_path / "photo.png", Predictor(shape, ("a", "b"), short_side, None)
  random = np.random.default_rng(5)
  sizes = [shape[:2], (1, 1), (1, 40), (40, 1), (2, 3), (33, 32), (31, 32), (64, 96), (500, 333)]
  sizes += random.integers(1, 260, (25, 2)).tolist()
  for seed, size in enumerate(sizes):
    pixels = photo(*size, seed)
    Image.fromarray(pixels).save(path, compress_level=1)
    found, expected = resize(pixels, shape, short_side), predict.prepared(path, taken)
    np.testing.assert_array_equal(found, expected, err_msg=str(size))


@pytest.mark.parametrize("short_side, takes", [(0, True), (40, False)])
def test_a_network_of_unequal_sides_takes_its_own_size_alone(short_side, takes, resize):
  pixels, shape = photo(12, 16), (12, 16, 3)
  assert resize(photo(12, 17), shape, short_side) is None
  image = resize(pixels, shape, short_side)
  assert np.array_equal(image, pixels) if takes else image is None


def test_networks_without_a_page_are_refused(tmp_path, monkeypatch):
  floats = lowered(precision="32A,2W")
  for form in ("c", "web"):
    with pytest.raises(ConfigError, match="there is no C code of this network: .*float"):
      registry.write(floats, form, tmp_path / "out")
  monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
  with pytest.raises(ConfigError, match="package ziglang: pip install 'apprentice-jax\\[c\\]'"):
    registry.write(registry.load(MODEL).network, "web", tmp_path / "page.html")
  assert not any(tmp_path.iterdir())


def test_the_demo_is_what_export_writes():
  """But for the engine, which depends on the compiler's version."""
  text, network = DEMO.read_text(), registry.load(MODEL).network
  parts = [re.search(f'id="{name}">([^<]*)<', text)[1] for name in web.Engine._fields]
  assert text == web.page(network, web.Engine(*map(base64.b64decode, parts)))
  assert len(text.encode()) <= 120_000


def test_the_page_begins_with_what_it_tells_apart():
  network, engine = registry.load(MODEL).network, web.Engine(b"", b"", b"")

  def page(names, **options):
    text = web.page(dataclasses.replace(network, class_names=tuple(names)), engine, **options)
    lead = re.sub("</?bdi>", "", re.search('<p class="lead">(.*)</p>', text)[1])
    return lead, 'id="knows"' in text, text

  assert page(["fish", "golf ball"])[:2] == ("This page tells fish from golf ball.", False)
  assert page("abc")[:2] == ("This page knows 3 classes: a, b and c.", False)
  many = "This page knows 1,000 classes, such as 0, 1 and 2."
  assert page(map(str, range(1000)))[:2] == (many, True)
  long = f"This page tells &lt;b&gt; &amp; from {'n' * 39}…."
  lead, list_of_all, text = page(["<b> &", "n" * 41], title='<i>"Mine"</i>')
  assert (lead, list_of_all) == (long, True)
  assert "<title>&lt;i&gt;&quot;Mine&quot;&lt;/i&gt;</title>" in text
  assert "<h1>What is in the picture?</h1>" in page("ab")[2]


@pytest.mark.slow
def test_the_demo_computes_its_networks_logits():
  tools.module("wasmtime")
  network = registry.load(MODEL).network
  images = np.random.default_rng(0).integers(0, 256, (20, 32, 32, 3), np.uint8)
  np.testing.assert_array_equal(
    registry.load(DEMO).logits(images), interpret.logits(network, images)
  )


def test_colours_have_enough_contrast():
  """At least 4.5, as WCAG 2 asks for, in light and dark."""
  style = (FOLDER / "page.css").read_text()
  light, dark = [
    dict(re.findall(r"--(\w+): #(\w{6});", block))
    for block in re.findall(r":root {(.*?)}", style, re.S)
  ]
  assert set(light) == set(dark)

  def luminance(colour):
    linear = [int(colour[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    linear = [x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in linear]
    return np.dot(linear, [0.2126, 0.7152, 0.0722])

  pairs = [(ink, ground) for ink in ("ink", "soft", "trouble") for ground in ("ground", "card")]
  pairs += [("ground", "accent"), ("accent", "bar")]
  for colours in (light, dark):
    for ink, ground in pairs:
      high, low = sorted((luminance(colours[ink]), luminance(colours[ground])), reverse=True)
      assert (high + 0.05) / (low + 0.05) >= 4.5, (ink, ground)


KINDS = {
  "8A,2W": dict(ends="8bit"),
  "8A,4W": dict(ends="8bit", precision="8A,4W", shortcut="conv"),
  "1A,1W": dict(ends="8bit", precision="1A,1W"),
  "ttq": dict(ends="8bit", name="resnet18", width=0.0625, weights="ttq"),
  "float ends": dict(ends="float"),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_the_engine_computes_the_definitions_logits(kind, tmp_path):
  """With SIMD and without; neither imports anything."""
  tools.module("ziglang")
  wasmtime = tools.module("wasmtime")
  network, images = lowered(**KINDS[kind]), made()[3]
  page, expected = tmp_path / "page.html", interpret.logits(network, images)
  registry.write(network, "web", page)
  assert registry.recognised(page) == "web"
  assert registry.load(page)[:3] == (network.image_shape, network.class_names, network.resize)
  about, simd = web.read(page)
  engine = web.engine(network)
  assert simd == engine.simd + engine.data
  for module in (simd, engine.plain + engine.data):
    assert not wasmtime.Module(wasmtime.Engine(), module).imports
    logits = web.predictor(about, module).logits(images)
    if kind == "float ends":
      np.testing.assert_allclose(logits, expected, rtol=0, atol=np.abs(expected).max() / 100)
    else:
      np.testing.assert_array_equal(logits.view(np.uint32), expected.view(np.uint32))


@pytest.fixture(scope="module")
def page(tmp_path_factory):
  tools.module("ziglang")
  path = tmp_path_factory.mktemp("page") / "page.html"
  registry.write(lowered(ends="8bit", precision="4A,2W"), "web", path)
  return path


@pytest.mark.slow
def test_a_damaged_page_is_refused(page, tmp_path):
  text, copy = page.read_text(), tmp_path / "page.html"
  at = text.index('id="data">') + 200
  copy.write_text(text[:at] + ("A" if text[at] != "A" else "B") + text[at + 1 :])
  with pytest.raises(ConfigError, match="damaged: the engine is not as it was exported"):
    registry.load(copy)
  copy.write_text(text[: text.index('<script type="text/plain" id="data">')])
  with pytest.raises(ConfigError, match="damaged: a part of the page is missing"):
    registry.load(copy)
  with pytest.raises(ConfigError, match="it is no packed file"):
    registry.network(page)


@pytest.mark.slow
def test_a_page_runs_by_wasmtime_alone(page, monkeypatch):
  monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
  with pytest.raises(ConfigError, match="package wasmtime: pip install 'apprentice-jax\\[c\\]'"):
    registry.load(page)
