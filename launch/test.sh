#!/usr/bin/env bash
# Installs apprentice with its test extras into .venv and runs all tests; arguments go to pytest.
# shellcheck source=launch/venv.sh
source "$(dirname "${BASH_SOURCE[0]}")/venv.sh" test
exec .venv/bin/python -m pytest "$@"
