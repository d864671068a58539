"""A gate's verdict in words, JUnit XML and a GitHub summary."""
