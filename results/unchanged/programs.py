"""Texts of compiled programs: python results/unchanged/programs.py OUT

OUT gets the StableHLO of training and evaluation, lowered on any machine for CPU, CUDA and TPU.
"""

import pathlib
import sys

import internals
import texts

DIGITS, CIFAR, PHOTOS = (1437, 10, (8, 8, 1)), (50_000, 10, (32, 32, 3)), (1_281_167, 1000)
FEW = {"steps_per_dispatch": 4}
# By name: a config, its changes, and the training set.
CASES = {
  "cifar10-A": ("cifar10.py:scheme=A,teacher=resnet20,precision=8A2W", FEW, *CIFAR),
  "cifar10-C-ttq-residual": (
    "cifar10.py:scheme=C,student=resnet8,teacher=resnet8,precision=8A2W",
    {**FEW, "quantization.weights": "ttq", "quantization.residual": True},
    *CIFAR,
  ),
  "digits-B": ("digits.py:scheme=B,precision=8A2W", FEW, *DIGITS),
  "digits-baseline-8A4W": ("digits.py:scheme=baseline,precision=8A4W", FEW, *DIGITS),
  "digits-paper": ("digits.py:scheme=B,preset=paper,precision=8A4W", FEW, *DIGITS),
  "imagenet-resnet18-A": (
    "imagenet.py:scheme=A,student=resnet18,teacher=resnet18,precision=8A2W",
    {**FEW, "batch_per_device": 0},
    *PHOTOS,
    (224, 224, 3),
  ),
  "imagenet-resnet50-baseline-remat": (
    "imagenet.py:scheme=baseline,student=resnet50,precision=8A4W,width=0.25",
    {**FEW, "batch_per_device": 0, "remat": "elementwise", "sync_batch_norm": True},
    *PHOTOS,
    (224, 224, 3),
  ),
}


def main(out: str):
  for name, case in CASES.items():
    given, folder = internals.Shapes(*case), pathlib.Path(out) / name
    for platform in ("cpu", "cuda", "tpu"):
      found = internals.training(given, platform) | internals.scoring(given, platform)
      for program, text in found.items():
        texts.write(folder / f"{platform}-{program}.program.gz", text)
    texts.write(folder / "plan.program.gz", internals.plan(given, "v5e:2x2"))
    print(name, flush=True)


if __name__ == "__main__":
  main(*sys.argv[1:])
