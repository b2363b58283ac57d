"""The commands and snippets of README.md and docs/ run, one page after the other.

A page's blocks run in their order, in a folder with copies of what they name. `apprentice` is then
a program that trains in the short form of each config. Words such as DIR become files that are
there. What a table below leaves to another test is named with this test.
"""

import os
import pathlib
import shutil
import subprocess
import sys
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import markdown_pages as pages
import numpy as np
import pytest
import tools
from markdown_pages import ROOT
from PIL import Image

from apprentice_jax.deploy import lower, onnx
from apprentice_jax.distill.step import Network
from apprentice_jax.models import resnet

sys.path.insert(0, str(ROOT / "tests" / "training"))
from runs import named_torch  # noqa: E402

SMALL = "student=resnet8,teacher=resnet8,width=0.25"
# Trains with `runlocal`, on small networks where the config has digits.
SHORT = """#!{python}
import os, sys
words = sys.argv[1:]
small = "{small},"
for i, word in enumerate(words):
  if words[0] in ("train", "study", "plan") and word.startswith("--config="):
    name, _, arguments = word.partition(":")
    own = any(w.startswith("--config.student.name") for w in words)
    on_digits = name == "--config=digits" or name.endswith("/digits.py")
    more = small if on_digits and not own and "=resnet" not in arguments else ""
    words[i] = ",".join(filter(None, (arguments, more + "runlocal"))).join((name + ":", ""))
if words[0] == "study" and not any(w.startswith(("--config.study.cells", "--st")) for w in words):
  words.append("--config.study.cells=('teacher','student','baseline','B')")
os.execv(sys.executable, [sys.executable, "-m", "apprentice_jax", *words])
"""
CIFAR10 = "--config.data.name=digits --config.data.mean='(0.5,)' --config.data.std='(0.5,)'"
COLOURS = {"apples": (200, 40, 40), "kiwis": (60, 180, 60), "plums": (60, 60, 200)}
INSTALL = dict.fromkeys(
  ("pip install", "python3 -m venv", ".venv/bin/pip", "source .venv"), "test_install.py"
)


def photos(folder: pathlib.Path):
  """Folders of photos of three classes, and FILE, a ResNet-8 of seven other classes."""
  random = np.random.default_rng(0)
  for path in ("photos", "more_photos", "holiday"):
    for name, colour in COLOURS.items():
      (folder / path / name).mkdir(parents=True)
      for i in range(10):
        pixels = np.clip(np.array(colour) + random.normal(0, 20, (40, 48, 3)), 0, 255)
        Image.fromarray(pixels.astype(np.uint8)).save(folder / path / name / f"{i}.jpg")
  shutil.copy(folder / "photos" / "kiwis" / "0.jpg", folder / "photo.jpg")
  network(resnet("resnet8", 7), 3, folder / "FILE")


def network(model, channels, path):
  """A checkpoint of random weights, with the names of torchvision."""
  variables = model.init(jax.random.key(0), jnp.zeros((1, 32, 32, channels)), train=True)
  classes = range(model.num_classes)
  named_torch(Network(variables["params"], variables["batch_stats"]), path, classes)


def teachers(folder: pathlib.Path):
  """The files of teachers: those that the page's snippets write, and one of ONNX."""
  photos(folder)
  names = {}
  for language, text in pages.blocks(ROOT / "docs" / "teachers.md"):
    if language == "python":
      exec(compile(text, "teachers.md", "exec"), names)
  model = resnet("resnet8", 10, "8A,4W", width=0.25)
  variables = model.init(jax.random.key(0), jnp.zeros((1, 8, 8, 1)), train=False)
  digits = tuple(map(str, range(10)))
  about = dict(image_shape=(8, 8, 1), class_names=digits, mean=(0.5,), std=(0.5,), resize=0)
  lowered = lower.lower(model, variables["params"], variables["batch_stats"], **about)
  onnx.write(lowered, folder / "teacher.onnx")
  network(resnet("resnet8", 10, width=0.25), 1, folder / "resnet20.th")
  (folder / "names.txt").write_text("\n".join(digits) + "\n")


# Of which another test runs the snippets.
SNIPPETS = {
  "docs/onnxruntime.md": {"python"},  # deploy/test_predict.py
  "docs/teachers.md": {"python"},  # training/test_teachers.py
  "docs/your-own-network.md": {"python"},  # models/test_your_own_network.py
}


class Page(NamedTuple):
  """How a page's blocks run.

  Attributes:
    make: makes the files that they name, in a folder.
    replaced: words and what stands for them.
    elsewhere: the beginnings of commands, and the test that runs them.
    languages: of the blocks that run; another test runs the others.
    needs: programs without which the page is not run.
  """

  make: Callable[[pathlib.Path], None] = lambda folder: None
  replaced: dict[str, str] = {}
  elsewhere: dict[str, str] = {}
  languages: tuple[str, ...] = ("bash", "", "python", "c")
  needs: tuple[str, ...] = ()


PAGES = {
  "README.md": Page(
    photos,
    {'"scheme=B,precision=8A2W"': '"scheme=B,precision=8A2W,width=0.25,runlocal"'},
    {**INSTALL, "bash launch/test.sh": "test.sh runs the tests"},
  ),
  "docs/data.md": Page(
    photos,
    {"DIR": "photos", "precision=8A2W --data_dir=DATA": f"precision=8A2W,{SMALL} {CIFAR10}"},
    {**INSTALL, "apprentice prepare": "data/test_prepare_with_tensorflow.py"},
  ),
  "docs/formats.md": Page(photos),
  "docs/getting-started.md": Page(photos, elsewhere=INSTALL),
  "docs/interruptions.md": Page(
    replaced={
      "resume.py": "resume.py --kills=1",
      "digits.py:scheme": f"digits.py:{SMALL},runlocal,scheme",
    }
  ),
  "docs/microcontrollers.md": Page(
    elsewhere={**INSTALL, "apt ": "the machine's own"},
    needs=("arm-none-eabi-gcc", "qemu-system-arm"),
  ),
  "docs/models.md": Page(
    photos,
    elsewhere={"apprentice eval": "test_zoo.py", "python results/add_to_zoo.py": "test_zoo.py"},
  ),
  "docs/plan.md": Page(replaced={",v5e:16x16": ""}, elsewhere=INSTALL),
  "docs/schemes.md": Page(),
  "docs/several-machines.md": Page(
    elsewhere={
      "bash launch/tpu_pod.sh": "launch/test_tpu_pod.py",
      "apprentice train": "training/test_processes.py",
    }
  ),
  "docs/studies.md": Page(replaced={"(2, 3)": "(2,)"}),
  "docs/teachers.md": Page(
    teachers,
    {
      "cifar10:student=resnet20,precision=32A32W --data_dir=DATA": (
        "digits:student=resnet8,width=0.25,precision=32A32W"
      )
    },
    languages=("bash",),
  ),
  "docs/web.md": Page(photos, elsewhere=INSTALL),
  "docs/your-own-network.md": Page(replaced={"(0, 1, 2)": "(0,)"}, languages=("bash",)),
}


def test_every_page_with_blocks_is_here():
  for page in [pages.README, *pages.DOCS]:
    name = pages.name(page)
    found = {language for language, _ in pages.blocks(page)} & {"bash", "python", "c"}
    run = set(PAGES[name].languages) if name in PAGES else set()
    assert found <= run | SNIPPETS.get(name, set()), name


@pytest.fixture
def place(tmp_path):
  """A folder like a clone of the repository, whose .venv has the short form of `apprentice`."""
  for name in ("configs", "examples", "launch", "benchmarks"):
    shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
  for name in ("apprentice_jax", "tests", "setup.cfg"):
    (tmp_path / name).symlink_to(ROOT / name)
  programs = tmp_path / ".venv" / "bin"
  programs.mkdir(parents=True)
  # No link: Python looks for its packages beside the name that it was called by.
  texts = {
    "python": f'#!/bin/sh\nexec {sys.executable} "$@"\n',
    "apprentice": SHORT.format(python=sys.executable, small=SMALL),
  }
  for name, text in texts.items():
    (programs / name).write_text(text)
    (programs / name).chmod(0o755)
  # launch/local.sh finds the package installed, with the extras of a machine without a GPU.
  stamp = "cksum < setup.cfg | cut -d' ' -f1"
  number = subprocess.check_output(["bash", "-c", stamp], cwd=tmp_path, text=True).strip()
  (programs.parent / f"installed-{number}").touch()
  return tmp_path


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", PAGES)
def test_a_page_runs(name, place, monkeypatch):
  page = PAGES[name]
  for program in page.needs:
    tools.program(program)
  monkeypatch.chdir(place)
  page.make(place)
  names = {}
  ran = 0
  for language, text in pages.blocks(ROOT / name):
    if language not in page.languages:
      continue
    for words, stand_in in page.replaced.items():
      text = text.replace(words, stand_in)
    if language == "python":
      exec(compile(text, name, "exec"), names)
    elif language == "c":
      (place / "snippet.c").write_text(text)
      subprocess.run(["cc", "-c", "-I", "student", "snippet.c"], check=True)
    else:
      shell(text, language, page.elsewhere)
    ran += 1
  assert ran


def shell(text, language, elsewhere):
  """Runs a block of commands without those that another test runs."""
  lines = pages.lines(text, language)
  wanted = [line for line in lines if not line.startswith(tuple(elsewhere))]
  env = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"}
  env["XLA_FLAGS"] = "--xla_backend_optimization_level=0"
  env["PYTHONPATH"] = str(ROOT)
  env["PATH"] = f"{pathlib.Path('.venv/bin').absolute()}:{env['PATH']}"
  script = "\n".join(wanted)
  done = subprocess.run(
    ["bash", "-euo", "pipefail", "-c", script], env=env, capture_output=True, text=True, check=False
  )
  assert done.returncode == 0, f"{script}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
