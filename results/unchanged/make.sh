#!/usr/bin/env bash
# What this checkout computes, to compare with another's:
#
#   bash results/unchanged/make.sh OUT [PART ...]
#
# PARTs are runs, networks, programs, study; without one, all of them, in some 20 minutes of two CPU
# cores. OUT must lack these parts. What is compiled or decoded is kept in OUT/cache, and nothing is
# taken from another checkout. PYTHON says which Python, with the test extras; the package is that
# of this checkout. compare.py compares two outputs.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
python=${PYTHON:-python}
mkdir -p "${1:?where to?}"
cd "$1"
shift
parts=${*:-runs networks programs study}
export PYTHONPATH=$root PYTHONDONTWRITEBYTECODE=1 APPRENTICE_CACHE=$PWD/cache JAX_PLATFORMS=cpu
unset XLA_FLAGS JAX_COMPILATION_CACHE_DIR

apprentice() { "$python" -m apprentice_jax "$@"; }

# said NAME COMMAND...: what a command prints, in said/NAME.txt.
said() {
  mkdir -p said
  apprentice "${@:2}" > "said/$1.txt"
}

# run NAME CONFIG FLAGS...: a training run in runs/NAME.
run() {
  echo "$1"
  apprentice train --config="$root/configs/$2" --workdir="runs/$1" "${@:3}" > "logs/$1.txt" 2>&1
}

# together NAME CONFIG FLAGS...: the same in two processes.
together() {
  echo "$1"
  local port command
  port=$("$python" -c 'import socket; s = socket.create_server(("", 0)); print(s.getsockname()[1])')
  command=(apprentice train --config="$root/configs/$2" --workdir="runs/$1" "${@:3}"
    --coordinator_address="localhost:$port" --num_processes=2)
  "${command[@]}" --process_id=1 > "logs/$1-1.txt" 2>&1 &
  "${command[@]}" --process_id=0 > "logs/$1.txt" 2>&1
  wait $!
}

runs() {
  mkdir -p runs logs
  "$python" "$here/photos.py" photos
  local digits=digits.py:runlocal,width=0.25,student=resnet8,teacher=resnet8
  local folder=image_folder.py:runlocal,student=resnet18,teacher=resnet8,width=0.0625
  folder+=,precision=8A2W,scheme=A
  local photos=(--config.data.dir=photos --config.recipe.student.epochs=3.0
    --config.steps_per_dispatch=3)

  run A "$digits,scheme=A,precision=8A2W" --config.cpu_devices=2 \
    --config.recipe.student.epochs=2.0 --config.data.flip=True --config.data.validation=200.0 \
    --config.eval.every_epochs=0.5 --config.checkpoint.every_epochs=0.5
  run A-8A4W-sync "$digits,scheme=A,precision=8A4W" --config.cpu_devices=2 \
    --config.sync_batch_norm=True
  run B "$digits,scheme=B,precision=8A2W" "--config.export=('packed', 'onnx', 'stablehlo')"
  run B-ttq-cached "$digits,scheme=B,precision=8A2W" --config.teacher_input.cached=True \
    --config.quantization.weights=ttq
  run C-residual "$digits,scheme=C,precision=8A4W" --config.quantization.residual=True
  run C-control "$digits,scheme=C-control,precision=8A2W" --config.student.init=runs/B/teacher
  run paper "$digits,scheme=baseline,preset=paper,precision=32A2W"
  run photos "$folder" "${photos[@]}" "--config.export=('packed',)"
  run imagenet imagenet.py:runlocal,scheme=B,precision=8A4W --config.recipe.student.epochs=0.3
  together A-two "$digits,scheme=A,precision=8A2W" --config.cpu_devices=1
  together photos-two "$folder" "${photos[@]}" --config.cpu_devices=1

  local name
  for name in B photos; do
    said "eval-$name" eval --workdir="runs/$name"
    said "eval-$name-lowered" eval --workdir="runs/$name" --lowered --layers
    said "export-$name" export --workdir="runs/$name" --format=packed --packing=base3 --ends=8bit \
      --out="runs/$name/8bit.packed"
  done
  for name in packed onnx stablehlo; do
    said "eval-$name" eval --model="runs/B/student.$name" --config="$root/configs/digits.py"
  done
  said predict predict --model=runs/photos/student.packed photos/val --json
  "$python" "$here/states.py" runs
}

study() {
  mkdir -p studies logs
  echo "study"
  apprentice study --config="$root/configs/digits.py" --workdir=studies/digits \
    > logs/study.txt 2>&1
  "$python" "$here/states.py" studies
}

networks() { "$python" "$here/networks.py" networks; }

programs() {
  XLA_FLAGS=--xla_force_host_platform_device_count=2 "$python" "$here/programs.py" programs
}

for part in $parts; do "$part"; done
