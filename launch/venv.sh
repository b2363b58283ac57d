# shellcheck shell=bash
# Sourced by the launchers: makes .venv and installs the package with the extras in $1, once per setup.cfg.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
python=${PYTHON:-python3}
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
  { echo "apprentice-jax needs Python 3.11 or newer; set PYTHON=/path/to/python3.12" >&2; exit 1; }
stamp=".venv/installed-$(printf '%s' "$1" | cat - setup.cfg | cksum | cut -d' ' -f1)"
if [ ! -f "$stamp" ]; then
  what=".${1:+[$1]}"
  echo "installing apprentice-jax${1:+[$1]} into .venv ..."
  [ -x .venv/bin/python ] || "$python" -m venv .venv
  .venv/bin/python -m pip install --quiet --disable-pip-version-check --editable "$what"
  touch "$stamp"
fi
