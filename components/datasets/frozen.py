"""What a lineage has settled for good: which images test its models, which its models know, and which choose them."""

from collections.abc import Collection, Iterable

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
        validation_groups: Those of the groups that never were in the train part; none in lineages of older versions.
        validation_images: Those of the images that never were.
    """

    lineage: str
    test: tuple[FrozenImage, ...] = ()
    learnt_groups: tuple[str, ...] = ()
    learnt_images: tuple[str, ...] = ()
    validation_groups: tuple[str, ...] = ()
    validation_images: tuple[str, ...] = ()

    def extended(
        self, test: Iterable[FrozenImage], train: Collection[tuple[str, str]], validation: Collection[tuple[str, str]]
    ) -> "Frozen":
        """Add the images of another version.

        Args:
            test: Those of its test part.
            train: Group and SHA-256 of those of its train part.
            validation: The same of its validation part.
        """
        groups, images = {group for group, _ in train}, {sha256 for _, sha256 in train}
        chosen_by = {*self.validation_groups, *(group for group, _ in validation)} - groups
        chosen_by_images = {*self.validation_images, *(sha256 for _, sha256 in validation)} - images
        return Frozen(
            self.lineage,
            tuple(sorted({*self.test, *test})),
            tuple(sorted({*self.learnt_groups, *groups, *chosen_by})),
            tuple(sorted({*self.learnt_images, *images, *chosen_by_images})),
            tuple(sorted(chosen_by)),
            tuple(sorted(chosen_by_images)),
        )


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
