"""Lists the trained networks that come with the package, or prints the cards of some.

`predict`, `eval` and `export` take their names, as in --model=NAME.
"""

import json

from apprentice_jax import zoo
from apprentice_jax.cli import flags as shared

HELP = "list the trained networks that come with the package"


def flags(parser):
  add = parser.add_argument
  add("networks", nargs="*", default=[], metavar="NAME", help="the networks whose cards to print")
  add("--json", **shared.SWITCH, help="print one JSON object a line")


def run(given):
  cards = [zoo.card(name) for name in given.networks or zoo.names()]
  if given.json:
    print(*(json.dumps(card._asdict(), ensure_ascii=False) for card in cards), sep="\n")
  elif given.networks:
    print(*map(zoo.text, cards), sep="\n\n")
  else:
    print(zoo.table(cards))
    print("\n`apprentice models NAME` prints a card.")
