"""The configs that come with the package; a command takes them by name, as in --config=cifar10."""
