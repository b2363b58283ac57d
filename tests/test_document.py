"""Reports as Markdown and as a page: each says what the blocks say, whatever is in a name."""

import html
import json
import re
import subprocess

import markdown_it
import pytest
import tools
from pages import Page

from apprentice_jax import document
from apprentice_jax.document import Code, Heading, List, Table, Text

AWKWARD = [
  "a|b *c* <script src='http://x'> [d](e) `f` & \"g\"",
  "two\nlines\r\n\r\nand a third",
  "# heading",
  "1. list",
  "- item",
  "\\| \\* \\",
  "_under_ snake_case __both__",
  "~~gone~~ $x^2$ &lt;b&gt; &#65; <!-- no -->",
  "![i](j.png) <img src=x onerror=alert(1)>",
  "</td></table></style></script>",
  "<https://x.invalid>",
  "=0.25 /a/b=c",
  "猫 naïve \u202eabc",
  "x" * 300,
  "|",
  "+1.5",
]


def one_line(text):
  return " ".join(text.split())


def blocks_of(names):
  return [
    Heading("A report", 1),
    *(block for name in names for block in (Heading(name), Text(name))),
    List(names[0], names),
    Table(names[0], ["k", *names], [[name, *reversed(names)] for name in names]),
  ]


def test_markdown_says_what_the_blocks_say():
  reader = markdown_it.MarkdownIt("commonmark").enable(["table", "strikethrough"])
  read = Page(reader.render(document.markdown(blocks_of(AWKWARD))))
  assert set(read.tags) == set("h1 h2 p ul li table thead tbody tr th td".split())
  assert read.cells == [
    *map(one_line, ["k", *AWKWARD]),
    *(one_line(cell) for name in AWKWARD for cell in [name, *reversed(AWKWARD)]),
  ]
  for name in AWKWARD:
    # Twice alone and once in the list; the first one also names the list and the table.
    assert read.words.split("\n").count(one_line(name)) >= 3, name


def test_the_page_says_what_the_blocks_say():
  page = Page(document.page(blocks_of(AWKWARD), "."))
  assert page.open == [] and "img" not in page.tags and page.tags.count("script") == 1
  assert page.cells == [
    *["k", *AWKWARD],
    *(cell for name in AWKWARD for cell in [name, *reversed(AWKWARD)]),
  ]
  # In the contents, a heading, a text, the list, and twice or once in a row of the table.
  assert all(page.words.count(name) > 4 + len(AWKWARD) for name in AWKWARD)
  assert all(reference.startswith("#s") for reference in page.references)


def test_commands_stay_as_they_are():
  lines = [one_line(name) for name in AWKWARD] + ["a  b", "``` ````", "  -x='(8A,2W)'"]
  blocks = [Heading("t", 1), Code("# Commands", lines)]
  reader = markdown_it.MarkdownIt("commonmark").enable("table")
  (said,) = [t.content for t in reader.parse(document.markdown(blocks)) if t.type == "fence"]
  assert said == "\n".join(lines) + "\n"
  page = document.page(blocks, ".")
  said = re.search(r"<pre[^>]*>(.*?)</pre>", page, re.DOTALL)[1]
  assert html.unescape(said) == "\n".join(lines) and Page(page).open == []
  # A line of its own would be another command.
  assert "\na b\n" in document.markdown([Code("", ["a\nb"])])


def test_columns_of_numbers_are_aligned():
  rows = [
    ["a", "8A,2W", "+1.5", "-1.75 to -0.61", "90.00 ± 1.20", "5.0 kB", "<0.001", "1,234", "", "1 a"]
  ]
  text = document.page([Heading("t", 1), Table("", list("abcdefghij"), rows)], ".")
  aligned = re.findall(r'<th scope="col"( class="number")?>(\w)<', text)
  assert "".join(name for number, name in aligned if number) == "cdefgh"


# In a browser.

SORTING = """<script>
const said = [];
const column = i => [...document.querySelectorAll("tbody tr")].map(r => r.cells[i].textContent);
const press = i => {
  const button = document.querySelectorAll("thead button")[i];
  button.focus();
  said.push(document.activeElement === button);
  button.click();
  said.push(column(i), document.querySelectorAll("thead th")[i].ariaSort);
};
[0, 0, 0, 1, 1, 2, 3].forEach(press);
said.push(document.documentElement.scrollWidth);
document.body.textContent = "SAID" + JSON.stringify(said) + "SAID";
</script>"""


def browser(tmp_path, *arguments):
  """Runs headless Chromium without a network; returns what it prints."""
  chromium = tools.program("chromium")
  options = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-sync "
    "--disable-background-networking --disable-component-update --hide-scrollbars "
    "--proxy-server=127.0.0.1:9"
  )
  command = [chromium, *options.split(), f"--user-data-dir={tmp_path}/user", *arguments]
  return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout


@pytest.mark.slow
def test_a_browser_sorts_by_every_column(tmp_path):
  rows = [
    ["b", "1,234", "8A,2W", "<0.001"],
    ["a", "", "32A,2W", "no test"],
    ["C", "−7.5 ± 2", "8A,32W", "0.5"],
    ["猫" * 100, "+20", "8A,4W", "0.02"],
  ]
  page = document.page([Heading("t", 1), Table("", list("wxyz"), rows)], ".")
  path = tmp_path / "page.html"
  path.write_text(page.replace("</html>", SORTING + "</html>"))
  out = browser(tmp_path, "--window-size=500,800", "--dump-dom", path.as_uri())
  said = json.loads(html.unescape(out.split("SAID")[1]))
  focused, columns, states = said[:-1:3], said[1:-1:3], said[2:-1:3]
  assert all(focused)
  assert states == [
    "ascending",
    "descending",
    None,
    *["ascending", "descending"],
    *["ascending"] * 2,
  ]
  cat = "猫" * 100
  assert columns == [
    ["a", "b", "C", cat],
    [cat, "C", "b", "a"],
    ["b", "a", "C", cat],
    ["−7.5 ± 2", "+20", "1,234", ""],
    ["1,234", "+20", "−7.5 ± 2", ""],
    ["8A,2W", "8A,4W", "8A,32W", "32A,2W"],
    ["<0.001", "0.02", "0.5", "no test"],
  ]
  # The table scrolls in its frame: the page itself is as wide as the window.
  assert said[-1] == 500


@pytest.mark.slow
def test_a_wide_table_does_not_widen_a_phones_page(tmp_path):
  """Chromium's window has a least width, so a frame of 390 pixels stands for the phone."""
  page = document.page(blocks_of(AWKWARD), ".")
  (tmp_path / "page.html").write_text(page)
  script = """<script>onload = () => {
    const inner = document.querySelector("iframe").contentDocument.documentElement;
    document.body.textContent = "SAID" + inner.scrollWidth + "SAID";
  }</script>"""
  frame = f'<iframe width="390" height="800" style="border: 0" src="page.html"></iframe>{script}'
  (tmp_path / "frame.html").write_text(f"<!DOCTYPE html><body>{frame}")
  address = (tmp_path / "frame.html").as_uri()
  out = browser(tmp_path, "--allow-file-access-from-files", "--dump-dom", address)
  assert out.split("SAID")[1] == "390"
