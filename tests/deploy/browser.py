"""Chromium with a page in it, without a network."""

import base64
import contextlib
import pathlib
import tempfile

import numpy as np
import tools

FLAGS = (
  "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
  "--disable-component-update --disable-sync --use-fake-device-for-media-stream "
  "--use-fake-ui-for-media-stream"
).split()
CLASSIFY = """async (data) => {
  const file = new Blob([Uint8Array.from(atob(data), (c) => c.charCodeAt(0))]);
  try {
    const {pixels, logits} = await apprentice.classify(file);
    return {pixels: [...pixels], logits: [...logits]};
  } catch (error) {
    return {trouble: error.message};
  }
}"""


@contextlib.contextmanager
def driver():
  """Playwright, of which a process has one."""
  chromium = tools.program("chromium")
  with tools.module("playwright.sync_api").sync_playwright() as playwright:
    yield lambda profile, **options: playwright.chromium.launch_persistent_context(
      profile, executable_path=chromium, args=FLAGS, headless=True, offline=True, **options
    )


@contextlib.contextmanager
def opened(launch, path: pathlib.Path, script: str = "", **options):
  """Chromium with a page from the disk; the network is off.

  Args:
    launch: from `driver`.
    path: of the page.
    script: runs in the page before its own.
    **options: of the browser's window, as playwright names them.

  Yields:
    The page, once the network is ready; it has a list `seen` of its requests, console messages and
    errors.
  """
  with tempfile.TemporaryDirectory() as profile:
    context = launch(profile, **options)
    context.add_init_script(script)
    page = context.new_page()
    page.seen = []
    page.on("request", lambda request: page.seen.append(request.url))
    page.on("console", lambda message: page.seen.append(message.text))
    page.on("pageerror", lambda error: page.seen.append(str(error)))
    page.goto(path.as_uri())
    page.get_by_text("The network is ready.").wait_for()
    yield page
    context.close()


def classify(page, file: pathlib.Path, shape):
  """The pixels and logits of a file, uint8 and float32; or None and the page's sentence."""
  found = page.evaluate(CLASSIFY, base64.b64encode(file.read_bytes()).decode())
  if "trouble" in found:
    return None, found["trouble"]
  return np.array(found["pixels"], np.uint8).reshape(shape), np.array(found["logits"], np.float32)


def answered(page, files: list[pathlib.Path]) -> list[list[str]]:
  """Gives the page files as a person does; returns the names that it shows, the last file first."""
  page.set_input_files("#files", files)
  page.locator("article").nth(len(files) - 1).wait_for()
  names = "cards => cards.map(c => [...c.querySelectorAll('.name')].map(n => n.textContent))"
  return page.locator("article").evaluate_all(names)
