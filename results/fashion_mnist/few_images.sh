#!/usr/bin/env bash
# Does the teacher help a student that overfits? Baseline and scheme B on 2,000 training images, 40 epochs,
# scored on the other 58,000; the teacher has seen the same 2,000.
# Usage: results/fashion_mnist/few_images.sh DATA WORKDIR
set -euo pipefail
for seed in 0 1; do
  for scheme in B baseline; do
    apprentice train --config="configs/fashion_mnist.py:scheme=$scheme" \
      --workdir="$2/$scheme-$seed" --config.data.dir="$1" --config.data.validation=58000 \
      --config.eval.final=validation --config.eval.every_epochs=0 --config.seed=$seed \
      --config.recipe.student.epochs=40 --config.recipe.teacher.epochs=40 \
      --config.teacher.width=0.5 --config.student.width=0.5
  done
done
