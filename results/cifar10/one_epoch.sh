#!/usr/bin/env bash
# One epoch of ResNet-20 8A,2W under scheme B on CIFAR-10, killed once on the way and continued.
# Usage: results/cifar10/one_epoch.sh DATA TEACHER.th WORKDIR
set -euo pipefail
command=(apprentice train --config=configs/cifar10.py:student=resnet20,teacher=resnet20,scheme=B
  --workdir="$3" --config.data.dir="$1" --config.teacher.init="$2" --config.precision=8A,2W --config.loss.temperature=1
  --config.recipe.student.epochs=1 --config.checkpoint.every_epochs=0.2
  --config.steps_per_dispatch=20)
"${command[@]}" & pid=$!
until [ -d "$3/checkpoints/160" ]; do sleep 1; kill -0 $pid; done
kill -9 $pid; wait $pid || true
echo "killed; continuing"
"${command[@]}"
apprentice eval --workdir="$3"
