"""The figures of a run: a file for each study."""
