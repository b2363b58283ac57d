"""Other people's checkpoints, read without PyTorch.

`pickles` reads a pickle without running it, `tensors` PyTorch's own objects in one, and `container`
the file around it. `state_dict` reads the arrays by their names, and `pretrained` a ResNet under
our names.
"""
