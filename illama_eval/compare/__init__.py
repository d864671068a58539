"""Comparing stored runs: paired changes, tests, policies and the gate."""
