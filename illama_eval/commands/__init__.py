"""What each command of `illama-eval` does once its options are parsed."""
