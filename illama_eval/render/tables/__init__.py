"""Tables of rows: CSV, Markdown and LaTeX."""
