"""A fixed teacher's kept logits are what it says; its own view of the images is what was asked
for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from runs import final_state, tiny, untimed

from apprentice_jax.data import order
from apprentice_jax.data.augment import Augmentation, augmented
from apprentice_jax.data.splits import open_splits
from apprentice_jax.errors import ConfigError, Preempted
from apprentice_jax.training import api, networks, preemption, recipes, teacher_logits
from apprentice_jax.training.dispatch import Program
from apprentice_jax.training.records import read_records

# The teacher was trained on images of another normalisation (0.5, 0.5). A student in full
# precision, at a low rate: levels that round otherwise would be differences of their own.
KEPT = dict(
  scheme="B",
  precision="32A,32W",
  recipe__student__epochs=2.4,
  recipe__student__learning_rate=0.02,
  data__mean=(0.2,),
  data__std=(0.3,),
)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
  """An empty folder to keep logits in; the digits stay where they are."""
  found = tmp_path / "kept"
  monkeypatch.setattr(teacher_logits, "cache_dir", lambda: found)
  return found / "logits"


def config_of(pretrained, **changes):
  return tiny(**{**KEPT, "teacher__init": str(pretrained), **changes})


def losses(workdir, name="loss"):
  return np.array([r[name] for r in read_records(workdir) if name in r])


def logits_by_hand(config, epoch, indices):
  """What the teacher says of augmented examples, one by one."""
  data = open_splits(config.data)["train"]
  teacher = networks.fixed_teacher(config, data, config.teacher.init)
  key = jax.random.fold_in(jax.random.key(config.seed), 3)
  aug = Augmentation(config.data.pad, config.data.flip)
  every = jnp.asarray(data.sample(np.arange(data.size)))
  images = (
    augmented(every, jnp.asarray(indices), jnp.full(len(indices), epoch), key, aug)
    if epoch is not None
    else (every[jnp.asarray(indices)])
  )
  mean, std = recipes.normalisation(config, "teacher")
  images = (np.asarray(images, np.float64) / 255 - np.array(mean)) / np.array(std)
  variables = {"params": teacher.network.params, "batch_stats": teacher.network.batch_stats}
  return teacher.model.apply(variables, jnp.asarray(images, jnp.float32), False)


def kept(cache, epoch):
  (path,) = cache.glob(f"*/{epoch:05d}-*.npy")
  return np.load(path)


@pytest.fixture(scope="module")
def computed(pretrained, tmp_path_factory):
  """A run of 2.4 epochs whose teacher runs in every step."""
  workdir = tmp_path_factory.mktemp("computed")
  api.train(config_of(pretrained), workdir)
  return workdir


def test_a_run_with_kept_logits_is_the_run_without(computed, pretrained, cache, tmp_path, capsys):
  result = api.train(config_of(pretrained, teacher_input__cached=True), tmp_path / "run")
  # As many epochs as the run begins; what they take is said first.
  assert sorted(p.name[:5] for p in cache.glob("*/*")) == ["00000", "00001", "00002"]
  said = capsys.readouterr().out
  assert "teacher's logits: 3 epochs x 1,437 images x 10 classes, 0.2 MB on every device" in said
  for name in ("loss", "distill", "teacher_ce", "student_ce", "teacher_accuracy"):
    np.testing.assert_allclose(
      losses(tmp_path / "run", name), losses(computed, name), rtol=1e-4, atol=1e-6
    )
  assert np.ptp(losses(computed)) > 0.1
  without = api.result(computed)
  assert result.keys() == without.keys()
  assert result["test_teacher_accuracy"] == without["test_teacher_accuracy"]
  assert abs(result["test_accuracy"] - without["test_accuracy"]) < 0.02
  indices = np.array([0, 5, 1400])
  config = config_of(pretrained)
  for epoch in (0, 2):
    np.testing.assert_allclose(
      kept(cache, epoch)[indices], logits_by_hand(config, epoch, indices), atol=1e-4
    )
  # Another run finds them there.
  again = api.train(config_of(pretrained, teacher_input__cached=True), tmp_path / "again")
  assert (
    "3 epochs of them are there" not in capsys.readouterr().out
  )  # nothing is said where nothing is to be done
  assert untimed(again) == untimed(result)


def test_agreement_and_the_teachers_accuracy_by_hand(computed, pretrained):
  config = config_of(pretrained)
  predicted = []
  for which, path in (("student", computed), ("teacher", pretrained)):
    model = networks.model(config, which, 10)
    network = networks.load(str(path), model, (8, 8, 1))
    data = open_splits(config.data)["test"]
    mean, std = {"student": (0.2, 0.3), "teacher": (0.5, 0.5)}[which]
    images = (data.sample(np.arange(data.size)) / 255 - mean) / std
    predicted.append(
      np.argmax(
        model.apply(
          {"params": network.params, "batch_stats": network.batch_stats},
          jnp.asarray(images, jnp.float32),
          False,
        ),
        -1,
      )
    )
  labels = np.concatenate([labels for _, labels in data.batches(config.eval.batch_size)])
  result = api.result(computed)
  assert abs(result["test_teacher_accuracy"] - np.mean(predicted[1] == labels)) < 1e-6
  assert (
    abs(result["test_agreement"] - np.mean(predicted[0] == predicted[1])) < 0.006
  )  # two images: ties of levels
  assert result["test_agreement"] < 1


@pytest.mark.slow
def test_augmentation_repeats_after_the_kept_epochs(pretrained, cache, tmp_path, monkeypatch):
  seen = []
  train = Program.train

  def look(self, state, data, chunk, *rest):
    seen.append((*map(np.asarray, chunk), data.logits.shape))
    return train(self, state, data, chunk, *rest)

  config = config_of(pretrained, teacher_input__cached=True, data__augmentation_epochs=1)
  monkeypatch.setattr(Program, "train", look)
  api.train(config, tmp_path / "run")
  assert {shape for *_, shape in seen} == {(1, 1437, 10)}
  assert max(epoch.max() for _, epoch, _ in seen) == 2  # each epoch has an order of its own
  # The images of epoch 1 are those of epoch 0: the teacher's accuracy on both is the same but for
  # the order.
  data = open_splits(config.data)["train"]
  accuracy = losses(tmp_path / "run", "teacher_accuracy")
  labels = np.concatenate([labels for _, labels in data.batches(config.eval.batch_size)])
  right = np.argmax(kept(cache, 0), -1) == labels
  index, _ = order.examples(config.seed, data.size, 25 * 64, 5 * 64)  # steps 25 to 30, in epoch 1
  np.testing.assert_allclose(accuracy[5], right[index].mean(), atol=1e-6)


@pytest.mark.slow
def test_a_teacher_that_sees_images_as_they_are(pretrained, cache, tmp_path):
  plain = dict(teacher_input__augmented=False)
  api.train(config_of(pretrained, **plain), tmp_path / "computed")
  api.train(config_of(pretrained, teacher_input__cached=True, **plain), tmp_path / "kept")
  assert len(list(cache.glob("*/*"))) == 1
  np.testing.assert_allclose(
    losses(tmp_path / "kept"), losses(tmp_path / "computed"), rtol=1e-4, atol=1e-6
  )
  indices = np.array([3, 77])
  np.testing.assert_allclose(
    kept(cache, 0)[indices], logits_by_hand(config_of(pretrained), None, indices), atol=1e-4
  )


def test_the_teachers_own_normalisation(computed, pretrained, tmp_path):
  # That of its workdir was found; a checkpoint's is to be named.
  named = config_of(
    pretrained, teacher_input__mean=(0.5,), teacher_input__std=(0.5,), recipe__student__epochs=0.3
  )
  api.train(named, tmp_path)
  assert losses(tmp_path, "teacher_ce")[0] == losses(computed, "teacher_ce")[0]
  right = api.result(pretrained)["test_accuracy"]
  assert (
    api.result(tmp_path)["test_teacher_accuracy"]
    == api.result(computed)["test_teacher_accuracy"]
    == right
  )
  assert (
    api.evaluate_network(recipes.full_precision(named, "teacher"), str(pretrained))["accuracy"]
    == right
  )
  wrong = config_of(pretrained, teacher_input__mean=(0.2,), teacher_input__std=(0.3,))
  assert (
    api.evaluate_network(recipes.full_precision(wrong, "teacher"), str(pretrained))["accuracy"]
    != right
  )


def test_finished_epochs_survive_a_stop_and_damage(pretrained, cache, tmp_path, monkeypatch):
  config = config_of(pretrained, teacher_input__cached=True)
  write, stopped = teacher_logits._write, []

  def stop(folder, epoch, logits):
    write(folder, epoch, logits)
    stopped.append(epoch)
    if len(stopped) == 2:
      monkeypatch.setattr(preemption, "requested", lambda together: 15)

  monkeypatch.setattr(teacher_logits, "_write", stop)
  usual = preemption.requested
  with pytest.raises(
    Preempted, match="while computing the teacher's logits; finished epochs are kept"
  ):
    api.train(config, tmp_path / "run")
  monkeypatch.setattr(preemption, "requested", usual)
  (file,) = cache.glob(f"*/{stopped[0]:05d}-*")
  content = bytearray(file.read_bytes())
  content[len(content) // 2] ^= 1
  file.write_bytes(content)
  api.train(config, tmp_path / "run")
  (missing,) = {0, 1, 2} - set(stopped[:2])
  assert len(stopped) == 4 and set(stopped[2:]) == {stopped[0], missing}
  api.train(config, tmp_path / "unbroken")
  assert losses(tmp_path / "run").tolist() == losses(tmp_path / "unbroken").tolist()


def test_what_another_run_has_computed_by_then(pretrained, cache, tmp_path, monkeypatch):
  config = config_of(pretrained, teacher_input__cached=True)
  api.train(config, tmp_path / "run")
  (folder,) = cache.iterdir()
  expected = [kept(cache, epoch) for epoch in range(3)]
  for path in folder.iterdir():
    path.unlink()
  computed, compute = [], teacher_logits._epoch

  def beside_another(logits_of, teacher, data, epoch, *rest):
    for other in {0, 1, 2} - {epoch}:
      teacher_logits._write(folder, other, expected[other])
    computed.append(epoch)
    return compute(logits_of, teacher, data, epoch, *rest)

  monkeypatch.setattr(teacher_logits, "_epoch", beside_another)
  api.train(config, tmp_path / "again")
  assert len(computed) == 1
  assert losses(tmp_path / "again").tolist() == losses(tmp_path / "run").tolist()


@pytest.mark.slow
def test_a_continued_run_uses_them_too(pretrained, tmp_path, monkeypatch):
  config = config_of(pretrained, teacher_input__cached=True, recipe__student__epochs=2.4)
  api.train(config, tmp_path / "unbroken")
  requested = []

  def once(together=True):
    requested.append(together)
    return 15 if len(requested) == 12 else None  # within a chunk

  with monkeypatch.context() as patch:
    patch.setattr(preemption, "requested", once)
    with pytest.raises(Preempted, match="saved at step 29 of"):
      api.train(config, tmp_path / "run")
  api.train(config, tmp_path / "run")
  (step, state), (_, expected) = (final_state(tmp_path / name) for name in ("run", "unbroken"))
  assert step == 54
  for name, leaf in expected.items():
    np.testing.assert_array_equal(state[name], leaf, err_msg=name)


def test_no_room(pretrained, tmp_path, monkeypatch):
  monkeypatch.setattr(
    teacher_logits.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 1000})
  )
  with pytest.raises(
    ConfigError, match="the teacher's logits take 0.1 MB, and .* has 0.0 MB free: make room"
  ):
    api.train(
      config_of(pretrained, teacher_input__cached=True, data__augmentation_epochs=1),
      tmp_path / "run",
    )
