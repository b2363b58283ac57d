"""Fashion-MNIST, 60,000 + 10,000 images of 28x28 pixels: a CPU-sized version of the paper's table.

    apprentice study --config=configs/fashion_mnist.py --config.data.dir=DATA --workdir=runs/fashion

The study has 21 runs and takes about an hour on two CPU cores. Its table, and how the rates were
chosen, are in results/fashion_mnist.
"""

from apprentice_jax.config import apply_argument, base


def get_config(argument=""):
  config = base()
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
  return apply_argument(
    config,
    argument,
    runlocal={
      "recipe.student.epochs": 0.1,
      "recipe.teacher.epochs": 0.1,
      "recipe.finetune.epochs": 0.1,
      "study.seeds": (0,),
    },
  )
