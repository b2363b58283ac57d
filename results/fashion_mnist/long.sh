#!/usr/bin/env bash
# The table at twenty epochs and five seeds, in pieces of one seed: hours each, on two cores; start it again to go on.
#   DATA=... WORKDIR=... bash results/fashion_mnist/long.sh 0 1      # these seeds
# What is kept of a finished piece lies in results/fashion_mnist_20/seedN, and the report of all that are there beside it:
# pieces may be run on different days and machines.
set -euo pipefail
cd "$(dirname "$0")/../.."
: "${DATA:?}" "${WORKDIR:?}"
export PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH}
python=${PYTHON:-python} kept=results/fashion_mnist_20
for seed in "$@"; do
  piece=$WORKDIR/seed$seed
  bash launch/restart.sh "$python" -m apprentice_jax study --config=configs/fashion_mnist.py --config.data.dir="$DATA" \
    --config.recipe.student.epochs=20 --config.recipe.teacher.epochs=20 --config.recipe.finetune.epochs=10 \
    --config.teacher_input.cached --config.data.augmentation_epochs=10 --config.eval.every_epochs=0 --config.cpu_devices=1 --config.study.jobs=2 \
    --config.study.seeds="($seed,)" --workdir="$piece"
  bash results/keep_study.sh "$piece" "$kept/seed$seed"
  rm "$kept/seed$seed"/report.md "$kept/seed$seed"/*.png
done
"$python" -m apprentice_jax report --workdir="$(echo $kept/seed* | tr ' ' ,)" --out=$kept
rm $kept/report.html
