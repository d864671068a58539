"""What studies compute with: pure functions of tensors, each tested on its own."""
