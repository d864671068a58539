"""Numbers, changes, escapes and the glossary."""
