"""The endpoint's figures: right with several threads, and with clients that try to break them."""

import asyncio
import json
import threading
from base64 import b64encode
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from kserve.protocol.grpc.grpc_predict_v2_pb2 import ModelInferRequest
from kserve.protocol.grpc.grpc_predict_v2_pb2_grpc import GRPCInferenceServiceStub
from prometheus_client.parser import text_string_to_metric_families

from components.endpoint.files import WantedModel, write_desired
from components.endpoint.prediction import Cell, CellsPrediction, CulturePrediction, Prediction
from serving.logs import BURST
from serving.metrics import Metrics
from serving.model import Answer, Repository, Stages
from serving.observer import Observer
from serving.protocol import Images
from serving.refusals import TooLarge
from serving.workers import Workers

MODEL = "confluence-single-stack"
Figures = dict[tuple[str, frozenset[tuple[str, str]]], float]


def read(text: str) -> Figures:
    """Give each figure by its name and labels."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def figure(figures: Figures, name: str, **labels: str) -> float:
    """Give the sum of what a name counts under these labels, whatever its others are."""
    return sum(value for (of, have), value in figures.items() if of == name and labels.items() <= dict(have).items())


def infer_request(*images: bytes, model: str = MODEL) -> ModelInferRequest:
    tensor = {"name": "image", "datatype": "BYTES", "shape": [len(images)], "contents": {"bytes_contents": images}}
    return ModelInferRequest(model_name=model, inputs=[tensor])


def test_counts_are_what_the_clients_saw_with_several_threads_and_all_protocols(
    tmp_path: Path, serve: Any, wanted: Callable[..., WantedModel], png: Callable[..., bytes]
) -> None:
    write_desired(tmp_path, {MODEL: wanted("1", favour=2, slow=20, min_confidence=0.4, weight=0.1)})
    images = [png(seed) for seed in range(4)]
    seen: Counter[tuple[str, str]] = Counter()
    classes: Counter[str] = Counter()
    sent: Counter[tuple[str, str]] = Counter()
    lock = threading.Lock()

    def note(protocol: str, outcome: str, size: int, predictions: list[dict[str, Any]]) -> None:
        with lock:
            seen[protocol, outcome] += 1
            sent[protocol, outcome] += size
            classes.update(item["name"] for item in predictions)
            classes["abstained"] += sum(item["abstain"] for item in predictions)

    def by_rest(version: str) -> None:
        with httpx.Client(base_url=endpoint.url, timeout=60, trust_env=False) as client:
            for index in range(25):
                texts = [b64encode(image).decode() for image in images[: 1 + index % 3]] if index % 5 else ["%"]
                if version == "v1":
                    path, body = f"/v1/models/{MODEL}:predict", {"instances": [{"b64": text} for text in texts]}
                else:
                    tensor = {"name": "image", "datatype": "BYTES", "shape": [len(texts)], "data": texts}
                    path, body = f"/v2/models/{MODEL}/infer", {"inputs": [tensor]}
                content = json.dumps(body).encode()
                response = client.post(path, content=content)
                found = response.json()
                outcome = "answered" if response.status_code == 200 else found["reason"]
                note(version, outcome, len(content), predictions_of(found) if outcome == "answered" else [])

    def by_grpc() -> None:
        with grpc.insecure_channel(endpoint.grpc) as channel:
            stub = GRPCInferenceServiceStub(channel)
            for index in range(25):
                request = infer_request(images[index % 4] if index % 5 else b"no image")
                try:
                    found = stub.ModelInfer(request, timeout=60)
                except grpc.RpcError as error:
                    busy = error.code() == grpc.StatusCode.UNAVAILABLE
                    note("grpc", "overloaded" if busy else "unreadable", request.ByteSize(), [])
                else:
                    note("grpc", "answered", request.ByteSize(), [first_of(found)])

    with serve(tmp_path, "--threads", "4", "--queue", "3") as endpoint:
        endpoint.wait(lambda status: status.ready)
        with ThreadPoolExecutor(12) as pool:
            work = [pool.submit(by_rest, version) for version in ("v1", "v2") for _ in range(4)]
            work += [pool.submit(by_grpc) for _ in range(4)]
            for each in work:
                each.result()
        figures = read(endpoint.http.get("/metrics").text)

    assert sum(seen.values()) == 12 * 25
    assert {protocol for protocol, outcome in seen if outcome == "answered"} == {"v1", "v2", "grpc"}
    for protocol in ("v1", "v2", "grpc"):
        count = seen[protocol, "answered"]
        assert figure(figures, "mscflow_requests_total", protocol=protocol, outcome="answered") == count
        assert figure(figures, "mscflow_request_seconds_count", protocol=protocol) == count
        # A request for which there is no place may or may not have been read before.
        most = sum(size for (by, _), size in sent.items() if by == protocol)
        received = figure(figures, "mscflow_received_bytes_total", protocol=protocol)
        assert most - sent[protocol, "overloaded"] <= received <= most
    refused = Counter({key: count for key, count in seen.items() if key[1] != "answered"})
    for (protocol, reason), count in refused.items():
        assert figure(figures, "mscflow_refusals_total", protocol=protocol, reason=reason) == count, (protocol, reason)
    assert figure(figures, "mscflow_requests_total", outcome="refused") == refused.total()
    assert figure(figures, "mscflow_requests_total") == 12 * 25
    answered = 12 * 25 - refused.total()
    for stage in ("receive", "queue", "decode", "inference"):
        assert figure(figures, "mscflow_stage_seconds_count", stage=stage, model=MODEL) == answered
    assert figure(figures, "mscflow_abstentions_total", reason="unsure", version="1") == classes.pop("abstained")
    assert figure(figures, "mscflow_request_images_sum") == classes.total()
    for name, count in classes.items():
        assert figure(figures, "mscflow_predictions_total", **{"model": MODEL, "version": "1", "class": name}) == count
    assert figure(figures, "mscflow_requests_in_flight") == figure(figures, "mscflow_requests_queued") == 0


def test_names_that_clients_make_up_make_no_labels(endpoint: Any) -> None:
    endpoint.wait(lambda status: status.ready)
    before = read(endpoint.http.get("/metrics").text)
    for index in range(30):
        name = f"made-up-{index}"
        assert endpoint.http.post(f"/v1/models/{name}:predict", json={}).status_code == 404
        assert endpoint.http.post(f"/v2/models/{name}/infer", json={}).status_code == 404
        assert endpoint.http.get(f"/v1/models/{name}/{index}").status_code == 404
    with grpc.insecure_channel(endpoint.grpc) as channel, pytest.raises(grpc.RpcError):
        GRPCInferenceServiceStub(channel).ModelInfer(infer_request(b"", model="made-up"))
    after = read(endpoint.http.get("/metrics").text)
    new = {key for key in after if key not in before}
    assert {dict(labels).get("model", "unknown") for _, labels in new} <= {"unknown"}
    unknown = figure(after, "mscflow_refusals_total", model="unknown", reason="unknown_model")
    assert unknown - figure(before, "mscflow_refusals_total", model="unknown", reason="unknown_model") == 61


def test_a_flood_of_refusals_is_counted_whole_and_logged_in_part(
    tmp_path: Path, serve: Any, wanted: Callable[..., WantedModel], png: Callable[..., bytes]
) -> None:
    write_desired(tmp_path, {MODEL: wanted("1")})
    with serve(tmp_path) as endpoint:
        endpoint.wait(lambda status: status.ready)
        for _ in range(300):
            assert endpoint.predict(b"no image").status_code == 400
        assert endpoint.predict(b"").status_code == 400
        figures = read(endpoint.http.get("/metrics").text)
    lines = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    written = Counter(line["reason"] for line in lines if line.get("outcome") == "refused")
    assert figure(figures, "mscflow_refusals_total", reason="unreadable") == 300
    assert BURST <= written["unreadable"] < 300
    assert written["empty"] == 1


def test_models_their_swaps_and_failures_show(
    tmp_path: Path, serve: Any, wanted: Callable[..., WantedModel], png: Callable[..., bytes]
) -> None:
    with serve(tmp_path) as endpoint:
        assert figure(read(endpoint.http.get("/metrics").text), "mscflow_ready") == 0
        first, second, broken = wanted("1"), wanted("2"), wanted("3")
        Path(broken.path, "model.onnx").unlink()
        for each in (first, second, broken):
            endpoint.deploy(confluence_single_stack=each)
        figures = read(endpoint.http.get("/metrics").text)
        info = [dict(labels) for name, labels in figures if name == "mscflow_model_info"]
        assert info == [{"model": MODEL, "version": "2", "digest": second.digest}]
        assert figure(figures, "mscflow_ready") == figure(figures, "mscflow_model_ready", model=MODEL) == 1
        assert figure(figures, "mscflow_model_swaps_total", model=MODEL) == 2
        assert figure(figures, "mscflow_model_load_failures_total", model=MODEL) == 1
        assert figure(figures, "mscflow_model_failed", model=MODEL) == 1
        endpoint.deploy(confluence_single_stack=first)
        assert figure(read(endpoint.http.get("/metrics").text), "mscflow_model_failed", model=MODEL) == 0


@pytest.fixture
def observer() -> Observer:
    repository, workers = Repository(), Workers(1, 1)
    observer = Observer(Metrics(repository, workers, 1))
    observer.read = lambda: {  # type: ignore[attr-defined]
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in observer.metrics.registry.collect()
        for sample in family.samples
    }
    return observer


def test_a_culture_counts_for_each_of_the_models_that_looked_at_it(observer: Any, prediction: Prediction) -> None:
    cells = CellsPrediction(
        cells=(Cell((0, 0, 9, 9), 0.9), Cell((9, 9, 20, 20), 0.8)),
        count=2,
        min_score=0.5,
        width=50,
        height=50,
        abstain=True,
        reason="out_of_distribution",
        novelty=1.5,
        model="abnormal-cells",
        model_version="7",
        data_version="d" * 64,
        digest="e" * 64,
    )
    whole = CulturePrediction(modality="single_stack", confluence=prediction, abnormal_cells=cells)
    alone = CulturePrediction(modality="multi_stack", confluence=prediction, abnormal_cells=None)
    asked = Images([b"", b""], [None, None], "7")
    with observer.watch("v1", "culture", "/", {}) as watch:
        watch.answered(Answer("culture", "1, 7", asked, [whole, alone], [None, None], Stages(0.1, 0.2, 0.3)))
    found = observer.read()
    of_cells = {"model": "abnormal-cells", "version": "7"}
    assert figure(found, "mscflow_predictions_total", **{"model": MODEL, "class": "media change"}) == 2
    assert figure(found, "mscflow_predictions_total", **of_cells, **{"class": "abnormal"}) == 1
    assert figure(found, "mscflow_abnormal_cells_total", **of_cells) == 2
    assert figure(found, "mscflow_abstentions_total", **of_cells, reason="out_of_distribution") == 1
    assert figure(found, "mscflow_abstentions_total", model=MODEL) == 0
    assert figure(found, "mscflow_novelty_ratio_sum", model="abnormal-cells") == 1.5
    assert figure(found, "mscflow_stage_seconds_sum", stage="inference") == pytest.approx(0.3)


@pytest.mark.parametrize(
    ("error", "outcome", "reason"),
    [
        (TooLarge("large", reason="too_large"), "refused", "too_large"),
        (asyncio.CancelledError(), "refused", "disconnected"),
        (ZeroDivisionError("a bug"), "failed", None),
    ],
)
def test_what_ends_otherwise_is_counted_logged_and_raised_on(
    observer: Any, error: BaseException, outcome: str, reason: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(type(error)), observer.watch("grpc", MODEL, "ModelInfer", {"x-request-id": "7"}):
        assert figure(observer.read(), "mscflow_requests_in_flight") == 1
        raise error
    found = observer.read()
    assert figure(found, "mscflow_requests_in_flight") == 0
    assert figure(found, "mscflow_requests_total", outcome=outcome, protocol="grpc") == 1
    assert figure(found, "mscflow_refusals_total") == (reason is not None)
    assert figure(found, "mscflow_request_seconds_count") == 0
    (line,) = caplog.records
    assert line.fields.items() >= {"request": "7", "outcome": outcome}.items()
    assert line.fields.get("reason") == reason


def predictions_of(found: dict[str, Any]) -> list[dict[str, Any]]:
    if "predictions" in found:
        return list(found["predictions"])
    (texts,) = (output["data"] for output in found["outputs"] if output["name"] == "prediction")
    return [json.loads(text) for text in texts]


def first_of(found: Any) -> dict[str, Any]:
    index = [output.name for output in found.outputs].index("prediction")
    raw = found.raw_output_contents
    return dict(json.loads(raw[index][4:] if raw else found.outputs[index].contents.bytes_contents[0]))
