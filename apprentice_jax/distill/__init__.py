"""Knowledge distillation: the joint loss, the schemes as data, and the step of one replica."""
