"""The trainer: run and loop, dispatch and program of a step, optimizer, checkpoints, records."""
