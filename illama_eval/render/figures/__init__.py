"""The figures of a run, by study."""
