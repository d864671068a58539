"""Checkpoints: reading them safely, their layouts, quantized weights, and writing them."""
