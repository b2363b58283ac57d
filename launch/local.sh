#!/usr/bin/env bash
# Runs apprentice on this machine, installing it into .venv first.
#
#   bash launch/local.sh                      the digits study, and then three commands to try next
#   bash launch/local.sh train --config=configs/cifar10.py:scheme=B --workdir=runs/b
#
# Arguments are those of the apprentice command. Uses the GPU where nvidia-smi finds one. Running the
# same command again continues an interrupted run; one that SIGTERM stopped is started again.
extras=""
if command -v nvidia-smi >/dev/null && nvidia-smi -L >/dev/null 2>&1; then extras=cuda; fi
# shellcheck source=launch/venv.sh
source "$(dirname "${BASH_SOURCE[0]}")/venv.sh" "$extras"

next() {
  cat <<'END'

What to try next:

  .venv/bin/apprentice export --workdir=runs/digits/cells/B-8A2W-seed0 --format=c --out=runs/digits_c
      writes a network of the study as C code for a microcontroller, and says what memory it takes
  .venv/bin/apprentice train --config=digits:precision=8A4W --workdir=runs/digits_4bit
      trains a student with weights of 4 bits in place of 2, and writes a report on it
  .venv/bin/apprentice models
      lists the trained networks that come with the package

docs/getting-started.md goes from a folder of your own photos to a network in C.
END
}

if [ $# = 0 ]; then
  set -- study --config=configs/digits.py --workdir=runs/digits
  trap 'if [ $? = 0 ]; then next; fi' EXIT
fi
set +e
# In this shell, so that a signal to this script reaches the command.
# shellcheck source=launch/restart.sh
source launch/restart.sh .venv/bin/apprentice "$@"
