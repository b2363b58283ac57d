"""Writes docs/models.md, the trained networks: python docs/write_models_page.py."""

import pathlib

from apprentice_jax import zoo

PAGE = pathlib.Path(__file__).with_name("models.md")
HEAD = """# Networks that come with the package

A packed file of each network below is part of the installed package. `apprentice models` lists
them, and `apprentice models NAME` prints a card. CIFAR-10's classes are airplane, automobile, bird,
cat, deer, dog, frog, horse, ship and truck: any other picture gets one of these, too.

{table}

The files have the package's licence, Apache 2.0. A card names the source of the images, their
licence, and the source of the teacher.

The accuracy is that of the packed file on the whole test set. The last column has the accuracies of
the trainings that differ in the seed alone, as trained. No accuracy
decided which seed's file is here; the card names the rule.

## Use one

    apprentice predict --model={name} photo.jpg holiday/
    apprentice eval --model={name} --data_dir=DIR
    apprentice export --model={name} --format=c --out=student

`predict` names the likeliest classes of pictures; it needs no data. `eval` scores the whole test
set; the network knows its dataset. `apprentice prepare --dataset={data}` downloads the set once,
with the extra `[prepare]`.
`export` writes the network as ONNX, StableHLO, C code, a web page, or another packed file.

In Python, `apprentice_jax.load("{name}")` reads the same network; its `logits` take
uint8 images.

`--model` is an existing file, or an existing folder of C code. It is a network's name where there
is neither. Where there are both, the command says which one it took.

## Cards
"""
ADD = """
## Add one

    python results/add_to_zoo.py NAME FOLDER/FILE.packed --runs FOLDER... --data_dir=DIR \\
      --commit=... --command=... --chosen=... --teacher_source=...

The script copies a packed file and makes its card. The figures come from config.json
and result.json in the folders of the run and of its other seeds. The script scores the file on the
test set. It also writes this page, and the logits that a test expects on drawn pictures.
"""


def page() -> str:
  """The page as Markdown: a table of all networks, how they are used, and their cards."""
  cards = [zoo.card(name) for name in zoo.names()]
  first = cards[0]
  lines = [HEAD.format(table=zoo.table(cards), name=first.name, data=first.data["data.name"])]
  for card in cards:
    lines.append("\n".join(f"    {line}" for line in zoo.text(card).splitlines()) + "\n")
  return "\n".join(lines) + ADD


if __name__ == "__main__":
  PAGE.write_text(page())
