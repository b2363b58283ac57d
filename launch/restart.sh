#!/usr/bin/env bash
# Runs a command, and again for as long as it exits with 75: a run that was told to stop, and has saved.
#
#   bash launch/restart.sh apprentice train --config=configs/cifar10.py --workdir=runs/c
#
# A signal to this script itself is passed on and ends both, once the run has saved: a machine that is
# taken away must not start the run again.
set -um  # -m: the command gets its signals from this script alone
stopping="" woken="" child=""
trap 'stopping=1 woken=1; kill -TERM ${child:-$$} 2>/dev/null; kill -CONT ${child:-$$} 2>/dev/null' TERM
trap 'stopping=1 woken=1; kill -INT ${child:-$$} 2>/dev/null; kill -CONT ${child:-$$} 2>/dev/null' INT
while true; do
  "$@" &
  child=$!
  wait "$child"
  code=$?
  # The wait ended for a signal to this script, or because the command was paused (SIGSTOP), not for its end.
  while [ -n "$woken" ] || kill -0 "$child" 2>/dev/null; do
    [ -n "$woken" ] || sleep 1
    woken=""
    wait "$child"
    code=$?
  done
  [ "$code" = 75 ] && [ -z "$stopping" ] || exit "$code"
  echo "stopped and saved: starting again" >&2
done
