"""What a lineage has settled for good: which images test its models, and which its models may know."""

from collections.abc import Iterable

import msgspec

from components.errors import IntegrityError, ObjectNotFound
from components.storage import ObjectStore


class FrozenImage(msgspec.Struct, frozen=True, order=True):
    """One image of the frozen test part."""

    path: str
    sha256: str
    group: str


class Frozen(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The frozen test part of a lineage; it only ever grows.

    Attributes:
        test: Every image that ever was in the test part, ascending by path.
        learnt_groups: Groups that ever were in the train or validation part, ascending.
        learnt_images: SHA-256 of the images that ever were, ascending.
    """

    lineage: str
    test: tuple[FrozenImage, ...] = ()
    learnt_groups: tuple[str, ...] = ()
    learnt_images: tuple[str, ...] = ()

    def extended(self, test: Iterable[FrozenImage], learnt: Iterable[tuple[str, str]]) -> "Frozen":
        """Add the images of another version.

        Args:
            test: Those of its test part.
            learnt: Group and SHA-256 of those of its train and validation parts.
        """
        groups, images = set(self.learnt_groups), set(self.learnt_images)
        for group, sha256 in learnt:
            groups.add(group)
            images.add(sha256)
        return Frozen(self.lineage, tuple(sorted({*self.test, *test})), tuple(sorted(groups)), tuple(sorted(images)))


def read_frozen(store: ObjectStore, lineage: str) -> tuple[Frozen, str | None]:
    """Give what a lineage has settled, and the tag that ``write_frozen`` wants; nothing for a new lineage.

    Raises:
        IntegrityError: if it is not what was written.
    """
    try:
        content, tag = store.read_tagged(_key(lineage))
    except ObjectNotFound:
        return Frozen(lineage), None
    try:
        return msgspec.json.decode(content, type=Frozen), tag
    except msgspec.MsgspecError as error:
        raise IntegrityError(f"{_key(lineage)} of {store.uri} was altered ({error}); restore it from a copy") from error


def write_frozen(store: ObjectStore, frozen: Frozen, tag: str | None) -> None:
    """Replace what a lineage has settled, if it is still as it was read.

    Raises:
        ConflictError: if another writer came first.
    """
    store.replace(_key(frozen.lineage), msgspec.json.encode(frozen), tag)


def _key(lineage: str) -> str:
    return f"splits/frozen/{lineage}.json"
