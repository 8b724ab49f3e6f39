"""Image files: found and recognised by content, decoded as a viewer shows them, and encoded in kind."""

from restoration.picture.codec import Picture, decode, encode, read, write
from restoration.picture.colour import shown
from restoration.picture.file import MAX_MEGAPIXELS, find_images, is_out_of_memory, opened, printable, suffixes

__all__ = [
    "MAX_MEGAPIXELS",
    "Picture",
    "decode",
    "encode",
    "find_images",
    "is_out_of_memory",
    "opened",
    "printable",
    "read",
    "shown",
    "suffixes",
    "write",
]
