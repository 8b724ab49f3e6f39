"""Flow-matching image restoration."""

from restoration.restorer import Restorer

__all__ = ["Restorer"]
__version__ = "0.2.0"
