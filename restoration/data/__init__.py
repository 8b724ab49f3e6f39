"""Data sets: clean images, decoded once, and the batches made from them."""
