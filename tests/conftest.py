"""What several folders of tests share: models so small that they cost nothing to load, and an S3 server."""

import io
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any
from uuid import uuid4

import boto3
import numpy as np
import onnx
import pytest
from botocore.exceptions import BotoCoreError, ClientError
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from components.bundle import KNOWN_IMAGE_FILE, MODEL_FILE, Bundle, KnownAnswer, file_digest, write_bundle
from components.culture import CLASS_NAMES, Modality
from components.imaging import Preprocessing, preprocess, probabilities

SIDE = 32


@pytest.fixture(scope="session")
def make_bundle() -> Callable[..., str]:
    """Gives ``write_tiny_bundle``, which writes a model that loads in milliseconds."""
    return write_tiny_bundle


@pytest.fixture(scope="session")
def png() -> Callable[..., bytes]:
    """Gives ``noise_png``, an encoded image."""
    return noise_png


def write_tiny_bundle(
    folder: Path, favour: int = 1, *, weight: float = 1.0, slow: int = 0, frozen_batch: bool = False, **changes: Any
) -> str:
    """Write a bundle whose network adds weighted mean colours to a bias that favours one class.

    Args:
        folder: Made if it is missing.
        favour: Class, 1 to 4, that the bias favours.
        weight: Of the image in the answer; at 0 every image gets the same answer.
        slow: Extra layers that change nothing, about a millisecond each.
        frozen_batch: Whether the network takes one image only.
        changes: Fields of ``Bundle`` to set otherwise.

    Returns:
        The model's digest.
    """
    folder.mkdir(parents=True, exist_ok=True)
    slopes = weight * np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4)
    bias = np.zeros(4, np.float32)
    bias[favour - 1] = 3
    _save_network(folder / MODEL_FILE, slopes, bias, slow, frozen_batch)
    image = noise_png(7)
    (folder / KNOWN_IMAGE_FILE).write_bytes(image)
    preprocessing = Preprocessing(size=SIDE)
    means = preprocess(image, preprocessing).mean(axis=(1, 2))
    files = {name: file_digest(folder / name) for name in (MODEL_FILE, KNOWN_IMAGE_FILE)}
    fields: dict[str, Any] = {
        "model_name": "confluence-single-stack",
        "modality": Modality.SINGLE_STACK,
        "backbone": "tiny",
        "classes": CLASS_NAMES,
        "preprocessing": preprocessing,
        "temperature": 1.0,
        "min_confidence": 0.0,
        "known": KnownAnswer(probabilities=tuple(probabilities((means @ slopes + bias)[np.newaxis])[0].tolist())),
        "data_version": "d" * 64,
        "split_id": "5" * 64,
        "code_version": "0.1.0",
        "created": datetime(2026, 1, 1, tzinfo=UTC),
        "metrics": {"accuracy": 0.9},
        "files": files,
    }
    return write_bundle(folder, Bundle(**{**fields, **changes}))


def noise_png(seed: int = 0, size: tuple[int, int] = (40, 48), form: str = "PNG") -> bytes:
    """Encode a picture of random colours, height and width as given."""
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, form)
    return file.getvalue()


def _save_network(path: Path, slopes: np.ndarray, bias: np.ndarray, slow: int, frozen_batch: bool) -> None:
    constants = {"slopes": slopes, "bias": bias}
    nodes = [
        helper.make_node("GlobalAveragePool", ["images"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["colours"]),
        helper.make_node("Gemm", ["colours", "slopes", "bias"], ["answer"]),
    ]
    if slow:
        constants |= {"wide": np.eye(4, 1024, dtype=np.float32), "same": np.eye(1024, dtype=np.float32)}
        names = [f"layer{index}" for index in range(slow + 1)]
        nodes.append(helper.make_node("MatMul", ["answer", "wide"], [names[0]]))
        nodes += [helper.make_node("MatMul", [a, "same"], [b]) for a, b in pairwise(names)]
        constants["narrow"] = np.eye(1024, 4, dtype=np.float32)
        nodes.append(helper.make_node("MatMul", [names[-1], "narrow"], ["logits"]))
    else:
        nodes.append(helper.make_node("Identity", ["answer"], ["logits"]))
    batch = 1 if frozen_batch else "batch"
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [batch, 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [batch, 4])],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)


@dataclass
class S3Server:
    """A real S3 server on loopback, with its keys."""

    endpoint: str
    access_key: str
    secret_key: str
    process: subprocess.Popen[bytes]

    def environment(self) -> dict[str, str]:
        """Give the variables that point AWS clients here, and nowhere else."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_CONFIG_FILE": "/dev/null",
            "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def make_bucket(self) -> str:
        """Make an empty bucket and give its URI."""
        name = f"bucket-{uuid4().hex}"
        keys = {"aws_access_key_id": self.access_key, "aws_secret_access_key": self.secret_key}
        client = boto3.client("s3", endpoint_url=self.endpoint, region_name="us-east-1", **keys)
        client.create_bucket(Bucket=name)
        return f"s3://{name}"

    def stop(self) -> None:
        """Kill the server."""
        self.process.kill()
        self.process.wait()


@pytest.fixture(scope="session")
def start_s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], S3Server]]:
    """Starts S3 servers; tests that stop theirs start their own."""
    with ExitStack() as stack:

        def start() -> S3Server:
            server = _start_seaweed(tmp_path_factory.mktemp("s3"))
            stack.callback(server.stop)
            return server

        yield start


@pytest.fixture(scope="session")
def s3_server(start_s3_server: Callable[[], S3Server]) -> S3Server:
    """The S3 server that all tests share."""
    return start_s3_server()


@pytest.fixture(scope="session")
def s3_bucket(s3_server: S3Server) -> str:
    """A bucket that all tests share: the server keeps volumes for each bucket, and has few."""
    return s3_server.make_bucket()


@pytest.fixture
def s3_uri(s3_server: S3Server, s3_bucket: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """URI of an empty place in S3, with the environment that opens it."""
    for name, value in s3_server.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    monkeypatch.delenv("AWS_SESSION_TOKEN", raising=False)
    return f"{s3_bucket}/{uuid4().hex}"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 256 kB."""
    with _mounted(tmp_path / "small disk", "size=256k") as folder:
        yield folder


@pytest.fixture
def read_only_folder(tmp_path: Path) -> Iterator[Path]:
    """A folder that not even root may write to."""
    with _mounted(tmp_path / "read-only", "ro,size=256k") as folder:
        yield folder


@contextmanager
def _mounted(folder: Path, options: str) -> Iterator[Path]:
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", options, "none", folder]
    if os.geteuid() != 0 or subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("only root may mount, and not in every container")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def _start_seaweed(folder: Path) -> S3Server:
    identity = {"credentials": [{"accessKey": "mscflow", "secretKey": "mscflow-secret"}], "actions": ["Admin"]}
    (folder / "config.json").write_text(json.dumps({"identities": [{"name": "tests", **identity}]}))
    parts = [f"{part}.port{kind}" for part in ("s3", "master", "volume", "filer", "admin") for kind in ("", ".grpc")]
    ports = dict(zip(parts, _free_ports(len(parts)), strict=True))
    options = ["-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-master.telemetry=false", "-admin.ui=false", "-webdav=false"]
    options += ["-s3.port.iceberg=0", "-s3.port.lance=0", f"-s3.config={folder / 'config.json'}", f"-dir={folder}"]
    options += [f"-{part}={port}" for part, port in ports.items()]
    weed = Path(sys.executable).with_name("weed")
    with (folder / "log.txt").open("wb") as log:
        process = subprocess.Popen([weed, "mini", *options], stdout=log, stderr=subprocess.STDOUT, cwd=folder)
    server = S3Server(f"http://127.0.0.1:{ports['s3.port']}", "mscflow", "mscflow-secret", process)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        try:
            server.make_bucket()
        except (BotoCoreError, ClientError):
            time.sleep(0.1)
        else:
            return server
    server.stop()
    raise RuntimeError(f"no S3 server: {(folder / 'log.txt').read_text()}")


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
