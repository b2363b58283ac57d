"""The page in Chromium, from the disk and without a network: its answers, and its use."""

import base64
import dataclasses
import re

import drawn
import numpy as np
import pytest
import tools
from browser import answered, classify, driver, opened
from networks import MEAN, NAMES, STD, made
from PIL import Image

from apprentice_jax.deploy import lower, predict, registry

pytestmark = pytest.mark.slow
MODEL = "resnet8-cifar10-8a2w"
# `predict` decodes a JPEG at a reduction where its short side is this long, and Chromium in full.
REDUCED, PIXELS, LOGITS = (
  256,
  12,
  0.1,
)  # pixels; then at most levels, and parts of the largest logit


@pytest.fixture(scope="module")
def page(tmp_path_factory):
  """The path of a page, and its network."""
  tools.module("ziglang")
  path, network = tmp_path_factory.mktemp("page") / "page.html", registry.load(MODEL).network
  registry.write(network, "web", path)
  return path, network


@pytest.fixture(scope="module")
def launch():
  with driver() as launch:
    yield launch


@pytest.fixture(scope="module")
def chromium(page, launch):
  """Chromium with the page."""
  with opened(launch, page[0]) as opened_page:
    yield opened_page


@pytest.fixture(scope="module")
def expected(page):
  """expected(file) -> the pixels and logits of `predict`."""
  predictor = registry.load(MODEL)

  def found(file):
    pixels = predict.prepared(file, predictor)
    return pixels, predictor.logits(pixels[None])[0]

  return found


def test_pngs_are_answered_as_predict_answers_to_the_bit(chromium, page, expected, tmp_path):
  files, shape = drawn.pngs(tmp_path / "pngs"), page[1].image_shape
  for file in files:
    pixels, logits = classify(chromium, file, shape)
    assert pixels is not None, (file.name, logits)
    np.testing.assert_array_equal(pixels, expected(file)[0], err_msg=file.name)
    np.testing.assert_array_equal(logits, expected(file)[1], err_msg=file.name)
  # What a person sees.
  said = predict.predict(registry.load(MODEL), files)
  assert answered(chromium, files)[::-1] == [[name for name, _ in a.classes] for a in said]
  assert [request for request in chromium.seen if not re.match("file:|blob:", request)] == []


def test_jpegs_are_answered_to_the_bit_or_alike(chromium, page, expected, tmp_path):
  largest, off = 0, 0.0
  for file in drawn.jpegs(tmp_path / "jpegs"):
    pixels, logits = classify(chromium, file, page[1].image_shape)
    expected_pixels, expected_logits = expected(file)
    if min(Image.open(file).size) < REDUCED:
      np.testing.assert_array_equal(pixels, expected_pixels, err_msg=file.name)
      np.testing.assert_array_equal(logits, expected_logits, err_msg=file.name)
      continue
    assert np.argmax(logits) == np.argmax(expected_logits), file.name
    largest = max(largest, np.abs(pixels - expected_pixels.astype(int)).max())
    off = max(off, np.abs(logits - expected_logits).max() / np.abs(expected_logits).max())
  print(f"decoded in full: pixels off by {largest} at most, logits by {off:.3f} of the largest")
  assert 0 < largest <= PIXELS and 0 < off <= LOGITS


def test_other_files_are_right_or_refused(chromium, page, expected, tmp_path):
  image, frames = Image.fromarray(drawn.photo(60, 80)), [drawn.photo(60, 80, i) for i in range(3)]
  moving = [Image.fromarray(frame) for frame in frames]
  kinds = {"moving.gif": {}, "moving.webp": {"lossless": True}}
  for name, options in kinds.items():
    moving[0].save(tmp_path / name, save_all=True, append_images=moving[1:], **options)
  image.save(tmp_path / "still.bmp")
  for name in (*kinds, "still.bmp"):
    pixels, logits = classify(chromium, tmp_path / name, page[1].image_shape)
    np.testing.assert_array_equal(pixels, expected(tmp_path / name)[0], err_msg=name)
    np.testing.assert_array_equal(logits, expected(tmp_path / name)[1], err_msg=name)
  image.convert("CMYK").save(tmp_path / "inks.jpg")
  clear = image.copy()
  clear.putalpha(128)
  clear.save(tmp_path / "clear.webp", lossless=True)
  (tmp_path / "dark.png").write_bytes(drawn.png(drawn.photo(60, 80).astype(np.uint16)))
  image.save(tmp_path / "whole.png")
  (tmp_path / "half.png").write_bytes((tmp_path / "whole.png").read_bytes()[:3000])
  (tmp_path / "text.jpg").write_text("no picture")
  sentences = {
    "inks.jpg": "its colours are inks (CMYK): save it as RGB",
    "clear.webp": "it has transparent parts: save it as PNG, or without them",
    "dark.png": "its 16-bit values use no more than 12 bits",
    "half.png": "this browser cannot decode it",
    "text.jpg": "this browser cannot decode it",
  }
  for name, sentence in sentences.items():
    chromium.set_input_files("#files", tmp_path / name)
    card = chromium.get_by_role("article").filter(has=chromium.get_by_role("heading", name=name))
    card.get_by_text(f"There is no answer: {sentence}").wait_for()


def test_a_file_without_an_answer_leaves_the_others_theirs(page, launch, tmp_path):
  files = [tmp_path / name for name in ("lake.png", "text.jpg", "wood.png")]
  for file in files:
    Image.fromarray(drawn.photo(50, 60)).save(file)
  files[1].write_text("no picture")
  with opened(launch, page[0]) as chromium:
    lake, text, wood = answered(chromium, files)[::-1]
    assert (len(lake), len(text), len(wood)) == (5, 0, 5)
    status = chromium.get_by_role("status")
    assert status.locator(":not(.spoken)").inner_text() == "2 of 3 are classified."
    said = status.locator(".spoken").text_content()
    assert re.fullmatch(
      rf"lake\.png: {lake[0]} [\d.]+%\. "
      r"text\.jpg: There is no answer: this browser cannot decode it\. "
      rf"wood\.png: {wood[0]} [\d.]+%\.",
      said,
    )
    (red,) = chromium.locator(".trouble").all()
    assert red.inner_text() == "There is no answer: this browser cannot decode it."
    chromium.get_by_role("button", name="Remove all").click()
    assert chromium.get_by_role("article").count() == 0


def test_the_browser_forbids_requests(chromium):
  tried = """() => new Promise((done) => {
    document.addEventListener("securitypolicyviolation", (e) => done(e.effectiveDirective));
    fetch("http://127.0.0.1:9/").catch(() => setTimeout(() => done("no violation"), 2000));
  })"""
  assert chromium.evaluate(tried) == "connect-src"
  chromium.seen.clear()


def test_a_browser_without_simd_computes_the_same(page, launch, expected, tmp_path):
  """Of two modules it refuses the first."""
  refuse = """const validate = WebAssembly.validate; let calls = 0;
    WebAssembly.validate = (code) => calls++ > 0 && validate(code);"""
  file = tmp_path / "photo.png"
  Image.fromarray(drawn.photo(100, 90)).save(file)
  with opened(launch, page[0], refuse) as plain:
    assert "without SIMD" in plain.inner_text("#size")
    pixels, logits = classify(plain, file, page[1].image_shape)
  np.testing.assert_array_equal(logits, expected(file)[1])


def test_the_camera(page, launch):
  with opened(launch, page[0], permissions=["camera"]) as chromium:
    button = chromium.get_by_role("button", name="Use the camera")
    button.click()
    article = chromium.get_by_role("article").filter(has_text="The camera")
    article.locator(".name").nth(4).wait_for()
    chromium.get_by_role("button", name="Stop the camera", pressed=True).click()
    assert button.get_attribute("aria-pressed") == "false"
    assert chromium.evaluate("stream") is None
    assert chromium.seen == [page[0].as_uri()]


def test_without_a_camera_the_button_says_so(page, launch):
  with opened(launch, page[0], "delete Navigator.prototype.mediaDevices;") as chromium:
    button = chromium.get_by_role("button", name="No camera: this browser gives it to https")
    assert button.is_disabled()


def test_without_scripts_the_page_says_what_to_do(page, launch, tmp_path):
  """As in a phone's preview of a file."""
  context = launch(tmp_path, java_script_enabled=False)
  shown = context.new_page()
  shown.goto(page[0].as_uri())
  text = shown.locator("body").inner_text()
  assert "This page knows 10 classes: airplane, " in text
  assert "The preview of a file has none: open the page in a browser." in " ".join(text.split())
  assert not any(button.is_visible() for button in shown.get_by_role("button").all())
  context.close()


def test_names_are_text_and_nothing_else(page, launch, tmp_path):
  names = [f"</script><img src=x onerror=\"document.title='hacked'\">{i}" for i in range(10)]
  names[3:6] = ["Ünïcode & <b>bold</b>", "שלום", "\u202efish"]
  title = "</title><b>Anna's</b> {{script}}"
  network = dataclasses.replace(page[1], class_names=tuple(names))
  registry.write(network, "web", tmp_path / "names.html", title=title)
  file = tmp_path / "<i>photo.png"
  Image.fromarray(drawn.photo(40, 40)).save(file)
  with opened(launch, tmp_path / "names.html") as chromium:
    (shown,) = answered(chromium, [file])
    assert set(shown) <= set(names) and len(shown) == 5
    assert chromium.get_by_role("heading", name="<i>photo.png").count() == 1
    assert chromium.title() == chromium.get_by_role("heading", level=1).inner_text() == title
    lead = chromium.locator(".lead").text_content()
    assert "Ünïcode & <b>bold</b>, שלום, \u202efish, </script>" in lead
    # Names are too long for the lead; the list has them all.
    chromium.get_by_text("The 10 classes that it knows").click()
    assert chromium.locator("#knows li").all_inner_texts() == names
    assert chromium.evaluate("apprentice.about.classes") == names


def test_a_page_of_grey_images_of_unequal_sides(launch, tmp_path):
  model, params, stats, _ = made()
  grey = {**params, "stem": {"kernel": params["stem"]["kernel"][:, :, :1]}}
  about = dict(class_names=NAMES, mean=MEAN[:1], std=STD[:1], ends="8bit")
  network = lower.lower(model, grey, stats, image_shape=(12, 16, 1), **about)
  registry.write(network, "web", tmp_path / "page.html")
  Image.fromarray(drawn.photo(12, 16)).save(tmp_path / "right.png")
  Image.fromarray(drawn.photo(16, 12)).save(tmp_path / "wrong.png")
  predictor = registry.load(tmp_path / "page.html")
  with opened(launch, tmp_path / "page.html") as chromium:
    pixels, logits = classify(chromium, tmp_path / "right.png", (12, 16, 1))
    seen = predict.prepared(tmp_path / "right.png", predictor)
    np.testing.assert_array_equal(pixels, seen)
    np.testing.assert_array_equal(logits, predictor.logits(seen[None])[0])
    said = classify(chromium, tmp_path / "wrong.png", (12, 16, 1))[1]
    assert said == "it has 12x16 pixels: this network takes 16x12"


PHONE = dict(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
# By name: the window, with or without touch, and the colours that the person prefers.
WINDOWS = {
  "narrow": dict(**PHONE, color_scheme="light"),
  "narrow-dark": dict(**PHONE, color_scheme="dark"),
  "wide": dict(viewport={"width": 1280, "height": 800}, color_scheme="light"),
  "wide-dark": dict(viewport={"width": 1280, "height": 800}, color_scheme="dark"),
}


@pytest.mark.parametrize("window", WINDOWS)
def test_screens_of_all_sizes(window, page, launch, tmp_path):
  """Nothing is wider than the window, and fingers hit all buttons; prints where its picture is."""
  names = ("lake.png", "a_name_that_is_long_" * 4 + ".png")
  files = [tmp_path / name for name in names]
  for i, file in enumerate(files):
    Image.fromarray(drawn.photo(240, 320, i)).save(file)
  with opened(launch, page[0], **WINDOWS[window]) as chromium:
    # A finger drops nothing.
    assert chromium.get_by_text("Or drop pictures").is_visible() == window.startswith("wide")
    answered(chromium, files)
    for name in names:
      (heading,) = chromium.get_by_role("heading", name=name, exact=True).all()
      assert heading.get_attribute("title") == name and heading.bounding_box()["height"] < 30
    for caption in chromium.locator("figcaption").all():
      assert caption.bounding_box()["height"] < 25
    choose, camera = (chromium.locator(f"#{name}").bounding_box() for name in ("choose", "camera"))
    assert choose["y"] == camera["y"]
    chromium.mouse.move(0, 0)
    chromium.screenshot(path=tmp_path / f"{window}.png", full_page=True)
    print(tmp_path / f"{window}.png")
    assert chromium.evaluate("document.documentElement.scrollWidth <= innerWidth")
    for button in chromium.get_by_role("button").all():
      assert button.bounding_box()["height"] >= 44


def test_keyboard_and_screen_reader(page, launch, tmp_path):
  file = tmp_path / "photo.png"
  Image.fromarray(drawn.photo(50, 60)).save(file)
  with opened(launch, page[0]) as chromium:
    focused = "document.activeElement.textContent"
    chromium.keyboard.press("Tab")
    assert chromium.evaluate(focused) == "Choose pictures"
    # The key opens the browser's dialog, in place of which the test gives the file.
    chromium.evaluate("""() => element("files").addEventListener("click", (event) => {
      event.preventDefault();
      document.title = "dialog";
    })""")
    chromium.keyboard.press("Enter")
    assert chromium.title() == "dialog"
    chromium.set_input_files("#files", file)
    names = chromium.locator(".name")
    names.nth(4).wait_for()
    # The live region names the likeliest class; eyes find it in the card alone.
    said = chromium.get_by_role("status").text_content()
    best = names.first.text_content()
    assert re.fullmatch(rf"1 picture is classified\. photo\.png: {best} [\d.]+%\.", said)
    assert chromium.locator(".spoken").bounding_box()["width"] <= 1
    snapshot = chromium.locator("main").aria_snapshot()
    for part in (
      'region "Give it pictures"',
      'button "Use the camera"',
      'region "Answers"',
      'heading "photo.png" [level=2]',
      'img "photo.png"',
      'img "The 32 by 32 pixels of photo.png that the network sees"',
      "listitem:",
    ):
      assert part in snapshot, (part, snapshot)
    chromium.keyboard.press("Tab")
    chromium.keyboard.press("Tab")
    assert chromium.evaluate(focused) == "Remove all"
    chromium.keyboard.press("Enter")
    assert chromium.get_by_role("article").count() == 0
    assert chromium.evaluate(focused) == "Choose pictures"
    assert chromium.get_by_role("status").inner_text().strip() == "All pictures are removed."


@pytest.mark.parametrize("event", ["paste", "drop"])
def test_pictures_are_pasted_and_dropped(event, chromium, tmp_path):
  file = tmp_path / f"{event}.png"
  Image.fromarray(drawn.photo(50, 60)).save(file)
  give = """async ([event, name, data]) => {
    const bytes = Uint8Array.from(atob(data), (c) => c.charCodeAt(0)), files = new DataTransfer();
    files.items.add(new File([bytes], name, {type: "image/png"}));
    const options = {bubbles: true, cancelable: true, clipboardData: files, dataTransfer: files};
    const kind = event === "paste" ? ClipboardEvent : DragEvent;
    document.body.dispatchEvent(new kind(event, options));
  }"""
  data = base64.b64encode(file.read_bytes()).decode()
  chromium.evaluate(give, [event, file.name, data])
  chromium.get_by_role("heading", name=file.name).wait_for()
