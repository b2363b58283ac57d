"""The report of one run: classes, confusion, mistakes, the health of layers, and where it comes
from."""

import json
import re

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image
from scipy.stats import binomtest
from sklearn import metrics as reference

from apprentice_jax import config as configs
from apprentice_jax.distill.step import Predicted
from apprentice_jax.training import predictions, report
from apprentice_jax.training.workdir import record_start, write_config

NAMES = ["a cat", "<b>dog</b>", "it's | a fox", "wolf"]


def finished(workdir, answers=None, names=NAMES, records=()):
  """A workdir as a finished run leaves it."""
  workdir.mkdir(parents=True, exist_ok=True)
  config = configs.base()
  config.data.name = "digits"
  write_config(workdir, config)
  (workdir / "classes.json").write_text(json.dumps(names))
  (workdir / "result.json").write_text(json.dumps({"test_accuracy": 0.5, "test_count": 1234}))
  (workdir / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
  if answers is not None:
    predictions.write(workdir, answers, names, "img{}.png".format)
  return workdir


def drawn(count=200, classes=4, seed=0):
  random = np.random.default_rng(seed)
  label = random.integers(0, classes, count).astype(np.int32)
  predicted = np.where(random.random(count) < 0.6, label, random.integers(0, classes, count))
  uncounted = random.random(count) < 0.1
  return Predicted(
    np.where(uncounted, -1, label),
    np.where(uncounted, -1, predicted),
    random.random(count).astype(np.float32),
  )


def table(text, heading):
  """The cells of the first table under a heading, without its escapes."""
  lines = text[text.index(f"## {heading}\n") :].splitlines()
  first = next(i for i, line in enumerate(lines) if line.startswith("|"))
  rows = []
  for line in lines[first:]:
    if not line.startswith("|"):
      break
    cells = line.strip("|").replace(r"\|", "\0").split("|")
    rows.append([re.sub(r"\\(?=[<$])", "", c.strip()).replace("\0", "|") for c in cells])
  return [rows[0], *rows[2:]]


def test_accuracy_of_each_class_and_the_confusion_matrix_are_scikit_learns(tmp_path):
  answers = drawn()
  report.write_run(finished(tmp_path / "run", answers))
  text = (tmp_path / "run" / "report.md").read_text()
  counted = answers.label >= 0
  label, predicted = answers.label[counted], answers.predicted[counted]
  wanted = reference.confusion_matrix(label, predicted)
  columns, *rows = table(text, "Which class is taken for which")
  assert columns == ["true class", *NAMES] and [row[0] for row in rows] == NAMES
  np.testing.assert_array_equal([[int(c or 0) for c in row[1:]] for row in rows], wanted)
  recall = reference.recall_score(label, predicted, average=None)
  _, *rows = table(text, "Accuracy by class")
  assert [row[3] for row in rows] == [f"{100 * r:.2f}" for r in recall]
  assert [int(row[1]) for row in rows] == np.bincount(label).tolist()


@pytest.mark.parametrize("right, count", [(0, 4), (1, 4), (4, 4), (182, 360), (8703, 10000)])
def test_the_interval_is_scipys(right, count):
  wanted = binomtest(right, count).proportion_ci(method="wilson")
  assert report.wilson(right, count) == pytest.approx((wanted.low, wanted.high), abs=1e-12)


@pytest.mark.parametrize("count, few", [(4, True), (1000, False)])
def test_an_accuracy_of_few_images_has_its_interval(count, few, tmp_path):
  workdir = finished(tmp_path)
  (workdir / "result.json").write_text(json.dumps({"test_accuracy": 0.0, "test_count": count}))
  sentence = "4 images are few: on many the accuracy is likely between 0% and 49% (Wilson's 95%"
  # It is printed at the end of a run, too.
  for text in (report.write_run(workdir), (workdir / "report.md").read_text()):
    assert (sentence in text) == few and ("among 4 classes gives 25.0%" in text) == few


def test_mistakes_are_the_wrong_predictions_by_confidence(tmp_path):
  answers, asked = drawn(), []

  def images(index):
    asked.append(index)
    return np.zeros((len(index), 8, 8, 3), np.uint8)

  report.write_run(finished(tmp_path / "run", answers), images)
  wrong = [i for i in range(200) if answers.label[i] != answers.predicted[i]]
  wrong.sort(key=lambda i: -answers.confidence[i])
  _, *rows = table((tmp_path / "run" / "report.md").read_text(), "The most confident mistakes")
  assert [row[0] for row in rows] == [f"img{i}.png" for i in wrong[:12]]
  assert [row[1:3] for row in rows] == [
    [NAMES[answers.label[i]], NAMES[answers.predicted[i]]] for i in wrong[:12]
  ]
  assert asked[0].tolist() == sorted(wrong[:12])
  assert Image.open(tmp_path / "run" / "mistakes.png").size[0] > 400
  page = (tmp_path / "run" / "report.html").read_text()
  assert "<b>dog" not in page and "&lt;b&gt;dog" in page and page.count("data:image/png") == 1


@pytest.mark.parametrize("classes, file", [(20, True), (150, False)])
def test_many_classes(tmp_path, classes, file):
  names = [f"class ${i}" for i in range(classes)]
  answers = drawn(3000, classes)
  report.write_run(finished(tmp_path / "run", answers, names))
  text = (tmp_path / "run" / "report.md").read_text()
  assert (tmp_path / "run" / "confusion.png").exists() == file
  columns, *rows = table(text, "Accuracy by class")
  if file:
    assert len(rows) == classes
    return
  wanted = reference.confusion_matrix(
    answers.label[answers.label >= 0], answers.predicted[answers.label >= 0]
  )
  recall = [wanted[names.index(row[0])].astype(float) for row in rows]
  assert len(rows) == 30
  worst = np.sort(wanted.diagonal() / wanted.sum(1))[:30]
  np.testing.assert_allclose([float(row[3]) for row in rows], 100 * worst, atol=0.01)
  assert recall and all(r.sum() for r in recall)
  np.fill_diagonal(wanted, 0)
  _, *pairs = table(text, "Which class is taken for which")
  assert [int(row[2]) for row in pairs] == np.sort(wanted, axis=None)[::-1][:30].tolist()


def test_nothing_wrong_and_nothing_known(tmp_path):
  same = np.arange(4, dtype=np.int32)
  report.write_run(finished(tmp_path / "right", Predicted(same, same, np.ones(4, np.float32))))
  assert (
    "classifies every image of the test split correctly"
    in (tmp_path / "right" / "report.md").read_text()
  )
  report.write_run(finished(tmp_path / "earlier"))  # a run before predictions were kept
  assert "Accuracy by class" not in (tmp_path / "earlier" / "report.md").read_text()


def test_flips_are_of_steps_that_learn(tmp_path):
  record = lambda step, rate, flips: {
    "step": step,
    "epoch": step / 10,
    "loss": 1.0,
    "student_accuracy": 0.5,
    "learning_rate": rate,
    "zeros/conv1": 0.4,
    "flips/conv1": flips,
    "saturation/act1": 0.1,
  }
  report.write_run(
    finished(
      tmp_path / "run",
      records=[record(10, 0.1, 0.03), record(20, 0.01, 0.02), record(30, 0.0, 0.0)],
    )
  )
  text = (tmp_path / "run" / "report.md").read_text()
  _, *rows = table(text, "Health of the layers")
  assert rows[0] == ["conv1", "40%", "2%", ""] and "flips: step 20" in text


def test_where_a_report_comes_from(tmp_path, monkeypatch):
  workdir = finished(tmp_path / "run")
  monkeypatch.setattr(
    "sys.argv", ["/somewhere/apprentice_jax/__main__.py", "train", "--workdir=a b"]
  )
  for _ in range(7):
    record_start(workdir)
  report.write_run(workdir)
  text = (workdir / "report.md").read_text()
  columns, *rows = table(text, "How it was made")
  assert columns == ["date", "folder", "commit", "version", "jax", "devices"] and len(rows) == 5
  assert "The last 5 of 7 starts." in text and 'apprentice train --workdir="a b"' in text


UNDRAWABLE = ["猫", "いぬ", "हाथी", "bell \a", "  "]  # by the font that matplotlib brings along


@pytest.fixture
def texts(monkeypatch):
  """The texts of the pictures that are written."""
  found, savefig = [], Figure.savefig

  def read(figure, *args, **kwargs):
    savefig(figure, *args, **kwargs)
    found.extend(text.get_text() for text in figure.findobj(Text))

  monkeypatch.setattr(Figure, "savefig", read)
  return found


@pytest.mark.filterwarnings("error")
def test_a_picture_numbers_the_classes_whose_names_it_cannot_show(tmp_path, texts):
  names = [f"class {i}" for i in range(8)] + UNDRAWABLE + ["żółw", "naïve $x$"]
  answers = drawn(3000, len(names))
  report.write_run(
    finished(tmp_path / "run", answers, names),
    lambda index: np.zeros((len(index), 8, 8, 3), np.uint8),
  )
  for shown in ("#8", "#12", "class 7", "żółw", r"naïve \$x\$"):
    assert shown in texts
  assert "#7" not in texts
  assert not set("".join(texts)) & (set("".join(UNDRAWABLE)) - set("bell "))
  text = (tmp_path / "run" / "report.md").read_text()
  pairs = text[text.index("The picture has") : text.index("## The most confident mistakes")]
  for place, name in enumerate(UNDRAWABLE, 8):
    assert f"| #{place} | {name.strip()} |" in pairs
  assert "#7" not in pairs
  # A picture of mistakes, beside whose names their numbers stand.
  _, *rows = table(text, "The most confident mistakes")
  titles = [title for title in texts if "\nas " in title]
  assert len(titles) == len(rows) == 12 and any("#" in title for title in titles)
  for title, row in zip(titles, rows):
    for label, cell in zip(re.fullmatch(r"(.*)\nas (.*), \d+%", title).groups(), row[1:3]):
      plain = label.replace("\\", "")
      assert cell.endswith(f"({plain})") if label.startswith("#") else cell == plain


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("classes", [4, 14])
def test_names_of_several_lines(tmp_path, classes, texts):
  names = [
    "two\nlines",
    "a\ttab",
    "mac\rline",
    "windows\r\nline",
    *(f"class {i}" for i in range(classes - 4)),
  ]
  answers = drawn(600, classes)
  report.write_run(
    finished(tmp_path / "run", answers, names),
    lambda index: np.zeros((len(index), 8, 8, 3), np.uint8),
  )
  _, *rows = table((tmp_path / "run" / "report.md").read_text(), "Accuracy by class")
  assert [" ".join(row[0].split()) for row in rows] == [" ".join(name.split()) for name in names]
  assert "The picture has numbers" not in (tmp_path / "run" / "report.md").read_text()
  assert texts and not any(c in "".join(texts).replace("\nas ", "") for c in "\t\r\n")
  if classes > 12:
    assert {"two lines", "a tab", "mac line", "windows line"} <= set(texts)
