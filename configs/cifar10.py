"""CIFAR-10, 50,000 + 10,000 images of 32x32 pixels.

    apprentice study --config=configs/cifar10.py --config.data.dir=DATA --workdir=runs/cifar10

The full study (200 epochs, three precisions, three seeds) is for a GPU and has not been run.
Shorter runs of these networks at a temperature of 1 are in results/cifar10. The temperature of 4
helped a smaller student of the same teacher, which is sure of nearly all training images: see
results/mlperf_tiny. The mean and std are those of the usual 6n+2 repositories, so that their
checkpoints can be teachers.
"""

from apprentice_jax.config import apply_argument, base

# Published accuracies (see study.references), each as its source states it.
REFERENCES = (
  "resnet20|32A,32W|92.60|chenyaofo/pytorch-cifar-models",
  "resnet20|32A,32W|91.73|akamaster/pytorch_resnet_cifar10",
  "resnet20|32A,2W|91.13|TTQ, czhu95/ternarynet, best epoch",
  "resnet20|4A,4W|92.45|APoT, yhhhli/APoT",
  "resnet20|8A,3W|91.66|DoReFa with distillation, IntelLabs/distiller, mean of 4",
  "resnet56|32A,32W|94.37|chenyaofo/pytorch-cifar-models",
  "resnet56|32A,32W|93.39|akamaster/pytorch_resnet_cifar10",
  "resnet56|32A,2W|93.56|TTQ, czhu95/ternarynet, best epoch",
  "resnet56|4A,4W|93.93|APoT, yhhhli/APoT",
  "resnet56|8A,3W|93.01|DoReFa with distillation, IntelLabs/distiller, mean of 4",
)


def get_config(argument=""):
  config = base()
  config.data.name = "cifar10"
  config.data.pad, config.data.flip = 4, True
  config.data.mean, config.data.std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
  config.student.name = "resnet20"
  config.teacher.name = "resnet56"
  for recipe in (config.recipe.student, config.recipe.teacher):
    recipe.epochs, recipe.learning_rate, recipe.warmup_epochs = 200.0, 0.1, 1.0
    recipe.weight_decay = 5e-4
  config.recipe.finetune.epochs, config.recipe.finetune.learning_rate = 100.0, 0.01
  config.recipe.finetune.weight_decay = 5e-4
  config.loss.temperature = 4.0
  config.steps_per_dispatch = 100
  config.study.precisions = ("32A,2W", "8A,4W", "8A,2W")
  config.study.seeds = (0, 1, 2)
  config.study.references = REFERENCES
  return apply_argument(
    config,
    argument,
    runlocal={
      "batch_size": 64,
      "student.width": 0.25,
      "teacher.width": 0.25,
      "student.name": "resnet8",
      "teacher.name": "resnet14",
      "steps_per_dispatch": 20,
      "recipe.student.epochs": 0.05,
      "recipe.teacher.epochs": 0.05,
      "recipe.finetune.epochs": 0.05,
      "study.precisions": ("8A,2W",),
      "study.seeds": (0,),
    },
  )
