"""Image files: found and recognised by content, decoded as a viewer shows them, and encoded in kind."""

from restoration.picture.codec import Picture as Picture
from restoration.picture.codec import decode as decode
from restoration.picture.codec import encode as encode
from restoration.picture.codec import read as read
from restoration.picture.codec import write as write
from restoration.picture.colour import shown as shown
from restoration.picture.file import MAX_MEGAPIXELS as MAX_MEGAPIXELS
from restoration.picture.file import find_images as find_images
from restoration.picture.file import is_out_of_memory as is_out_of_memory
from restoration.picture.file import opened as opened
from restoration.picture.file import printable as printable
from restoration.picture.file import suffixes as suffixes
