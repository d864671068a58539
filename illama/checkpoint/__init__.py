"""Checkpoints: reading them safely, the layouts they come in, and writing them."""
