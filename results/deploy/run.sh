#!/usr/bin/env bash
# Trains short students, exports them, and compares what every form of them computes over the whole test set.
# DATA: folder of prepared tfds datasets; WORKDIR: where runs go.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd) && cd "$here/../.."
: "${DATA:?}" "${WORKDIR:?}"
python=${PYTHON:-python}

student() {  # NAME, PRECISION, further flags
  "$python" -m apprentice_jax train --config="configs/fashion_mnist.py:student=resnet20,scheme=baseline,width=0.5,precision=$2" \
    --config.data.dir="$DATA" --config.recipe.student.epochs=0.3 --config.recipe.student.warmup_epochs=0.1 \
    --config.checkpoint.every_epochs=0 --config.eval.every_epochs=0 --workdir="$WORKDIR/$1" "${@:3}"
  "$python" results/deploy/compare.py "$WORKDIR/$1" "results/deploy/$1.json" "$DATA"
}

tiny() {  # NAME, PRECISION
  "$python" -m apprentice_jax train --config="configs/mlperf_tiny.py:scheme=baseline,precision=$2" \
    --config.data.dir="$DATA" --config.recipe.student.epochs=0.5 --config.recipe.student.warmup_epochs=0.1 \
    --config.checkpoint.every_epochs=0 --workdir="$WORKDIR/$1"
  for form in "float bits" "8bit base3"; do
    read -r ends packing <<< "$form"
    "$python" -m apprentice_jax export --workdir="$WORKDIR/$1" --format=packed --out="$WORKDIR/$1.$ends" \
      --ends="$ends" --packing="$packing"
    "$python" -m apprentice_jax eval --model="$WORKDIR/$1.$ends" --config=configs/mlperf_tiny.py \
      --config.data.dir="$DATA" --layers | grep -v "^running on" > "results/deploy/$1-$ends-ends.txt"
  done
}

export PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH}
student fashion-8A2W 8A2W
student fashion-8A4W 8A4W
student fashion-8A2W-ttq 8A2W --config.quantization.weights=ttq
student fashion-32A2W 32A2W
student fashion-32A2W-ttq 32A2W --config.quantization.weights=ttq
student fashion-8A2W-residual 8A2W --config.quantization.residual
"$python" results/deploy/sizes.py results/deploy/sizes.json
tiny tiny-8A2W 8A2W
tiny tiny-8A4W 8A4W
"$python" results/deploy/table.py
# ONNX takes pip install .[export]; the second, to compare with, PyTorch and a machine that does nothing else.
PYTHONPATH=$PYTHONPATH:$here "$python" results/deploy/onnx_compare.py results/deploy/onnx_compare.json "$DATA" "$WORKDIR"/fashion-*
mkdir -p "$WORKDIR/onnx"
"$python" results/deploy/onnx_speed.py make "$WORKDIR/onnx"
"$python" results/deploy/onnx_speed.py time "$WORKDIR/onnx" results/deploy/onnx_speed
