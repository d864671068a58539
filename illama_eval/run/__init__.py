"""Evaluation: one pass over the images, sums of the studies, and the run directory."""
