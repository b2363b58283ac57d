#!/usr/bin/env bash
# MLPerf Tiny's ResNet-8 on CIFAR-10 for one GPU: 8A,2W and 8A,4W under scheme B and without a teacher; full precision
# too; three seeds; the last epoch's accuracy.
#   DATA=... TEACHER=resnet20-12fca82f.th WORKDIR=... [EPOCHS=54] bash results/mlperf_tiny/gpu.sh [FLAGS of apprentice study]
# DATA and TEACHER as run.sh has them. Start the same again to go on. Many runs at once: nvidia-cuda-mps-control -d, and
# --config.study.jobs=15. Tried on a CPU with EPOCHS=0.02 and --config.recipe.student.warmup_epochs=0; those
# results are not committed.
set -euo pipefail
cd "$(dirname "$0")/../.."
: "${DATA:?}" "${TEACHER:?}" "${WORKDIR:?}"
python=${PYTHON:-python} epochs=${EPOCHS:-54}
# As run.sh, but in bfloat16, in batches of 256 at twice the rate, and with new augmentation in every epoch, as by default:
# the teacher's logits of 54 epochs are 108 MB.
bash launch/restart.sh "$python" -m apprentice_jax study --config=configs/mlperf_tiny.py:teacher=resnet20 \
  --config.data.dir="$DATA" --config.teacher.init="$TEACHER" --config.teacher_input.cached \
  --config.teacher_input.mean="(0.485, 0.456, 0.406)" --config.teacher_input.std="(0.229, 0.224, 0.225)" \
  --config.dtype=bfloat16 --config.batch_size=256 --config.recipe.student.learning_rate=0.6 \
  --config.recipe.student.weight_decay=2e-4 --config.recipe.student.warmup_epochs=2 --config.recipe.student.epochs="$epochs" \
  --config.study.cells='("student","baseline","B")' \
  --workdir="$WORKDIR" "$@"
bash results/keep_study.sh "$WORKDIR" "results/mlperf_tiny/gpu-$epochs"
