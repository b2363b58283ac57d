"""What an HTML page says, for the tests of reports."""

import html.parser


class Page(html.parser.HTMLParser):
  """Reads an HTML page: its links, its words, and whether it closes what it opens."""

  VOID = ("meta", "img", "wbr", "!doctype")

  def __init__(self, text):
    super().__init__()
    self.references, self.open, self.tags, self.words, self.cells = [], [], [], "", []
    self.feed(text)
    self.close()

  def handle_starttag(self, tag, attributes):
    self.tags.append(tag)
    self.references += [
      v for k, v in attributes if k in ("src", "href", "srcset", "action", "data", "poster")
    ]
    if tag in ("td", "th"):
      self.cells.append("")
    if tag not in self.VOID:
      self.open.append(tag)

  def handle_endtag(self, tag):
    assert self.open.pop() == tag

  def handle_data(self, data):
    if self.open and self.open[-1] in ("td", "th"):
      self.cells[-1] += data
    if self.open and self.open[-1] not in ("script", "style"):
      self.words += data
