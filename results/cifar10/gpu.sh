#!/usr/bin/env bash
# The paper's table on CIFAR-10, for one GPU: ResNet-20 and then ResNet-56 students of a ResNet-56 teacher, at 32A,2W,
# 8A,4W and 8A,2W, under no distillation, A, B, C and C's control, three seeds; the last epoch's accuracy.
#   DATA=... WORKDIR=... bash results/cifar10/gpu.sh [FLAGS of apprentice study]
# DATA: folder of prepared tfds datasets. Start the same again to go on. Several cells at once: nvidia-cuda-mps-control -d,
# and --config.study.jobs=12; a teacher that is there: --config.teacher.init=resnet56-4bfd9763.th. Tried, in three minutes on a CPU, with
#   STUDENTS=resnet8 ARGUMENT=runlocal, which is not committed.
set -euo pipefail
cd "$(dirname "$0")/../.."
: "${DATA:?}" "${WORKDIR:?}"
python=${PYTHON:-python}
for student in ${STUDENTS:-resnet20 resnet56}; do
  argument=student=$student${ARGUMENT:+,$ARGUMENT}
  # A trained teacher's logits of forty epochs of augmentation: 80 MB on the device, instead of a ResNet-56 in each step.
  # All cells repeat these forty.
  bash launch/restart.sh "$python" -m apprentice_jax study --config="configs/cifar10.py:$argument" \
    --config.data.dir="$DATA" --config.teacher_input.cached --config.data.augmentation_epochs=40 --workdir="$WORKDIR/$student" "$@"
  bash results/keep_study.sh "$WORKDIR/$student" "results/cifar10/$student"
done
