"""Data sets: clean images, decoded once."""
