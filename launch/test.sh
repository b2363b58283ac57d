#!/usr/bin/env bash
# Installs apprentice with its test extras into .venv and runs all tests; arguments go to pytest.
# shellcheck source=launch/venv.sh
source "$(dirname "${BASH_SOURCE[0]}")/venv.sh" test
# Files take turns on two workers, the slowest first (tests/conftest.py): what is expensive is made once in a file.
exec .venv/bin/python -m pytest --numprocesses=2 --dist=loadfile --no-loadscope-reorder "$@"
