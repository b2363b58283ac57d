"""ImageNet, 1,281,167 + 50,000 photos: the recipe of the paper's own table.

Marked [paper] where `Apprentice` says so and [ours] where its text was not at hand:

- students ResNet-18, 34 and 50 with teachers ResNet-34, 50 and 101 [ours];
- alpha 1, beta and gamma 0.5, temperature 1 [paper];
- first convolution and classifier in full precision [ours, as all related work];
- 120 epochs, batch 256, rate 0.1, multiplied by 0.1 at 1/4, 1/2 and 3/4 of the run, 5 epochs of
  warm-up, weight decay 1e-4, Nesterov momentum 0.9 [ours]; the batch is 128 a device and at most
  8,192, and rates follow it linearly from those of batch 256 (`batch_per_device`, `largest_batch`);
- scheme C: 40 epochs from 0.001 [ours; paper: a lower rate and fewer epochs];
- random-resized crop and flip at 224, a resize to 256 and the centre to evaluate [ours].

The set is prepared once, with ImageNet's two tar files downloaded by hand (the command says how),
and then streamed without TensorFlow:

    apprentice prepare --dataset=imagenet2012 --data_dir=DATA
    apprentice train --config=configs/imagenet.py:scheme=A,precision=8A4W \\
        --config.data.dir=DATA --workdir=runs/imagenet

Not run on the real set yet. runlocal is the recipe on digits, in seconds, through the same stream:

    apprentice train --config=configs/imagenet.py:scheme=A,precision=8A4W,runlocal --workdir=runs/im
"""

from apprentice_jax.config import apply_argument, base, parse

# Top-1 accuracies of the paper's table (Mishra & Marr, 2018): 100 less the errors that it gives.
REFERENCES = (
  "resnet50|32A,32W|76.2|the paper",
  "resnet18|32A,2W|66.6|the paper: TTQ, no distillation",
  "resnet34|32A,2W|71.7|the paper: TTQ, no distillation",
  "resnet50|32A,2W|74.4|the paper: TTQ, no distillation",
  "resnet50|8A,4W|71.5|the paper: no distillation",
  "resnet50|8A,2W|70.76|the paper: FGQ, no distillation",
  "resnet50|32A,2W|74.7|the paper: schemes A and B",
  "resnet50|32A,2W|75.3|the paper: scheme C",
  "resnet50|8A,4W|74.5|the paper: schemes A and B",
  "resnet50|8A,4W|74.9|the paper: scheme C",
)
TEACHERS = {"resnet18": "resnet34", "resnet34": "resnet50", "resnet50": "resnet101"}


def get_config(argument=""):
  config = base()
  config.data.name, config.data.test_split = "imagenet2012", "validation"
  config.data.image_size, config.data.resize = 224, 256
  config.data.mean, config.data.std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
  config.student.name = parse(argument).get("student", "resnet50")
  config.teacher.name = TEACHERS.get(config.student.name, "resnet101")
  for recipe in (config.recipe.student, config.recipe.teacher, config.recipe.finetune):
    recipe.schedule, recipe.milestones, recipe.factor = "step", (0.25, 0.5, 0.75), 0.1
    recipe.epochs, recipe.warmup_epochs, recipe.learning_rate = 120.0, 5.0, 0.1
  config.recipe.finetune.update(dict(epochs=40.0, warmup_epochs=0.0, learning_rate=0.001))
  config.batch_size, config.batch_per_device = 256, 128
  config.dtype = "bfloat16"
  config.steps_per_dispatch = 50
  config.eval.batch_size = 256
  config.checkpoint.every_epochs = 1.0
  config.study.precisions = ("32A,2W", "8A,4W", "8A,2W")
  config.study.seeds = (0,)
  config.study.references = REFERENCES
  return apply_argument(
    config,
    argument,
    runlocal={
      "data.name": "digits",
      "data.test_split": "test",
      "data.mean": (0.3053,),
      "data.std": (0.3763,),
      "data.image_size": 16,
      "data.resize": 16,
      "data.flip": False,
      "batch_size": 32,
      "batch_per_device": 0,
      "dtype": "float32",
      "student.name": "resnet18",
      "teacher.name": "resnet18",
      "student.width": 0.0625,
      "teacher.width": 0.0625,
      "recipe.student.epochs": 0.1,
      "recipe.teacher.epochs": 0.1,
      "recipe.finetune.epochs": 0.1,
      "study.precisions": ("8A,2W",),
    },
  )
