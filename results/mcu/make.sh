#!/usr/bin/env bash
# The tables of this folder: DATA=DIR bash results/mcu/make.sh MODEL.packed...
# DATA has CIFAR-10 as tensorflow-datasets prepares it. Each model is built at -O2 and at -O3 and runs on
# all machines with 100 drawn images; then all test images go through its C code on this machine.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
: "${DATA:?the folder of the prepared dataset}"
python=${PYTHON:-python}
export PYTHONPATH=$here/../..${PYTHONPATH:+:$PYTHONPATH} JAX_PLATFORMS=cpu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
for model in "$@"; do
  name=$(basename "$model" .packed)
  "$python" -m apprentice_jax export --model="$model" --format=c --out="$folder/${name//-/_}"
  for flag in -O2 -O3; do
    "$python" "$here/../../benchmarks/mcu/measure.py" "$folder/${name//-/_}" --model="$model" \
      --optimise="$flag" --out="$here/${flag#-}"
  done
  "$python" "$here/all_images.py" --model="$model" --data_dir="$DATA" --out="$here/$name.json"
done
