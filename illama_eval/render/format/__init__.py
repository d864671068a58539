"""Text of numbers, changes and names, escaping, and the glossary."""
