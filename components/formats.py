"""What image files and the network's view of them are called; without the libraries that read them."""

from typing import Literal

FORMATS = ("JPEG", "PNG", "BMP", "TIFF")
EXTENSIONS = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff"})

Planes = Literal["rgb", "texture"]
Clumps = Literal["kept", "masked"]
Equalisation = Literal["none", "equalise", "clahe"]
