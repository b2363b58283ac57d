"""The snippets of docs/your-own-network.md run, one after the other, and print what it shows."""

import pathlib
import re

import jax
import numpy as np

PAGE = pathlib.Path(__file__).parents[2] / "docs" / "your-own-network.md"


def test_the_snippets_run(capsys):
  text = PAGE.read_text()
  names = {}
  for snippet in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
    exec(compile(snippet, str(PAGE), "exec"), names)
  (table,) = re.findall(r"```text\n(.*?)```", text, re.DOTALL)
  assert capsys.readouterr().out == table
  # What the training step and the last lines computed.
  assert np.isfinite(names["value"])
  assert all(np.any(g) for g in jax.tree.leaves(names["gradients"]["head"]))
  assert names["losses"][-1] < names["losses"][0]
