#!/usr/bin/env bash
# What is kept of a study: bash results/keep_study.sh WORKDIR FOLDER
# Its results, report.md and plots, and of every cell what results/keep.py keeps: `apprentice report` can read FOLDER.
set -euo pipefail
workdir=$1 folder=$2 here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$folder"
cp "$workdir"/results.csv "$workdir"/report.md "$workdir"/*.png "$folder/"
# shellcheck disable=SC2016  # the names, not their values
sed -E 's|("data.dir": ")[^"]+|\1$DATA|; s|("teacher.init": ")[^"]+|\1$TEACHER|; s|("student.init": ")[^"]+|\1$STUDENT|' \
  "$workdir/config.json" > "$folder/config.json"
for cell in "$workdir"/cells/*; do "${PYTHON:-python}" "$here/keep.py" "$cell" "$folder/cells/$(basename "$cell")"; done
