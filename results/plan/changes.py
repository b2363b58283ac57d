"""Quantized steps beside full-precision ones, from the plans' JSON files."""

import json
import pathlib

HERE = pathlib.Path(__file__).parent
PARTS = ("student forward", "student backward", "optimizer", "other")


def plan(name):
  return json.loads((HERE / f"{name}.json").read_text())["plans"][0]


def row(name, plain):
  found = plan(name)
  parts = [f"{found['cycles_by_part'][part] / 1e6:.3f}" for part in PARTS]
  return [f"{found['cycles'] / 1e6:.3f}", *parts, f"{found['cycles'] / plan(plain)['cycles']:.3f}"]


def main():
  print(
    "| step | M cycles | forward | backward | optimizer | other | of 32A,32W |\n" + "|---" * 7 + "|"
  )
  for path in sorted(HERE.glob("resnet20-*.json")):
    name = path.stem
    plain = f"resnet20-32A32W-{name.split('-')[-1]}"
    print(f"| {name} | " + " | ".join(row(name, plain)) + " |")


if __name__ == "__main__":
  main()
