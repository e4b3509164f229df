"""Objects in S3, of Amazon or any server that speaks its protocol."""

import io
import zlib
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Lock
from typing import Any
from uuid import uuid4

import boto3
import botocore.session
from boto3.exceptions import Boto3Error
from botocore.client import BaseClient
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    HTTPClientError,
    IncompleteReadError,
    NoCredentialsError,
    ResponseStreamingError,
)
from botocore.exceptions import (
    ConnectionError as BotoConnectionError,
)
from botocore.loaders import create_loader
from typing_extensions import Buffer
from urllib3.exceptions import HTTPError

from components.errors import ConflictError, ObjectNotFound, StorageError
from components.storage.base import Data, ObjectInfo, ObjectReader, ObjectStore, Stream, check_key
from components.storage.waiting import Waiting

PART_BYTES = 8 << 20
# Up to this size a refused upload costs less than asking first whether the object is there.
BLIND_UPLOAD_BYTES = 1 << 20
READ_ATTEMPTS = 3

# A server that never answered is told within half a minute: three attempts of at most ten seconds each.
_CONFIG = Config(
    connect_timeout=5,
    read_timeout=10,
    retries={"mode": "standard", "total_max_attempts": 3},
    max_pool_connections=32,
    # boto3's own checksums come in a form that older servers do not know; see _put_whole.
    request_checksum_calculation="when_required",
    response_checksum_validation="when_required",
)
_MODELS = create_loader()  # what takes longest in making a client, and is the same for all
_DENIED = frozenset({"AccessDenied", "ExpiredToken", "InvalidAccessKeyId", "InvalidToken", "SignatureDoesNotMatch"})
_LOST = frozenset({"PreconditionFailed", "ConditionalRequestConflict", "412", "409"})
_BROKEN_OFF = (HTTPClientError, BotoConnectionError, IncompleteReadError, ResponseStreamingError, HTTPError)


class S3Store(ObjectStore):
    """The objects of a bucket whose keys start with a prefix."""

    remote = True

    def __init__(self, bucket: str, prefix: str = "") -> None:
        self.bucket = bucket
        self._prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        self.uri = f"s3://{bucket}/{self._prefix}".rstrip("/")
        with self._translated(None):
            self._client = _client()
        Waiting(self._client)
        self._bucket_seen = False
        self._starting = Lock()

    def open(self, key: str) -> ObjectReader:
        """Open an object; a connection that breaks off is taken up again where it was."""
        body = _Body(self, key)
        return ObjectReader(body, body.info)

    def stat(self, key: str) -> ObjectInfo | None:
        """Tell of an object, or give None if there is none."""
        try:
            with self._translated(key):
                answer = self._client.head_object(**self._at(key))
        except ObjectNotFound:
            return None
        return self.info(key, answer)

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """List the bucket, a page of 1,000 objects at a time."""
        pages = self._client.get_paginator("list_objects_v2")
        with self._translated(None):
            for page in pages.paginate(Bucket=self.bucket, Prefix=self._prefix + prefix):
                for found in page.get("Contents", ()):
                    key = found["Key"].removeprefix(self._prefix)
                    if key and not key.endswith("/"):  # what consoles create to show a folder
                        yield ObjectInfo(key, found["Size"], found["ETag"].strip('"'))

    def write(self, key: str, data: Data) -> None:
        """Write an object; large ones go up in parts."""
        with self._translated(key):
            self._put(key, data)

    def create(self, key: str, data: Data) -> bool:
        """Write an object only if there is none (``If-None-Match: *``)."""
        try:
            with self._translated(key):
                self._put(key, data, IfNoneMatch="*")
        except ConflictError:
            return False
        return True

    def ensure(self, key: str, data: Data, size: int) -> bool:
        """Write content under a key that fixes it; small objects in a single request."""
        if isinstance(data, bytes) and size <= BLIND_UPLOAD_BYTES and self.create(key, data):
            return True
        return super().ensure(key, data, size)

    def read_tagged(self, key: str) -> tuple[bytes, str]:
        """Read an object; its tag is its ETag."""
        with self.open(key) as reader:
            return reader.read(), reader.info.fingerprint

    def replace(self, key: str, data: bytes, expected: str | None) -> None:
        """Write an object only if it still has the ETag that it was read with (``If-Match``)."""
        condition = {"IfNoneMatch": "*"} if expected is None else {"IfMatch": f'"{expected}"'}
        try:
            with self._translated(key):
                self._put(key, data, **condition)
        except (ConflictError, ObjectNotFound) as error:
            raise ConflictError(f"{key} of {self.uri} was changed by another writer; read it and retry") from error

    def delete(self, key: str) -> None:
        """Remove an object."""
        with self._translated(key):
            self._client.delete_object(**self._at(key))

    def check_exists(self) -> None:
        """Check that the bucket is there and may be read."""
        with self._translated(None):
            self._client.head_bucket(Bucket=self.bucket)

    def check_writable(self) -> None:
        """Check that objects can be written, by writing one and removing it."""
        probe = f".mscflow-probe-{uuid4().hex}"
        self.write(probe, b"probe")
        self.delete(probe)

    def get(self, key: str, **condition: str) -> dict[str, Any]:
        """Ask for an object, or with ``Range`` and ``IfMatch`` for the rest of one."""
        with self._translated(key):
            answer: dict[str, Any] = self._client.get_object(**self._at(key), **condition)
            return answer

    def info(self, key: str, answer: dict[str, Any]) -> ObjectInfo:
        """Read what the headers of an answer tell of an object."""
        if "ContentLength" not in answer or "ETag" not in answer:  # headers that break off look complete
            raise StorageError(f"{self._endpoint()} answered only in part for {self.uri}/{key}; try again")
        return ObjectInfo(key, answer["ContentLength"], answer["ETag"].strip('"'))

    def _at(self, key: str) -> dict[str, str]:
        return {"Bucket": self.bucket, "Key": self._prefix + check_key(key, self.uri)}

    def _put(self, key: str, data: Data, **condition: str) -> None:
        where = self._at(key)
        self._see_bucket()
        if isinstance(data, bytes):
            self._put_whole(where, data, condition)
        elif isinstance(data, Path):
            with data.open("rb") as file:
                self._put_stream(where, file, condition)
        else:
            self._put_stream(where, data, condition)

    def _put_whole(self, where: dict[str, str], content: bytes, condition: dict[str, str]) -> None:
        # Without a checksum, SeaweedFS keeps an empty object where a client is killed between its
        # request's headers and body.
        checksum = b64encode(zlib.crc32(content).to_bytes(4, "big")).decode()
        self._client.put_object(**where, Body=content, ChecksumCRC32=checksum, **condition)

    def _put_stream(self, where: dict[str, str], stream: Stream, condition: dict[str, str]) -> None:
        part = stream.read(PART_BYTES)
        if len(part) < PART_BYTES:
            self._put_whole(where, part, condition)
            return
        upload = {**where, "UploadId": self._client.create_multipart_upload(**where)["UploadId"]}
        try:
            parts: list[dict[str, object]] = []
            while part:
                number = len(parts) + 1
                answer = self._client.upload_part(**upload, PartNumber=number, Body=part)
                parts.append({"PartNumber": number, "ETag": answer["ETag"]})
                part = stream.read(PART_BYTES)
            self._client.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts}, **condition)
        except BaseException:
            with suppress(ClientError, BotoCoreError):
                self._client.abort_multipart_upload(**upload)
            raise

    def _see_bucket(self) -> None:
        """Once a store: check that there is a bucket, as some servers create what is written to."""
        with self._starting:
            if self._bucket_seen:
                return
            try:
                self._client.head_bucket(Bucket=self.bucket)
            except ClientError as error:
                # Keys that may write need not be allowed to look at the bucket.
                if _status(error) != 403:
                    raise
            self._bucket_seen = True

    @contextmanager
    def _translated(self, key: str | None) -> Iterator[None]:
        """Turn boto3's errors into sentences."""
        where = self.uri if key is None else f"{self.uri}/{key}"
        try:
            yield
        except ClientError as error:
            raise self._refusal(error, where, key) from error
        except NoCredentialsError as error:
            raise StorageError(
                f"no S3 keys for {self.uri}: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
            ) from error
        except _BROKEN_OFF as error:
            raise StorageError(
                f"{self._endpoint()} does not answer ({type(error).__name__}) for {where}: "
                "check AWS_ENDPOINT_URL and that the server runs"
            ) from error
        except (BotoCoreError, Boto3Error) as error:
            raise StorageError(f"{where}: {' '.join(str(error).split())}") from error
        except OSError as error:
            raise StorageError(f"{error.filename or where}: {error.strerror or error}") from error

    def _refusal(self, error: ClientError, where: str, key: str | None) -> StorageError:
        details = error.response.get("Error", {})
        code, status = str(details.get("Code", "?")), _status(error)
        if code in _LOST:
            return ConflictError(f"{where} was changed by another writer; read it again and retry")
        if code == "NoSuchBucket" or (status == 404 and (key is None or error.operation_name == "HeadBucket")):
            return StorageError(
                f"bucket '{self.bucket}' does not exist at {self._endpoint()}; create it or mend {self.uri}"
            )
        if status == 404:
            return ObjectNotFound(f"{where} does not exist")
        if status in (401, 403) or code in _DENIED:
            return StorageError(
                f"{self._endpoint()} refused the S3 keys for {where} ({code}); "
                "check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and the bucket's policy"
            )
        return StorageError(f"{where}: {self._endpoint()} answered {code}: {details.get('Message', 'no reason given')}")

    def _endpoint(self) -> str:
        return str(self._client.meta.endpoint_url)


class _Body(io.RawIOBase):
    """The bytes of one state of an object."""

    def __init__(self, store: S3Store, key: str) -> None:
        super().__init__()
        self._store, self._key, self._position = store, key, 0
        answer = store.get(key)
        self._stream = answer["Body"]
        self.info = store.info(key, answer)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Buffer, /) -> int:
        view = memoryview(buffer)
        data = self._read(len(view))
        view[: len(data)] = data
        return len(data)

    def readall(self) -> bytes:
        return b"".join(iter(lambda: self._read(PART_BYTES), b""))

    def close(self) -> None:
        if not self.closed:
            self._stream.close()
        super().close()

    def _read(self, amount: int) -> bytes:
        for _ in range(READ_ATTEMPTS):
            with suppress(*_BROKEN_OFF):
                data: bytes = self._stream.read(amount)
                if data or self._position >= self.info.size:
                    self._position += len(data)
                    return data
            self._reopen()
        raise StorageError(
            f"{self._store.uri}/{self._key} breaks off at byte {self._position} time and again; check the server"
        )

    def _reopen(self) -> None:
        self._stream.close()
        same = {"IfMatch": f'"{self.info.fingerprint}"'}
        self._stream = self._store.get(self._key, Range=f"bytes={self._position}-", **same)["Body"]


def _client() -> BaseClient:
    core = botocore.session.Session()
    core.register_component("data_loader", _MODELS)
    session = boto3.session.Session(botocore_session=core)
    return session.client("s3", region_name=session.region_name or "us-east-1", config=_CONFIG)


def _status(error: ClientError) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
