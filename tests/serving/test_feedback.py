"""Samples of requests: what is kept, where, and what happens when the store does not take it."""

import hashlib
import json
import logging
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from components.culture import Modality
from components.datasets.importers import find_images
from components.endpoint.files import WantedModel, write_desired
from components.endpoint.prediction import Prediction
from components.novelty import TRAITS
from components.storage import LocalStore, ObjectStore, open_store
from serving import feedback as module
from serving.feedback import Feedback
from serving.model import Answer, Stages
from serving.protocol import Images

MODEL = "confluence-single-stack"


class Kept(Feedback):
    """Samples of every request, and what came of them."""

    def __init__(self, uri: Any, *, queue: int = 64, rate: float = 1.0) -> None:
        self.outcomes: Counter[str] = Counter()
        super().__init__(rate, str(uri), 7, queue, self._note)

    def _note(self, outcome: str, requests: int) -> None:
        self.outcomes[outcome] += requests


@pytest.fixture
def answer(prediction: Prediction) -> Callable[..., Answer]:
    """Makes an answer to a request of these images."""

    def make(*images: bytes) -> Answer:
        asked = Images(list(images), [None] * len(images), "7")
        described = [np.arange(len(TRAITS)) / 3, *[None] * (len(images) - 1)]
        return Answer(MODEL, "1", asked, [prediction] * len(images), described, Stages(0.0, 0.0, 0.0))

    return make


@pytest.fixture(params=["folder", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    return open_store(tmp_path / "store" if request.param == "folder" else request.getfixturevalue("s3_uri"))


@pytest.fixture
def stalled(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Lets every write hang until the event is set."""
    release = threading.Event()
    write = LocalStore.write

    def wait(self: LocalStore, key: str, data: Any) -> None:
        release.wait(60)
        write(self, key, data)

    monkeypatch.setattr(LocalStore, "write", wait)
    yield release
    release.set()


def records(store: ObjectStore) -> list[dict[str, Any]]:
    keys = sorted(info.key for info in store.list("feedback/records/"))
    return [json.loads(line) for key in keys for line in store.read(key).splitlines()]


def images(store: ObjectStore) -> dict[str, bytes]:
    return {info.key: store.read(info.key) for info in store.list("feedback/images/")}


def test_images_are_kept_once_under_their_digest_and_each_answer_has_a_record(
    store: ObjectStore, answer: Callable[..., Answer], png: Callable[..., bytes]
) -> None:
    first, second = png(1), png(2, form="TIFF")
    kept = Kept(store.uri)
    kept.offer("a", MODEL, "v1", answer(first, second))
    kept.offer("b", MODEL, "grpc", answer(first))
    kept.close()
    assert kept.outcomes == {"written": 2}
    names = [f"feedback/images/{hashlib.sha256(first).hexdigest()}.png"]
    names += [f"feedback/images/{hashlib.sha256(second).hexdigest()}.tif"]
    assert images(store) == dict(zip(names, (first, second), strict=True))
    found = records(store)
    assert [(one["request"], one["protocol"], one["image"]) for one in found] == [
        ("a", "v1", names[0]),
        ("a", "v1", names[1]),
        ("b", "grpc", names[0]),
    ]
    assert found[1]["size"] == len(second)
    assert found[1]["label"] is None
    assert found[1]["prediction"].items() >= {"class": 2, "model_version": "1", "digest": "e" * 64}.items()
    assert "novelty" in found[1]["prediction"]
    assert list(found[0]["features"]) == list(TRAITS)
    assert found[0]["features"][TRAITS[2]] == 0.6667
    assert found[1]["features"] is None
    assert found[1]["time"].endswith("+00:00")


def test_what_is_kept_can_be_imported_as_images_without_labels(
    tmp_path: Path, answer: Callable[..., Answer], png: Callable[..., bytes]
) -> None:
    kept = Kept(tmp_path)
    # Digests begin with digits: none of them may be taken for the folder or the name of a class.
    for seed in range(40):
        kept.offer(str(seed), MODEL, "v1", answer(png(seed)))
    kept.close()
    source = open_store(tmp_path / "feedback" / "images")
    found = list(find_images(source, modality=Modality.SINGLE_STACK, unlabelled=True))
    assert len(found) == 40
    assert {image.metadata.get("confluence_class") for image in found} == {None}


def test_a_share_of_the_requests_is_kept(tmp_path: Path, answer: Callable[..., Answer]) -> None:
    kept = Kept(tmp_path, rate=0.25, queue=2000)
    for index in range(2000):
        kept.offer(str(index), MODEL, "v1", answer(b"%d" % index))
    kept.close()
    assert 380 < kept.outcomes["written"] < 620  # six standard deviations on either side
    assert len(records(open_store(tmp_path))) == kept.outcomes["written"]


@pytest.mark.usefixtures("stalled")
def test_what_the_queue_does_not_hold_is_dropped_and_counted(tmp_path: Path, answer: Callable[..., Answer]) -> None:
    kept = Kept(tmp_path, queue=5)
    for _ in range(20):
        kept.offer("a", MODEL, "v1", answer(b"x"))
    assert kept.outcomes == {"dropped": 15}


@pytest.mark.usefixtures("stalled")
def test_the_queue_is_bounded_in_bytes_too(
    tmp_path: Path, answer: Callable[..., Answer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "QUEUE_BYTES", 1000)
    kept = Kept(tmp_path)
    for _ in range(5):
        kept.offer("a", MODEL, "v1", answer(bytes(400)))
    assert kept.outcomes == {"dropped": 3}


def test_a_store_that_hangs_delays_the_end_by_a_bounded_time(
    tmp_path: Path,
    answer: Callable[..., Answer],
    stalled: threading.Event,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(module, "FLUSH_SECONDS", 0.2)
    kept = Kept(tmp_path)
    kept.offer("a", MODEL, "v1", answer(b"x"))
    kept.close()
    assert not stalled.is_set()
    assert "1 samples were not written" in caplog.text
    kept.offer("b", MODEL, "v1", answer(b"x"))
    assert kept.outcomes == {"dropped": 1}


@pytest.mark.parametrize(
    ("uri", "message"), [("s3://nowhere/at-all", "does not answer"), ("ftp://x", "names no store")]
)
def test_a_dead_store_costs_samples_and_a_line_of_the_log(
    uri: str,
    message: str,
    answer: Callable[..., Answer],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    for name, value in {"ENDPOINT_URL": "http://127.0.0.1:9", "ACCESS_KEY_ID": "x", "SECRET_ACCESS_KEY": "x"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    monkeypatch.setattr(module, "BATCH_SECONDS", 0.0)
    caplog.set_level(logging.WARNING)
    kept = Kept(uri)
    for index in range(2):
        kept.offer("a", MODEL, "v1", answer(b"x"))
        wait_until(lambda index=index: kept.outcomes["failed"] == index + 1)
    kept.close()
    assert [message in line for line in caplog.messages if "feedback is not kept" in line] == [True], "not a line each"


def test_a_full_disk_costs_samples_until_there_is_room(
    small_disk: Path, answer: Callable[..., Answer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BATCH_SECONDS", 0.0)
    filler = small_disk / "filler"
    filler.write_bytes(bytes(200_000))
    kept = Kept(small_disk)
    kept.offer("a", MODEL, "v1", answer(bytes(150_000)))
    wait_until(lambda: kept.outcomes["failed"] == 1)
    filler.unlink()
    kept.offer("b", MODEL, "v1", answer(b"small"))
    wait_until(lambda: kept.outcomes["written"] == 1)
    kept.close()
    store = open_store(small_disk)
    assert set(images(store).values()) == {b"small"}
    assert {record["request"] for record in records(store)} == {"a", "b"}, "a record may name an image that is missing"


def ask_all(endpoint: Any, images: list[bytes]) -> list[Any]:
    endpoint.wait(lambda status: status.ready)
    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(endpoint.predict, images))


def test_an_endpoint_under_load_writes_every_sample_before_it_ends(
    tmp_path: Path, serve: Any, wanted: Callable[..., WantedModel], png: Callable[..., bytes]
) -> None:
    write_desired(tmp_path, {MODEL: wanted("1")})
    given = [png(seed) for seed in range(60)]
    with serve(tmp_path, "--feedback-rate", "1", "--feedback-store", str(tmp_path / "store")) as endpoint:
        answers = ask_all(endpoint, given)
        assert endpoint.stop() == 0
    kept = open_store(tmp_path / "store")
    assert {record["request"] for record in records(kept)} == {answer.headers["x-request-id"] for answer in answers}
    assert set(images(kept).values()) == set(given)


def test_a_store_that_hangs_harms_no_request(
    tmp_path: Path,
    serve: Any,
    wanted: Callable[..., WantedModel],
    png: Callable[..., bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write_desired(tmp_path, {MODEL: wanted("1")})
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        for name, value in {"ENDPOINT_URL": url, "ACCESS_KEY_ID": "x", "SECRET_ACCESS_KEY": "x"}.items():
            monkeypatch.setenv(f"AWS_{name}", value)
        options = ["--feedback-rate", "1", "--feedback-store", "s3://hangs", "--feedback-queue", "8"]
        with serve(tmp_path, *options) as endpoint:
            answers = ask_all(endpoint, [png(seed) for seed in range(60)])
            assert [answer.status_code for answer in answers] == [200] * 60
            figures = endpoint.http.get("/metrics").text
            assert 'mscflow_feedback_requests_total{outcome="dropped"} 52.0' in figures
            assert endpoint.stop() == 0
    assert "8 samples were not written to s3://hangs before the end" in (tmp_path / "log").read_text()


def test_feedback_without_a_store_is_refused_at_the_start(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "serving", "--folder", str(tmp_path), "--feedback-rate", "0.1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "--feedback-store : give a folder or s3://bucket/prefix, as feedback_rate is above 0\n"


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
