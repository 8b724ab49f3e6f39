"""Flow-matching image restoration."""

__version__ = "0.2.0"
