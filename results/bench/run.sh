#!/usr/bin/env bash
# Training steps on CPU: beside PyTorch's, and what quantization costs. Needs pip install .[torch]; twenty minutes on
# two cores. DATA=FOLDER bash results/bench/run.sh, with CIFAR-10 in FOLDER
set -eu
cd "$(dirname "$0")/../.."
bench() {  # name, config argument, command with its flags
  name=$1 argument=$2
  shift 2
  "$@" --config="configs/cifar10.py:$argument" --out="results/bench/$name.json"
}
for precision in 32A32W 8A2W; do
  bench "torch-A-$precision-cpu" "student=resnet20,teacher=resnet20,scheme=A,precision=$precision" python benchmarks/beside_torch.py
  bench "torch-B-$precision-cpu" "student=resnet8,teacher=resnet20,scheme=B,precision=$precision" python benchmarks/beside_torch.py
done
for precision in 8A2W 8A4W; do
  bench "quantization-$precision-cpu" "student=resnet20,precision=$precision" python benchmarks/quantization.py
done
bench training-cifar10-cpu "student=resnet20,scheme=baseline" python -m apprentice_jax bench --config.data.dir="$DATA"
python -m apprentice_jax bench --config=configs/digits.py:scheme=A --out=results/bench/training-digits-cpu.json
python results/bench/start.py --data_dir="$DATA" --out=results/bench/start-cpu.json
python results/bench/size.py --out=results/bench/size-cpu
taskset -c 0 python results/bench/convolutions.py
