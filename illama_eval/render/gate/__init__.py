"""The gate's result in words, as JUnit XML and as a GitHub summary."""
