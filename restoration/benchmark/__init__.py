"""How fast the backbones train and restore, beside each other and beside networks of other packages."""

from restoration.benchmark.command import main

__all__ = ["main"]
