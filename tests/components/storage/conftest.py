from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from moto import mock_aws

from components.storage import ObjectStore, open_store


@pytest.fixture
def mocked_s3_uri(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """URI of an empty bucket that exists in this process alone."""
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "mock")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "mock")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    with mock_aws():
        boto3.client("s3").create_bucket(Bucket="mocked")
        yield "s3://mocked"


@pytest.fixture(params=["folder", "mocked_s3", "s3"])
def uri(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """URI of an empty store, of each kind in turn."""
    if request.param == "folder":
        return str(tmp_path / "store")
    return str(request.getfixturevalue(f"{request.param}_uri"))


@pytest.fixture
def store(uri: str) -> ObjectStore:
    return open_store(uri)
