"""A report as data: headings, paragraphs, lists, tables, commands and pictures.

`markdown` writes it as Markdown, `page` as one HTML file, and `table` writes a table alone.
"""

from apprentice_jax.document.blocks import Code, Heading, List, Picture, Table, Text
from apprentice_jax.document.markdown import markdown, table
from apprentice_jax.document.page import page

__all__ = ["Code", "Heading", "List", "Picture", "Table", "Text", "markdown", "page", "table"]
