"""Rows: a field of the config has a name or a value that it cannot have."""

from rows import FOLDER, GO_ON, TRAIN, Row

ROWS = [
  # Fields.
  Row(
    "unknown field",
    TRAIN + "--config.batchsize=64",
    "flag --config.batchsize does not exist: did you mean '--config.batch_size'?",
  ),
  Row(
    "text for a number",
    TRAIN + "--config.batch_size=many",
    "flag --config.batch_size=many: invalid literal for int() with base 10: 'many'",
  ),
  Row(
    "a fraction for a whole number",
    TRAIN + "--config.batch_size=1.5",
    "flag --config.batch_size=1.5: invalid literal for int() with base 10: '1.5'",
  ),
  Row(
    "text for yes or no",
    TRAIN + "--config.data.flip=maybe",
    "flag --config.data.flip=maybe: ('Non-boolean argument to boolean flag', 'maybe')",
  ),
  Row(
    "text in a list of numbers",
    TRAIN + "--config.recipe.student.milestones=('half',)",
    "config.recipe.student.milestones is ('half',): it must be a list of numbers.",
  ),
  Row(
    "half a normalisation",
    TRAIN + "--config.teacher_input.mean=(0.5,)",
    "config.teacher_input.mean and config.teacher_input.std must have one value per channel, std "
    "above 0.",
  ),
  Row(
    "text for a teacher's mean",
    TRAIN + "--config.teacher_input.mean=('grey',)",
    "config.teacher_input.mean is ('grey',): it must be a list of numbers.",
  ),
  Row(
    "logits of streamed images",
    FOLDER + "--config.teacher_input.cached",
    "config.teacher_input.augmented, teacher_input.cached and data.augmentation_epochs are for "
    "images that live on "
    "the device (config.data.image_size=0): a streamed image is cropped before it gets there.",
  ),
  Row(
    "less than no epochs",
    TRAIN + "--config.data.augmentation_epochs=-1",
    "config.data.augmentation_epochs is -1: it must be at least 0.",
  ),
  Row(
    "an unclosed list",
    TRAIN + "--config.data.mean=(0.5",
    "config.data.mean is ('(0.5',): it must be a list of numbers.",
  ),
  Row(
    "half a precision",
    TRAIN + "--config.precision=8A",
    "config: precision '8A' is not one: write activation and weight bits as in '8A,2W', each 1 "
    "to 8, or 32 for full precision.",
  ),
  Row(
    "too many bits",
    TRAIN + "--config.precision=8A,9W",
    "config: precision '8A,9W' is not one: write activation and weight bits as in '8A,2W', "
    "each 1 to 8, or 32 for full precision.",
  ),
  Row(
    "bits that a quantizer cannot do",
    TRAIN + "--config.quantization.weights=twn --config.precision=8A,4W",
    "config: weight quantizer 'twn' cannot do 4 bits: use wrpn or dorefa or lsq.",
  ),
  Row(
    "unknown weight quantizer",
    TRAIN + "--config.quantization.weights=twm",
    "config: weight quantizer 'twm' does not exist: did you mean 'twn'?",
  ),
  Row(
    "unknown activation quantizer",
    TRAIN + "--config.quantization.activations=pcat",
    "config: activation quantizer 'pcat' does not exist: did you mean 'pact'?",
  ),
  Row(
    "unknown scale",
    TRAIN + "--config.quantization.wrpn_scale=maximum",
    "config: wrpn_scale 'maximum' is not one: choose 'max' or 'unit'.",
  ),
  Row(
    "a layer that is not there",
    TRAIN + "--config.quantization.full_precision=('stem','haed')",
    "config.quantization.full_precision has 'haed', which no layer of resnet8 matches: did you "
    "mean 'head'?",
  ),
  Row(
    "unknown scheme",
    TRAIN + "--config.scheme=D",
    "config.scheme 'D' does not exist: choose one of baseline, A, B, C, C-control",
  ),
  Row(
    "unknown type of floats",
    TRAIN + "--config.dtype=float16",
    "config.dtype 'float16' does not exist: did you mean 'bfloat16'?",
  ),
  Row(
    "unknown schedule",
    TRAIN + "--config.recipe.student.schedule=cosin",
    "config.recipe.student.schedule 'cosin' does not exist: did you mean 'cosine'?",
  ),
  Row(
    "unknown network",
    TRAIN + "--config.student.name=resnet9",
    "config: network 'resnet9' does not exist: did you mean 'resnet8'?",
  ),
  Row(
    "unknown shortcut",
    TRAIN + "--config.student.shortcut=padding",
    "config: shortcut 'padding' does not exist: choose 'pad' or 'conv'.",
  ),
  Row(
    "no width",
    TRAIN + "--config.student.width=0",
    "config: width 0.0 leaves no channels: it multiplies 16 (6n+2) or 64 (ImageNet).",
  ),
  Row(
    "infinite width",
    TRAIN + "--config.student.width=inf",
    "config.student.width is inf: it must be finite.",
  ),
  Row(
    "a batch that devices cannot share",
    TRAIN + "--config.batch_size=60",
    "config.batch_size is 60: it must be a multiple of the 8 devices.",
  ),
  Row(
    "a batch larger than the set",
    TRAIN + "--config.batch_size=2048",
    "config.batch_size is 2048, but digits has only 1437 training examples: set "
    "--config.batch_size=1024, or add examples.",
  ),
  Row(
    "an empty batch",
    TRAIN + "--config.batch_size=0",
    "config.batch_size is 0: it must be at least 1.",
  ),
  Row(
    "a negative batch",
    TRAIN + "--config.batch_size=-8",
    "config.batch_size is -8: it must be at least 1.",
  ),
  Row(
    "epochs that are no number",
    TRAIN + "--config.recipe.student.epochs=nan",
    "config.recipe.student.epochs is nan: it must be finite.",
  ),
  Row(
    "endless epochs",
    TRAIN + "--config.recipe.teacher.epochs=inf",
    "config.recipe.teacher.epochs is inf: it must be finite.",
  ),
  Row(
    "less than a step",
    GO_ON + "--config.recipe.student.epochs=0.001",
    "config.recipe.student.epochs: 0.001 epochs of 1437 examples are less than a step.",
  ),
  Row(
    "less than a step after a teacher",
    TRAIN + "--config.recipe.student.epochs=0.001",
    "config.recipe.student.epochs: 0.001 epochs of 1437 examples are less than a step.",
  ),
  Row(
    "a negative rate",
    TRAIN + "--config.recipe.student.learning_rate=-0.1",
    "config.recipe.student.learning_rate is -0.1: it must be at least 0.",
  ),
  Row(
    "an infinite rate",
    TRAIN + "--config.recipe.student.learning_rate=inf",
    "config.recipe.student.learning_rate is inf: it must be finite.",
  ),
  Row(
    "no temperature",
    TRAIN + "--config.loss.temperature=0",
    "config.loss.temperature is 0.0: it must be above 0.",
  ),
  Row(
    "a loss of nothing",
    TRAIN + "--config.loss.beta=0 --config.loss.gamma=0",
    "config.loss.beta and config.loss.gamma are 0 and 0: one of them must be above 0, for a "
    "student to learn.",
  ),
  Row(
    "Adam without a rate to follow",
    TRAIN + "--config.recipe.student.adam=kernel --config.recipe.student.learning_rate=0",
    "config.recipe.student.learning_rate is 0 beside config.recipe.student.adam: Adam's rate "
    "follows its schedule, so set it above 0.",
  ),
  Row(
    "kept logits of mixed images",
    TRAIN + "--config.data.mix=mixup --config.teacher_input.cached",
    "config.data.mix=mixup makes new images in every step, whose logits cannot be kept: set "
    "config.teacher_input.cached=False.",
  ),
  Row(
    "mixtures of one image",
    TRAIN + "--config.data.mix=cutmix --config.batch_size=8",
    "config.data.mix=cutmix mixes the images of a device, and config.batch_size is one for each: "
    "set config.batch_size=16.",
  ),
  Row(
    "one frequency of oscillation",
    TRAIN + "--config.oscillation.freeze=(0.1,)",
    "config.oscillation.freeze is (0.1,): it must be two frequencies above 0, those of the first "
    "and the last step, such as (0.1, 0.01).",
  ),
  Row(
    "DoReFa's weights, damped",
    TRAIN + "--config.oscillation.damping=0.1 --config.quantization.weights=dorefa",
    "config.oscillation.damping is not for quantization.weights=dorefa, whose levels are not those "
    "of the weights: set twn, ttq, lsq or wrpn.",
  ),
  Row(
    "an entropy of standardised logits",
    TRAIN + "--config.loss.standardised --config.loss.teacher_entropy=1",
    "config.loss.teacher_entropy is 1 beside config.loss.standardised: standardised logits are as "
    "uncertain for any teacher; set one of the two.",
  ),
  Row(
    "a teacher less certain than chance",
    TRAIN + "--config.loss.teacher_entropy=2.5",
    "config.loss.teacher_entropy is 2.5: it must be below 2.303, the entropy of classes that "
    "are equally likely.",
  ),
  Row(
    "an infinite temperature",
    TRAIN + "--config.loss.temperature=inf",
    "config.loss.temperature is inf: it must be finite.",
  ),
  Row(
    "a weight that is no number",
    TRAIN + "--config.loss.alpha=nan",
    "config.loss.alpha is nan: it must be finite.",
  ),
  Row(
    "unknown parameter to decay",
    TRAIN + "--config.recipe.student.decay=('kernal',)",
    "config.recipe.student.decay has 'kernal': did you mean 'kernel'?",
  ),
  Row(
    "a milestone after the end",
    TRAIN + "--config.recipe.student.milestones=(0.5,1.5)",
    "config.recipe.student.milestones is (0.5, 1.5): they are fractions of the run, between 0 "
    "and 1.",
  ),
  Row("a negative seed", TRAIN + "--config.seed=-1", "config.seed is -1: it must be at least 0."),
  Row(
    "a seed beyond 64 bits",
    TRAIN + "--config.seed=99999999999999999999",
    "config.seed is 99999999999999999999, config.study.seeds (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, "
    "11): they must be below 4294967296.",
  ),
  Row(
    "no checkpoint to keep",
    TRAIN + "--config.checkpoint.keep=0",
    "config.checkpoint.keep is 0: it must be at least 1.",
  ),
  Row(
    "all held out",
    TRAIN + "--config.data.validation=1437",
    "config.data.validation is 1437, but digits has only 1437 training examples.",
  ),
  Row(
    "scores of nothing",
    TRAIN + "--config.eval.every_epochs=1",
    "config.eval.every_epochs scores held-out images, but config.data.validation holds out none.",
  ),
  Row(
    "a final score of nothing",
    TRAIN + "--config.eval.final=validation",
    "config.eval.final is 'validation', but config.data.validation holds out no examples.",
  ),
  Row(
    "a mean without std",
    TRAIN + "--config.data.mean=(0.5,0.5,0.5)",
    "config.data.mean and config.data.std must have one value per channel, std above 0.",
  ),
  Row(
    "no std",
    TRAIN + "--config.data.std=(0.0,)",
    "config.data.mean and config.data.std must have one value per channel, std above 0.",
  ),
  Row(
    "means of other channels",
    TRAIN + "--config.data.mean=(0.5,0.5,0.5) --config.data.std=(0.5,0.5,0.5)",
    "config.data.mean has 3 values, but the images of digits have 1 channels.",
  ),
  Row(
    "unknown way with unreadable images",
    FOLDER + "--config.data.unreadable=skp",
    "config.data.unreadable 'skp' does not exist: did you mean 'skip'?",
  ),
  Row(
    "no size for photos",
    FOLDER + "--config.data.image_size=0",
    "config.data.image_size is 0: images of a folder are streamed, cropped to a size such as 224.",
  ),
  Row(
    "a resize below the crop",
    FOLDER + "--config.data.resize=4",
    "config.data.resize is 4: it must be at least data.image_size, 8.",
  ),
  Row(
    "crops beyond the image",
    FOLDER + "--config.data.crop_area=(0.5,2.0)",
    "config.data.crop_area is (0.5, 2.0): it must be a least and a largest value of 1 at most.",
  ),
  Row(
    "crops from large to small",
    FOLDER + "--config.data.crop_ratio=(1.5,0.5)",
    "config.data.crop_ratio is (1.5, 0.5): it must be a least and a largest value.",
  ),
]
