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
