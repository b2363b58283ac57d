#!/usr/bin/env bash
# The choices behind configs/fashion_mnist.py: short runs, scored on 5,000 held-out training images.
# Usage: results/fashion_mnist/choices.sh DATA WORKDIR
set -euo pipefail
data=$1 workdir=$2
run() {  # run NAME ARGUMENT FLAGS...
  apprentice train --config="configs/fashion_mnist.py:$2" --workdir="$workdir/$1" \
    --config.data.dir="$data" --config.eval.final=validation --config.eval.every_epochs=0 \
    --config.checkpoint.every_epochs=0 "${@:3}"
}
# Which quantizers: baseline, two epochs, every weight quantizer with every activation quantizer.
for weights in twn lsq ttq wrpn; do
  for activations in pact lsq wrpn; do
    run "$weights-$activations" scheme=baseline,precision=8A2W --config.recipe.student.epochs=2 \
      --config.quantization.weights=$weights --config.quantization.activations=$activations
  done
done
run twn-pact-tensor scheme=baseline,precision=8A2W --config.recipe.student.epochs=2 \
  --config.quantization.weights=twn --config.quantization.activations=pact \
  --config.quantization.per_channel=False
run full scheme=baseline,precision=32A32W --config.recipe.student.epochs=2
# Which learning rates: three epochs (two of fine-tuning), the same number of tries for every cell.
short=(--config.recipe.student.epochs=3 --config.recipe.teacher.epochs=3 --config.recipe.finetune.epochs=2)
run teacher scheme=baseline,precision=32A32W,student=resnet14 "${short[@]}" --config.student.width=0.5
run student scheme=baseline,precision=32A32W "${short[@]}"
run student-0.3 scheme=baseline,precision=32A32W "${short[@]}" --config.recipe.student.learning_rate=0.3
from=(--config.teacher.init="$workdir/teacher" --config.student.init="$workdir/student")
for rate in 0.1 0.3; do
  run "baseline-$rate" scheme=baseline "${short[@]}" --config.recipe.student.learning_rate=$rate
  run "B-$rate" scheme=B "${short[@]}" --config.recipe.student.learning_rate=$rate "${from[0]}"
done
for rate in 0.03 0.1; do
  run "C-$rate" scheme=C "${short[@]}" --config.recipe.finetune.learning_rate=$rate "${from[@]}"
  run "C-control-$rate" scheme=C-control "${short[@]}" --config.recipe.finetune.learning_rate=$rate \
    "${from[@]}"
done
# Why scheme C does not beat its control: a higher rate for both, and other weights of the terms.
for cell in C C-control; do
  run "$cell-0.3" scheme=$cell "${short[@]}" --config.recipe.finetune.learning_rate=0.3 "${from[@]}"
done
for gamma in 0.25 1.0; do
  run "C-0.1-gamma$gamma" scheme=C "${short[@]}" --config.recipe.finetune.learning_rate=0.1 \
    --config.loss.gamma=$gamma --config.loss.beta="$(python3 -c "print(1 - $gamma)")" "${from[@]}"
done
