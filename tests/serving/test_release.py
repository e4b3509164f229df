"""A server of its own folder, which serves what a release in an object store holds."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from components.endpoint.client import Client
from components.endpoint.files import WantedModel
from components.endpoint.releases import publish
from components.storage import LocalStore, open_store
from tests.servers import free_ports

SINGLE, CELLS = "confluence-single-stack", "abnormal-cells"


@pytest.fixture
def models(
    tmp_path: Path, make_bundle: Callable[..., str], make_detector: Callable[..., str]
) -> dict[str, WantedModel]:
    return {
        SINGLE: WantedModel(str(tmp_path / "single"), "3", make_bundle(tmp_path / "single", favour=2)),
        CELLS: WantedModel(str(tmp_path / "cells"), "7", make_detector(tmp_path / "cells")),
    }


def serving(*options: str, temporary: Path) -> subprocess.Popen[bytes]:
    temporary.mkdir()
    return subprocess.Popen(
        [sys.executable, "-m", "serving", *options],
        stderr=subprocess.PIPE,
        env=os.environ | {"TMPDIR": str(temporary)},
    )


def test_a_release_in_s3_is_served_and_leaves_nothing_behind(
    models: dict[str, WantedModel], s3_uri: str, png: Callable[..., bytes], tmp_path: Path
) -> None:
    uri, (port, grpc_port) = publish(open_store(s3_uri), models).uri, free_ports(2)
    server = serving("--release", uri, "--port", str(port), "--grpc-port", str(grpc_port), temporary=tmp_path / "tmp")
    try:
        with Client(f"http://127.0.0.1:{port}", patience=60) as client:
            client.models()  # it waits until the server listens
            while client.why_not_ready() is not None:
                time.sleep(0.05)
            assert set(client.models()) == {SINGLE, CELLS, "culture"}
            described = client.describe(SINGLE)
            (answer,) = client.predict(SINGLE, [("image.png", png())])
        assert (described["version"], described["digest"]) == ("3", models[SINGLE].digest)
        assert (answer.confluence_class, answer.model_version) == (2, "3")
    finally:
        server.send_signal(signal.SIGTERM)
        _, told = server.communicate(timeout=60)
    assert server.returncode == 0, told.decode()
    assert not list((tmp_path / "tmp").glob("mscflow-endpoint-*"))


def test_a_release_that_was_altered_is_not_served(models: dict[str, WantedModel], tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "store")
    uri = publish(store, models).uri
    key = f"bundles/{models[CELLS].digest}/model.onnx"
    store.write(key, store.read(key) + b"\0")
    server = serving("--release", uri, "--port", "0", "--grpc-port", "0", temporary=tmp_path / "tmp")
    _, told = server.communicate(timeout=60)
    assert server.returncode == 1
    assert "has digest" in told.decode()
    assert "Traceback" not in told.decode()


def test_one_of_folder_and_release_is_asked_for(tmp_path: Path) -> None:
    server = serving(temporary=tmp_path / "tmp")
    _, told = server.communicate(timeout=60)
    assert server.returncode == 2
    assert "give --folder or --release" in told.decode()
