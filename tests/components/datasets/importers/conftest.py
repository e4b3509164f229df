from pathlib import Path

import pytest

from components.datasets.importers import find_images
from components.storage import open_store


class Tree:
    """A folder that is filled by a test; importers never look into images, so that any bytes do."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def add(self, *names: str, content: str | bytes = b"image") -> "Tree":
        for name in names:
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content.encode() if isinstance(content, str) else content)
        return self

    def find(self, **options):
        return find_images(open_store(self.folder), **options)

    def fields(self, **options) -> dict[str, dict]:
        """Metadata by path, without what is not known."""
        return {
            image.path: {name: value for name, value in image.metadata.items() if value not in (None, {})}
            for image in self.find(**options)
        }


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    folder = tmp_path / "source"
    folder.mkdir()
    return Tree(folder)
