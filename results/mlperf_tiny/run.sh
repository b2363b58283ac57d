#!/usr/bin/env bash
# One training of MLPerf Tiny's ResNet-8 on CIFAR-10, interrupted or not, and what is kept of it here.
#   DATA=... TEACHER=resnet20-12fca82f.th WORKDIR=... [NAME=...] bash results/mlperf_tiny/run.sh SCHEME PRECISION SEED [FLAGS]
# DATA: folder of prepared tfds datasets; TEACHER: a checkpoint of akamaster/pytorch_resnet_cifar10, whose images are
# normalised by ImageNet's mean and std. One thread, so that two runs take two cores; start the same again to go on.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd) && cd "$here/../.."
: "${DATA:?}" "${TEACHER:?}" "${WORKDIR:?}"
scheme=$1 precision=$2 seed=$3
python=${PYTHON:-python} name=${NAME:-$scheme-$precision-seed$seed}
taught=()
case $scheme in B|C) taught=(--config.teacher.init="$TEACHER" --config.teacher_input.cached
  --config.teacher_input.mean="(0.485, 0.456, 0.406)" --config.teacher_input.std="(0.229, 0.224, 0.225)");; esac
PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH} "$python" -m apprentice_jax train \
  --config="configs/mlperf_tiny.py:scheme=$scheme,precision=$precision,teacher=resnet20" --config.data.dir="$DATA" \
  --config.seed="$seed" --config.cpu_devices=1 --config.checkpoint.every_epochs=2 --config.recipe.student.epochs=54 \
  --config.recipe.student.learning_rate=0.3 --config.recipe.student.weight_decay=2e-4 \
  --config.recipe.student.warmup_epochs=2 --config.data.augmentation_epochs=6 "${taught[@]}" "${@:4}" --workdir="$WORKDIR/$name"
"$python" results/keep.py "$WORKDIR/$name" "results/mlperf_tiny/$name"
