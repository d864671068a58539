"""Colours, fonts and the page's theme."""
