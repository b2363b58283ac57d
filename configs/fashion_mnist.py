"""Fashion-MNIST, 60,000 + 10,000 images of 28x28 pixels: a CPU-sized version of the paper's table.

    apprentice study --config=configs/fashion_mnist.py --config.data.dir=DATA --workdir=runs/fashion

56 minutes on two shared CPU cores: 21 runs. Full precision 87.70 +- 0.23%, 8A,2W without
distillation 84.65 +- 0.15, scheme B 85.12 +- 0.87, scheme C 86.25 +- 0.19, its control 86.45 +-
0.44 (three seeds). results/fashion_mnist says how the rates were chosen and what follows from the
numbers.
"""

from apprentice_jax import config as base


def get_config(argument=""):
  config = base.base()
  config.data.name = "fashion_mnist"
  config.data.pad, config.data.flip = 2, True
  config.data.mean, config.data.std = (0.286,), (0.353,)
  config.data.validation = 5000
  config.student.name = "resnet8"
  config.teacher.name = "resnet14"
  config.student.width = 0.25
  config.teacher.width = 0.5
  config.recipe.student.epochs, config.recipe.student.learning_rate = 5.0, 0.3
  config.recipe.teacher.epochs, config.recipe.teacher.learning_rate = 5.0, 0.1
  config.recipe.finetune.epochs, config.recipe.finetune.learning_rate = 3.0, 0.1
  config.checkpoint.every_epochs = 1.0
  config.eval.every_epochs = 1.0
  config.study.precisions = ("8A,2W",)
  config.study.seeds = (0, 1, 2)
  return base.apply_argument(
    config,
    argument,
    runlocal={
      "recipe.student.epochs": 0.1,
      "recipe.teacher.epochs": 0.1,
      "recipe.finetune.epochs": 0.1,
      "study.seeds": (0,),
    },
  )
