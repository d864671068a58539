"""Pure functions of tensors that the studies share."""
