"""The report page, in HTML and in Markdown."""
