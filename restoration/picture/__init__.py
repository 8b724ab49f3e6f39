"""Image files: found and recognised by content, decoded as a viewer shows them, and encoded in kind."""

from restoration.picture.codec import Picture, decode, encode, read, unit, write
from restoration.picture.colour import shown
from restoration.picture.file import MAX_MEGAPIXELS, find_images, is_out_of_memory, opened, printable, suffixes
from restoration.picture.mask import hole_hint, read_mask, transparent
from restoration.picture.plan import Task, plan

__all__ = [
    "MAX_MEGAPIXELS",
    "Picture",
    "Task",
    "decode",
    "encode",
    "find_images",
    "hole_hint",
    "is_out_of_memory",
    "opened",
    "plan",
    "printable",
    "read",
    "read_mask",
    "shown",
    "suffixes",
    "transparent",
    "unit",
    "write",
]
