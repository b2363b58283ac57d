"""All plans in a table; a full-precision one beside a reference, and scheme A's step beside those
of its two networks trained apart."""

import json
import pathlib

# Flax's ImageNet example, ResNet-50, bfloat16, 128 images a chip, v5e:2x4, on the same compiler:
# the sum of the fusions' estimated cycles, the all-reduces, and the temporaries in GiB.
REFERENCE = {"cycles": 109.5e6, "all_reduces": 99, "temporaries": 4.14 * 2**30}
SHOWN = {
  "cycles": lambda x: f"{x / 1e6:.2f} M",
  "all_reduces": str,
  "temporaries": lambda x: f"{x / 2**30:.3f} GiB",
}


def plans(name):
  return json.loads(pathlib.Path(__file__).with_name(f"{name}.json").read_text())["plans"]


def plan(name):
  return plans(name)[0]


def overview():
  """All plans of students with teachers, a row each."""
  for student, teacher in (("resnet18", "ResNet-34"), ("resnet50", "ResNet-101")):
    for scheme in "AB":
      for p in plans(f"{student}-{scheme}"):
        hours = p["steps"] * p["step_seconds"] / 3600
        yield (
          f"{student.replace('resnet', 'ResNet-')}, {teacher}",
          scheme,
          p["topology"],
          p["batch_per_chip"],
          f"{p['needed'] / 2**30:.2f} of {p['chip_memory'] // 2**30} GiB",
          f"{p['cycles'] / 1e6:.1f}",
          p["all_reduces"],
          f"{p['compute_seconds'] * 1e3:.1f} + {p['all_reduce_seconds'] * 1e3:.1f}",
          f"{p['images_per_second_per_chip']:,.0f}",
          f"{hours:.2f}",
        )


def main():
  print(
    "| student, teacher | scheme | slice | images a chip | memory a chip | M cycles | all-reduces "
    "| "
    "step, ms: compute + all-reduce | images/s a chip | hours, 120 epochs |\n" + "|---" * 10 + "|"
  )
  for row in overview():
    print("| " + " | ".join(map(str, row)) + " |")
  print()
  ours = plan("full-precision")
  print("| full-precision ResNet-50 | this project | Flax's example | ratio |\n|---|---|---|---|")
  for key, reference in REFERENCE.items():
    print(
      f"| {key.replace('_', '-')} | {SHOWN[key](ours[key])} | {SHOWN[key](reference)} | "
      f"{ours[key] / reference:.3f} |"
    )
  joint, apart = plan("resnet50-A"), [plan("student-apart"), plan("teacher-apart")]
  total = sum(p["cycles"] for p in apart)
  print("\n| 8A,2W ResNet-50, ResNet-101 teacher | cycles |\n|---|---|")
  for name, p in zip(("student apart", "teacher apart"), apart):
    print(f"| {name} | {p['cycles'] / 1e6:.2f} M |")
  print(f"| scheme A, together | {joint['cycles'] / 1e6:.2f} M |")
  print(f"| together, of the sum | {joint['cycles'] / total:.4f} |")
  print("\n| step | all-reduces | bytes of gradients and statistics |\n|---|---|---|")
  for name in ("full-precision", "resnet18-A", "resnet18-B", "resnet50-A", "resnet50-B"):
    p = plan(name)
    print(f"| {name} | {p['all_reduces']} | {p['all_reduced'] / p['to_reduce']:.5f} |")


if __name__ == "__main__":
  main()
