"""A release: the models that an endpoint on a cluster serves together, kept in the object store by their digests.

    releases/<release digest>/release.json   each model by its version and its bundle's digest
    bundles/<bundle digest>/...              the bundles' files, which releases share (components/shelf.py)

The SHA-256 of ``release.json`` is the release's digest, and the SHA-256 of ``bundle.json`` the bundle's: the URI of a
release fixes every byte that is served from it.
"""

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec

from components.endpoint.files import WantedModel
from components.errors import InputError, IntegrityError
from components.shelf import fetch_bundle, keep_bundle
from components.storage import ObjectStore, open_store

RELEASES, RELEASE_FILE = "releases", "release.json"
_URI = re.compile(rf"(?P<store>.+)/{RELEASES}/(?P<digest>[0-9a-f]{{64}})/?")
_DIGEST = re.compile(r"[0-9a-f]{64}")


class ReleasedModel(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A model of a release.

    Attributes:
        version: Version in the model registry.
        digest: Digest of its bundle.
    """

    version: str
    digest: str


class Release(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What ``release.json`` holds; ``models`` by the name under which they are served."""

    models: dict[str, ReleasedModel]
    format: Literal["mscflow-release/1"] = "mscflow-release/1"


class Address(NamedTuple):
    """Where a release lies: a store, and the release's digest."""

    store: str
    digest: str

    @property
    def uri(self) -> str:
        """What ``python -m serving --release`` takes."""
        return f"{self.store}/{RELEASES}/{self.digest}"


def address_of(uri: str) -> Address:
    """Take a release's URI apart.

    Raises:
        InputError: if it is none.
    """
    found = _URI.fullmatch(uri)
    if found is None:
        raise InputError(f"'{uri}' names no release; give STORE/{RELEASES}/DIGEST, such as s3://bucket/store/...")
    return Address(found["store"], found["digest"])


def publish(
    store: ObjectStore, models: Mapping[str, WantedModel], others: Mapping[str, ReleasedModel] | None = None
) -> Address:
    """Put a release into a store; what lies there already is not sent again.

    ``release.json`` goes last: where it lies, all that it names does.

    Args:
        store: What the endpoint will read from.
        models: By the name under which they are served; ``path`` is the folder of the bundle here.
        others: Models whose bundles the store holds since an earlier release; one of the same name gives way.

    Raises:
        IntegrityError: if a bundle is not what its digest says.
        StorageError: if the store refuses.
    """
    for name, wanted in models.items():
        _keep(store, name, wanted)
    new = {name: ReleasedModel(each.version, each.digest) for name, each in models.items()}
    release = Release(dict(sorted({**(others or {}), **new}.items())))
    content = msgspec.json.encode(release)
    digest = hashlib.sha256(content).hexdigest()
    store.ensure(f"{RELEASES}/{digest}/{RELEASE_FILE}", content, len(content))
    return Address(store.uri, digest)


def read_release(address: Address) -> Release:
    """Read what a release holds.

    Raises:
        IntegrityError: if its digest is another.
        StorageError: if the store refuses, or holds no such release.
    """
    content = open_store(address.store).read(f"{RELEASES}/{address.digest}/{RELEASE_FILE}")
    actual = hashlib.sha256(content).hexdigest()
    if actual != address.digest:
        raise IntegrityError(f"{address.uri} has digest {actual}: it was altered; roll the models out again")
    try:
        release = msgspec.json.decode(content, type=Release)
    except msgspec.DecodeError as error:
        raise IntegrityError(f"{address.uri} is no release of this format: {error}") from error
    for name, model in release.models.items():
        if not _DIGEST.fullmatch(model.digest):
            raise IntegrityError(f"{address.uri} gives {name} the digest '{model.digest}', which is none")
    return release


def fetch(uri: str, folder: Path) -> dict[str, WantedModel]:
    """Bring the bundles of a release into a folder, every digest checked.

    Args:
        uri: Of the release.
        folder: Bundles lie in it by digest; one that is there intact is not fetched again.

    Returns:
        The models by name, with the folders that they lie in now.

    Raises:
        InputError: if the URI names no release.
        IntegrityError: if anything has another digest than it should.
        StorageError: if the store refuses, or the disk is full.
    """
    address = address_of(uri)
    store, release = open_store(address.store), read_release(address)
    return {
        name: WantedModel(str(fetch_bundle(store, each.digest, folder)), each.version, each.digest)
        for name, each in release.models.items()
    }


def _keep(store: ObjectStore, name: str, wanted: WantedModel) -> None:
    kept = keep_bundle(store, Path(wanted.path))
    if kept != wanted.digest:
        raise IntegrityError(
            f"{wanted.path} has digest {kept}, but {name} {wanted.version} is {wanted.digest}; fetch it again"
        )
