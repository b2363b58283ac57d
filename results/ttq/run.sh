#!/usr/bin/env bash
# The runs of this folder: DATA=... WORKDIR=... bash results/ttq/run.sh
set -euo pipefail
cd "$(dirname "$0")/../.."
# Digits: TWN and TTQ, without a teacher and under scheme B, five seeds; the test set is scored once a run.
apprentice study --config=configs/digits.py:precision=8A2W --config.study.seeds='(0,1,2,3,4)' \
  --config.study.cells='("teacher","baseline","B")' --config.study.grid="quantization.weights=twn|ttq" \
  --config.study.jobs=1 --workdir="$WORKDIR/digits"
# The second and the third row of the README's table, on 300 held-out training images.
for seed in 0 1 2 3 4; do
  for per_channel in True False; do
    apprentice train --config=configs/digits.py:scheme=baseline,precision=8A2W --config.quantization.weights=ttq \
      --config.quantization.per_channel=$per_channel --config.data.validation=300 --config.eval.final=validation \
      --config.seed=$seed --workdir="$WORKDIR/held-out-$per_channel-$seed"
  done
done
# The paper's preset (../../docs/paper.md). At 8A,3W the grid to 1 was run before it was refused.
apprentice study --config=configs/digits.py:preset=paper --config.quantization.wrpn_scale=max \
  --config.study.seeds='(0,)' --config.study.cells='("teacher","student","baseline","C")' \
  --config.study.jobs=1 --workdir="$WORKDIR/paper"
for run in 8A3W-max 8A4W-unit; do
  apprentice train --config=configs/digits.py:preset=paper,scheme=C,precision=${run%-*} \
    --config.quantization.wrpn_scale=${run#*-} --config.teacher.init="$WORKDIR/paper/cells/teacher-32A32W-seed0" \
    --config.student.init="$WORKDIR/paper/cells/student-32A32W-seed0" --workdir="$WORKDIR/paper-$run"
done
# Fashion-MNIST: five epochs without a teacher.
for seed in 0 1; do
  for weights in twn ttq; do
    apprentice train --config=configs/fashion_mnist.py:scheme=baseline,precision=8A2W --config.data.dir="$DATA" \
      --config.quantization.weights=$weights --config.seed=$seed --config.eval.every_epochs=0 \
      --config.checkpoint.every_epochs=0 --config.cpu_devices=1 --workdir="$WORKDIR/$weights-seed$seed"
    apprentice eval --workdir="$WORKDIR/$weights-seed$seed" --split=validation
    python results/keep.py "$WORKDIR/$weights-seed$seed" "results/ttq/fashion/$weights-seed$seed"
  done
done
python results/ttq/magnitudes.py "$WORKDIR"/*/cells/*ttq* "$WORKDIR"/ttq-seed*
