"""The configuration: every field with its default."""

import ml_collections

PATHS = ("dir", "init", "classes")  # the names of fields that have the path of a file or a folder
CELLS = ("teacher", "student", "baseline", "A", "B", "C", "C-control")


def recipe(**changes) -> ml_collections.ConfigDict:
  """How one network is trained; `training.optimizer` says what each field does."""
  fields = ml_collections.ConfigDict(
    dict(
      epochs=30.0,
      learning_rate=0.1,
      schedule="cosine",
      warmup_epochs=1.0,
      milestones=(0.5, 0.75),
      factor=0.1,
      settle_steps=50,
      momentum=0.9,
      nesterov=True,
      weight_decay=1e-4,
      decay=("kernel", "clip"),
    )
  )
  fields.update(changes)
  return fields


def base() -> ml_collections.ConfigDict:
  """Returns a config with every field at its default."""
  network = dict(
    name="resnet20",
    width=1.0,  # name "": that of the network in init
    shortcut="",  # "pad" or "conv"; "": the family's own
    init="",  # a workdir or a checkpoint to start from; "": from scratch, or made on the way
    # Of ``init``, the classifier: as it is (""), "new" of this data's size, or "match": the outputs
    # of the same classes.
    head="",
    classes="",
  )  # names of init's outputs: a file with one a line, or "imagenet"; "": those of a workdir
  return ml_collections.ConfigDict(
    dict(
      data=dict(
        name="",
        dir="",  # a tfds dataset, and where it is prepared ("": the tfds default); or
        # "image_folder", and the folder that holds train/CLASS/*.jpg
        train_split="train",
        test_split="test",  # of a tfds dataset also slices: "train[:80%]"
        # Held out from the training split, for making choices: a share below 1, or a number of
        # examples.
        validation=0.0,
        # Where a folder has no test_split, or test_split is "": this share of the training images;
        # 0: none.
        test_share=0.0,
        pad=4,
        flip=True,  # shift by up to pad pixels, and mirror, on the device
        # after so many epochs the same shifts and mirrorings again, in another order; 0: never
        augmentation_epochs=0,
        mean=(0.5,),
        std=(0.5,),  # per channel, of images scaled to [0, 1]
        # Images of any size, streamed: random crops of this side to train and, after a resize of
        # the short side, the centre to evaluate. 0: images are as stored and live on the device.
        image_size=0,
        resize=256,
        crop_area=(0.08, 1.0),
        crop_ratio=(3 / 4, 4 / 3),  # fraction of the area; width / height
        unreadable="stop",  # at an image that cannot be read: "stop", or "skip" it and count
        threads=0,
        workers=0,
      ),  # that decode: threads per process (0: one a core), processes
      student=dict(network),
      teacher=dict(network),
      # How the teacher sees the images.
      teacher_input=dict(
        mean=(),
        std=(),  # that it was trained with; (): as data.mean and data.std, or those of its workdir
        augmented=True,  # as the student does; False: a fixed teacher sees them as they are stored
        # Compute a fixed teacher's logits once, of every epoch (of data.augmentation_epochs, if
        # that is not 0; of one where it sees no augmentation), instead of in every step; see
        # `training.teacher_logits`.
        cached=False,
      ),
      precision="8A,2W",
      quantization=dict(
        weights="default",
        activations="default",
        per_channel=True,
        wrpn_scale="max",
        full_precision=("stem", "head"),
        residual=False,
        # Forward products of convolutions: "int8", "float", or "auto", on int8 where that is
        # faster.
        compute="auto",
      ),
      scheme="B",
      loss=dict(alpha=1.0, beta=0.5, gamma=0.5, temperature=1.0, teacher_gradient=False),
      recipe=dict(student=recipe(), teacher=recipe(), finetune=recipe(learning_rate=0.01)),
      batch_size=128,
      seed=0,
      dtype="float32",
      # Not 0: batch_size is for one chip or a pod alike, and what the learning rates are stated
      # for; the batch is this times the devices, at most largest_batch (0: no limit). See `scaled`.
      batch_per_device=0,
      largest_batch=8192,
      sync_batch_norm=False,  # normalise by the moments of all replicas instead of each one's own
      steps_per_dispatch=20,
      cpu_devices=2,  # host devices to run on where there is no accelerator
      im2col=True,  # on CPU, convolutions of models/cpu.py: faster, equal up to rounding
      # What the backward pass computes again instead of keeping it, in the networks that train:
      # "none"; of each residual block, "elementwise" all but the convolutions, "blocks" all but its
      # input.
      remat="none",
      checkpoint=dict(every_epochs=10.0, keep=2),  # 0: at the end only
      eval=dict(
        every_epochs=0.0,  # of the validation split while training; 0: never
        batch_size=1000,
        final="test",
      ),  # the split scored at the end: "test" or "validation"
      export=(),  # formats in which `train` leaves the student in the workdir: see `deploy.formats`
      note="",  # a sentence that `train` and `study` print before they start
      study=dict(
        precisions=("8A,2W", "8A,4W"),
        seeds=(0, 1),
        cells=CELLS,
        # cells trained at once, each in a process: on CPU, or on one GPU; see study/jobs.py
        jobs=1,
        grid="",  # further fields, and the values to train at: see `study.grid`
        references=(),
      ),
    )
  )  # published accuracies to compare with: see `study.references`


def flat(config) -> dict:
  """The config as ``{"a.b": value}``."""
  result = {}
  for key, value in config.items():
    if hasattr(value, "items"):
      result.update({f"{key}.{k}": v for k, v in flat(value).items()})
    else:
      result[key] = value
  return result
