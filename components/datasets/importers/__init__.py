"""Read a tree of images and its labels, in whichever known layout they lie."""

from components.datasets.importers.discovery import LAYOUTS, SourceImages, find_images, layout_names
from components.datasets.source import SourceImage

__all__ = ["LAYOUTS", "SourceImage", "SourceImages", "find_images", "layout_names"]
