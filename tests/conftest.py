"""What several folders of tests share: models so small that they cost nothing to load, and servers.

Docker and Kubernetes come from the programs in the folder that MSCFLOW_K8S_TOOLS names, by default
../shared/k8s; where they are missing, tests that need them skip. What ran before the tests runs after them.
"""

import io
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from components.bundle import (
    KNOWN_IMAGE_FILE,
    MODEL_FILE,
    Bundle,
    DetectorBundle,
    KnownAnswer,
    KnownBoxes,
    file_digest,
    write_bundle,
)
from components.culture import ABNORMAL_LABEL, ABNORMAL_MODEL, CLASS_NAMES, Modality
from components.imaging import Preprocessing, preprocess, probabilities
from tests.containers import ROOT, Docker, call, started
from tests.kubernetes import CrdServer, SmallCluster
from tests.servers import S3Server

SIDE = 32
SLOWEST = Path(__file__).parent / "pipelines"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take minutes, so that two workers end together."""
    items.sort(key=lambda item: not item.path.is_relative_to(SLOWEST))


@pytest.fixture(scope="session")
def make_bundle() -> Callable[..., str]:
    """Gives ``write_tiny_bundle``, which writes a model that loads in milliseconds."""
    return write_tiny_bundle


@pytest.fixture(scope="session")
def make_detector() -> Callable[..., str]:
    """Gives ``write_tiny_detector``."""
    return write_tiny_detector


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


TINY_BOX = (0.25, 0.125, 0.5, 0.75)


def write_tiny_detector(folder: Path, *, bias: float = 2.0, weight: float = 1.0, **changes: Any) -> str:
    """Write a bundle whose network finds one cell at ``TINY_BOX`` in every image, the surer the brighter the image.

    Args:
        folder: Made if it is missing.
        bias: Of the score before its sigmoid.
        weight: Of the image's mean, after normalisation, in the score.
        changes: Fields of ``DetectorBundle`` to set otherwise.

    Returns:
        The model's digest.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _save_detector(folder / MODEL_FILE, bias, weight)
    image = noise_png(7)
    (folder / KNOWN_IMAGE_FILE).write_bytes(image)
    preprocessing = Preprocessing(size=SIDE)
    score = 1 / (1 + np.exp(-(weight * float(preprocess(image, preprocessing).mean()) + bias)))
    fields: dict[str, Any] = {
        "model_name": ABNORMAL_MODEL,
        "modality": Modality.SINGLE_STACK,
        "backbone": "tiny",
        "preprocessing": preprocessing,
        "positive": (ABNORMAL_LABEL,),
        "min_score": 0.5,
        "iou": 0.5,
        "known": KnownBoxes(boxes=(TINY_BOX,), scores=(score,)),
        "data_version": "c" * 64,
        "split_id": "5" * 64,
        "code_version": "0.1.0",
        "created": datetime(2026, 1, 1, tzinfo=UTC),
        "metrics": {"recall": 0.9},
        "files": {name: file_digest(folder / name) for name in (MODEL_FILE, KNOWN_IMAGE_FILE)},
    }
    return write_bundle(folder, DetectorBundle(**{**fields, **changes}))


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


def _save_detector(path: Path, bias: float, weight: float) -> None:
    constants = {
        "box": np.array([TINY_BOX], np.float32),
        "bias": np.array(bias, np.float32),
        "weight": np.array(weight, np.float32),
        "all_but_images": np.array([1, 2, 3], np.int64),
        "four": np.array([4], np.int64),
        "zero": np.array(0, np.int64),
        "one": np.array(1, np.int64),
        "first": np.array([0], np.int64),
    }
    nodes = [
        helper.make_node("ReduceMean", ["images", "all_but_images"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["mean", "weight"], ["weighted"]),
        helper.make_node("Add", ["weighted", "bias"], ["raw"]),
        helper.make_node("Sigmoid", ["raw"], ["scores"]),
        helper.make_node("Shape", ["scores"], ["count"]),
        helper.make_node("Concat", ["count", "four"], ["corners"], axis=0),
        helper.make_node("Expand", ["box", "corners"], ["boxes"]),
        helper.make_node("Squeeze", ["count", "first"], ["images_count"]),
        helper.make_node("Range", ["zero", "images_count", "one"], ["image"]),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", 3, SIDE, SIDE])],
        [
            helper.make_tensor_value_info("boxes", TensorProto.FLOAT, ["found", 4]),
            helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["found"]),
            helper.make_tensor_value_info("image", TensorProto.INT64, ["found"]),
        ],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)


@pytest.fixture(scope="session")
def start_s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], S3Server]]:
    """Starts S3 servers; tests that stop theirs start their own."""
    with ExitStack() as stack:

        def start() -> S3Server:
            server = S3Server(tmp_path_factory.mktemp("s3"))
            stack.callback(server.stop)
            server.start()
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


@pytest.fixture(scope="session")
def docker() -> Iterator[Docker]:
    """A Docker engine; skips where there is none."""
    with started("engine") as environment, Docker(environment) as engine:
        yield engine


@pytest.fixture(scope="session")
def images(docker: Docker) -> dict[str, str]:
    """Tags of this tree's images, by ``control``, ``train`` and ``predict``; built where they are not up to date."""
    # What the engine has: a stand-in for the published base image, and one build of torch without CUDA.
    here = {"MSCFLOW_BASE_IMAGE": "python:3.11-slim-bookworm", "MSCFLOW_TORCH": "cpu"}
    here["MSCFLOW_TORCH_CPU"] = "torch==2.13.0"
    written = call(["bash", ROOT / "infra" / "images" / "build.sh"], here | docker.environment, timeout=900)
    return dict(line.split(" ", 1) for line in written.splitlines())


@pytest.fixture(scope="session")
def small_cluster(docker: Docker) -> Iterator[SmallCluster]:
    """A small Kubernetes cluster whose pods run on the same engine; skips where there is none."""
    with started("cluster") as environment:
        yield SmallCluster(docker.environment | {"KUBECONFIG": environment["KUBECONFIG"]})


@pytest.fixture(scope="session")
def crd_server() -> Iterator[CrdServer]:
    """An API server that validates custom resources; skips where there is none."""
    with started("crd-server") as environment:
        yield CrdServer(Path(environment["KUBECONFIG"]))


@pytest.fixture
def disk_of(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """Gives disks of so many kB."""
    with ExitStack() as stack:
        yield lambda size: stack.enter_context(_mounted(tmp_path / f"disk of {size} kB", f"size={size}k"))


@pytest.fixture
def small_disk(disk_of: Callable[[int], Path]) -> Path:
    """A disk of 256 kB."""
    return disk_of(256)


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
