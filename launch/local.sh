#!/usr/bin/env bash
# Runs apprentice on this machine, installing it into .venv first.
#
#   bash launch/local.sh                      the digits study: every scheme, two precisions, two seeds
#   bash launch/local.sh train --config=configs/cifar10.py:scheme=B --workdir=runs/b
#
# Arguments are those of the apprentice command. Uses the GPU where nvidia-smi finds one. Running the
# same command again continues an interrupted run; one that SIGTERM stopped is started again.
extras=""
if command -v nvidia-smi >/dev/null && nvidia-smi -L >/dev/null 2>&1; then extras=cuda; fi
# shellcheck source=launch/venv.sh
source "$(dirname "${BASH_SOURCE[0]}")/venv.sh" "$extras"
[ $# -gt 0 ] || set -- study --config=configs/digits.py --workdir=runs/digits
exec bash launch/restart.sh .venv/bin/apprentice "$@"
