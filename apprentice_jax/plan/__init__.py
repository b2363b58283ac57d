"""The memory and the speed of a training run on a TPU slice, from TPU's own compiler, on a machine
without TPUs."""
