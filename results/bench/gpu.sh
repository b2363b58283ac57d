#!/usr/bin/env bash
# Every measurement on one GPU, on synthetic images: nothing to prepare. On an H200 the first comparison alone was not done
# in 160 seconds, so this may take half an hour; it has not been run to its end. `gpu_step.py` is for a few minutes.
#
#   pip install -e .[cuda] && pip install torch triton          PyTorch with CUDA
#   bash results/bench/gpu.sh                                    writes results/bench/gpu/*.json
#
# A rehearsal on CPU, in minutes, of tiny networks, as far as PyTorch's CUDA is not needed:
#   OUT=/tmp/rehearsal DTYPE=float32 LOCAL=,runlocal bash results/bench/gpu.sh
set -eu
out=${OUT:-$(cd "$(dirname "$0")" && pwd)/gpu}
cd "$(dirname "$0")/../.."
export CUDA_VISIBLE_DEVICES=${CUDA_VISIBLE_DEVICES:-0}
mkdir -p "$out"
failed=""
bench() {  # name, config with its argument, command with its flags
  name=$1 config=$2
  shift 2
  echo "== $name"
  "$@" --config="configs/$config${LOCAL:-}" --config.dtype="${DTYPE:-bfloat16}" --out="$out/$name.json" ||
    failed="$failed $name"
}
torch="python benchmarks/beside_torch.py" speed="python -m apprentice_jax bench"
pair=cifar10.py:student=resnet20,teacher=resnet20,scheme=A
big=imagenet.py:student=resnet50,teacher=resnet101,scheme=A
if [ -z "${LOCAL:-}" ]; then
  many="--config.batch_size=1024" flat="--config.batch_per_device=0 --config.batch_size=128 --config.steps_per_dispatch=20"
else
  many="--config.batch_size=16" flat=""
fi
# shellcheck disable=SC2086  # words
{
  bench torch-resnet20-8A2W "$pair,precision=8A2W" $torch
  bench torch-resnet20-32A32W "$pair,precision=32A32W" $torch
  bench torch-resnet20-8A2W-1024 "$pair,precision=8A2W" $torch $many
  bench torch-resnet50-8A2W "$big,precision=8A2W" $torch $flat
  bench torch-resnet50-32A32W "$big,precision=32A32W" $torch $flat
  bench quantization-resnet20 "${pair},precision=8A2W" python benchmarks/quantization.py
  bench training-resnet20 "$pair,precision=8A2W" $speed
  bench training-resnet50 "$big,precision=8A2W" $speed $flat
}
[ -z "$failed" ] || { echo "failed:$failed"; exit 1; }
