"""From a URI to the store that it names."""

from pathlib import Path
from urllib.parse import unquote, urlsplit

from components.errors import StorageError
from components.storage.base import ObjectStore
from components.storage.local import LocalStore


def open_store(uri: str | Path, *, must_exist: bool = False) -> ObjectStore:
    """Open an object store.

    Args:
        uri: A folder, ``file:///folder`` or ``s3://bucket/prefix``. S3 takes its keys and endpoint as
            the AWS tools do: AWS_ACCESS_KEY_ID, AWS_PROFILE, AWS_ENDPOINT_URL and so on.
        must_exist: Check now that the folder or bucket is there; without it, the first use tells.

    Raises:
        StorageError: if the URI names no kind of store, or what must exist does not.
    """
    store = _from_uri(uri)
    if must_exist:
        store.check_exists()
    return store


def _from_uri(uri: str | Path) -> ObjectStore:
    if isinstance(uri, Path) or "://" not in uri:
        if not str(uri):
            raise StorageError("'' names no store: use a folder or s3://bucket/prefix")
        return LocalStore(Path(uri))
    parts = urlsplit(uri)
    if parts.scheme == "file" and parts.netloc in ("", "localhost"):
        return LocalStore(Path(unquote(parts.path)))
    if parts.scheme == "s3" and parts.netloc:
        # boto3 takes half a second to import, which only those who use S3 should pay.
        from components.storage.s3 import S3Store

        _, _, rest = uri.partition("://")
        bucket, _, prefix = rest.partition("/")
        return S3Store(bucket, prefix)
    raise StorageError(f"'{uri}' names no store: use a folder, file:///folder or s3://bucket/prefix")
