#!/usr/bin/env bash
# The paper's table on CIFAR-10, for one GPU: ResNet-20 students of a ResNet-56 teacher, at 32A,2W, 8A,4W and 8A,2W, under
# no distillation, A, B, C and C's control, three seeds; the last epoch's accuracy. The temperature is 4, the config's;
# the paper's: --config.loss.temperature=1.
#   DATA=... WORKDIR=... [EPOCHS=200] [STUDENTS="resnet20 resnet56"] bash results/cifar10/gpu.sh [FLAGS of apprentice study]
# DATA: folder of prepared tfds datasets. Start the same again to go on. A teacher that is there, published or trained before:
# --config.teacher.init=PATH. Many cells at once: nvidia-cuda-mps-control -d, and --config.study.jobs=9. Tried on a CPU, in
# a minute, with STUDENTS=resnet8 ARGUMENT=runlocal EPOCHS=0.05, which is not committed.
set -euo pipefail
cd "$(dirname "$0")/../.."
: "${DATA:?}" "${WORKDIR:?}"
python=${PYTHON:-python} epochs=${EPOCHS:-200}
for student in ${STUDENTS:-resnet20}; do
  argument=student=$student${ARGUMENT:+,$ARGUMENT}
  # Batches of 256 at twice the rate: on such a card those of 128 are half launches of kernels. A trained teacher's logits of
  # forty epochs of augmentation: 80 MB on the device, instead of a ResNet-56 in each step. All cells repeat these forty.
  bash launch/restart.sh "$python" -m apprentice_jax study --config="configs/cifar10.py:$argument" --config.data.dir="$DATA" \
    --config.dtype=bfloat16 --config.batch_size=256 --config.teacher_input.cached --config.data.augmentation_epochs=40 \
    --config.recipe.student.learning_rate=0.2 --config.recipe.teacher.learning_rate=0.2 --config.recipe.finetune.learning_rate=0.05 \
    --config.recipe.student.epochs="$epochs" --config.recipe.teacher.epochs="$epochs" \
    --config.recipe.finetune.epochs="$(awk "BEGIN {print $epochs / 2}")" --workdir="$WORKDIR/$student" "$@"
  bash results/keep_study.sh "$WORKDIR/$student" "results/cifar10/$student-$epochs"
done
