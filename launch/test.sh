#!/usr/bin/env bash
# Installs apprentice with its test extras into .venv, checks the code's form, and runs the fast tests.
# Arguments go to pytest: `-m slow` runs the slow tests, `-m ""` runs all.
# shellcheck source=launch/venv.sh
source "$(dirname "${BASH_SOURCE[0]}")/venv.sh" test
.venv/bin/ruff format --check --quiet .
.venv/bin/ruff check --quiet .
.venv/bin/lint-imports --no-cache > .venv/imports.txt || { cat .venv/imports.txt; exit 1; }
# Files take turns on two workers, the slowest first (tests/conftest.py): what is expensive is made once in a file.
exec .venv/bin/python -m pytest --numprocesses=2 --dist=loadfile --no-loadscope-reorder "$@"
