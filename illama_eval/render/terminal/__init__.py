"""What commands print to the terminal."""
