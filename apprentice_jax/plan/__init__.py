"""What a TPU slice would make of a training run, from TPU's own compiler, on a machine without
TPUs."""
