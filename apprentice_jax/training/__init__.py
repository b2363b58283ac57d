"""The trainer: program (what is compiled), loop, optimizer, checkpoints, metrics, replicas."""
