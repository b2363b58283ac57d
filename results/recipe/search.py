"""Which recipe: short runs on Fashion-MNIST, scored on 5,000 held-out training images.

    apprentice study --config=results/recipe/search.py --config.data.dir=DATA --workdir=WORKDIR

The study trains configs/fashion_mnist.py at 8A,2W without a teacher ("baseline") and with one
("B"), at this config and at each of VARIATIONS. A variation changes one thing, alike for both, so
that both have the same budget; the last nine concern the teacher alone. Its report says what each
variation changes. The same command continues the study; the test set is not touched.
"""

from apprentice_jax.configs import fashion_mnist

VARIATIONS = (
  "per-tensor: quantization.per_channel=False",
  "lsq-weights: quantization.weights=lsq",
  "ttq-weights: quantization.weights=ttq",
  "lsq-activations: quantization.activations=lsq",
  "wrpn-activations: quantization.activations=wrpn",
  "rate-0.1: recipe.student.learning_rate=0.1",
  "rate-0.5: recipe.student.learning_rate=0.5",
  "no-decay: recipe.student.weight_decay=0",
  "decay-5e-4: recipe.student.weight_decay=5e-4",
  "steps: recipe.student.schedule=step",
  "ten-epochs: recipe.student.epochs=10",
  "gamma-0.25: loss.gamma=0.25, loss.beta=0.75",
  "gamma-0.75: loss.gamma=0.75, loss.beta=0.25",
  "gamma-1: loss.gamma=1, loss.beta=0",
  "tau-2: loss.temperature=2",
  "tau-4: loss.temperature=4",
  "tau-4-gamma-32nd: loss.temperature=4, loss.gamma=0.03125",
  "stored-images: teacher_input.augmented=False",
  "shallower-teacher: teacher.name=resnet8",
  "deeper-teacher: teacher.name=resnet20",
)


def get_config(argument=""):
  config = fashion_mnist.get_config(argument)
  config.eval.final = "validation"
  config.eval.every_epochs = config.checkpoint.every_epochs = 0.0
  config.cpu_devices = 1
  config.teacher_input.cached = True
  config.study.cells = ("teacher", "baseline", "B")
  config.study.seeds = (0, 1)
  config.study.variations = VARIATIONS
  return config
