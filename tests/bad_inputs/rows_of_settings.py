"""Settings that run and cannot be meant, and flags that are given in other ways than one; rows as
`rows` has them."""

from rows import FOLDER, TAUGHT, TRAIN, Row, folder

COLOURS = "--config.data.mean=(123.675,116.28,103.53) --config.data.std="
OF_COLOURS = (
  "config.data.mean is (123.675, 116.28, 103.53) and config.data.std {std}, but images are scaled "
  "to [0, 1]: "
  "divide values of 0 to 255 by 255, mean=(0.485, 0.456, 0.406) and std={divided}."
)
SCALED = (
  "config.data.mean is {mean} and config.data.std {std}, but images are scaled to [0, 1]: means "
  "are from 0 to 1, "
  "and standard deviations rarely above 0.5."
)


def of_colours(std, divided):
  return OF_COLOURS.format(std=std, divided=divided)


ROWS = [
  # A normalisation of images that are not scaled to [0, 1].
  Row(
    "a normalisation of 0 to 255",
    FOLDER + COLOURS + "(58.395,57.12,57.375)",
    of_colours((58.395, 57.12, 57.375), (0.229, 0.224, 0.225)),
  ),
  Row(
    "means of 0 to 255 beside deviations of 1",
    FOLDER + COLOURS + "(1.0,1.0,1.0)",
    of_colours((1.0, 1.0, 1.0), (0.003922, 0.003922, 0.003922)),
  ),
  Row(
    "means of 0 to 255 beside deviations of [0, 1]",
    FOLDER + COLOURS + "(0.229,0.224,0.225)",
    of_colours((0.229, 0.224, 0.225), (0.229, 0.224, 0.225)),
  ),
  Row(
    "deviations of 0 to 255",
    TRAIN + "--config.data.mean=(0.5,) --config.data.std=(127.5,)",
    "config.data.mean is (0.5,) and config.data.std (127.5,), but images are scaled to [0, 1]: "
    "divide values of 0 to "
    "255 by 255, mean=(0.5,) and std=(0.5,).",
  ),
  Row(
    "a teacher's normalisation of 0 to 255",
    TRAIN + "--config.teacher_input.mean=(127.5,) --config.teacher_input.std=(127.5,)",
    "config.teacher_input.mean is (127.5,) and config.teacher_input.std (127.5,), but images are "
    "scaled to [0, 1]: "
    "divide values of 0 to 255 by 255, mean=(0.5,) and std=(0.5,).",
  ),
  Row(
    "a normalisation of 16 bits",
    TRAIN + "--config.data.mean=(32768.0,) --config.data.std=(9000.0,)",
    SCALED.format(mean=(32768.0,), std=(9000.0,)),
  ),
  Row(
    "a mean below black",
    TRAIN + "--config.data.mean=(-103.5,)",
    SCALED.format(mean=(-103.5,), std=(0.3763,)),
  ),
  # Paths.
  Row(
    "the home of nobody",
    "train --config={digits} --workdir=~nobody-of-this-name/run",
    "~nobody-of-this-name/run begins with ~nobody-of-this-name, and there is no such user: for a "
    "folder of this name "
    "write ./~nobody-of-this-name/run.",
  ),
  Row(
    "a teacher in the home of nobody",
    TAUGHT + "~nobody-of-this-name",
    "~nobody-of-this-name begins with ~nobody-of-this-name, and there is no such user: for a "
    "folder of this name write "
    "./~nobody-of-this-name.",
  ),
  # Batch norm; the tests have eight devices.
  Row(
    "one image a device, and features of one pixel",
    FOLDER.replace("student=resnet8", "student=resnet18").replace("width=0.25", "width=0.0625"),
    "config.batch_size is 8 on 8 devices: stage2_block1/norm1 of the student would normalise each "
    "channel by a single "
    "value; set config.batch_size=16, or config.cpu_devices=1, or config.sync_batch_norm=True.",
    folder(lambda place: None),
  ),
]
