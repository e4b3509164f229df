"""Spans of requests, as a real collector receives them; and what a collector that does not take them costs."""

import gzip
import json
import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import grpc
import pytest
from kserve.protocol.grpc.grpc_predict_v2_pb2 import ModelInferRequest
from kserve.protocol.grpc.grpc_predict_v2_pb2_grpc import GRPCInferenceServiceStub
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from components.endpoint.files import WantedModel, write_desired
from serving.tracing import open_tracing, trace_id_of

MODEL = "confluence-single-stack"
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TRACEPARENT = f"00-{TRACE}-{PARENT}-01"
PRINT_MODULES = """
import atexit, json, sys
atexit.register(lambda: print(json.dumps(sorted(sys.modules)), flush=True))
from serving.__main__ import main
sys.exit(main())
"""


class Collector:
    """An OTLP receiver over HTTP."""

    def __init__(self) -> None:
        self.resources: list[Any] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                if self.headers.get("content-encoding") == "gzip":
                    body = gzip.decompress(body)
                assert self.path == "/v1/traces"
                collector.resources += ExportTraceServiceRequest.FromString(body).resource_spans
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def spans(self) -> list[Any]:
        return [span for each in self.resources for scope in each.scope_spans for span in scope.spans]


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    found = Collector()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", found.url)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")
    yield found
    found.server.shutdown()
    found.server.server_close()


def attributes(of: Any) -> dict[str, Any]:
    return {item.key: getattr(item.value, item.value.WhichOneof("value")) for item in of.attributes}


def ask_grpc(address: str, *images: bytes, metadata: Any = ()) -> None:
    tensor = {"name": "image", "datatype": "BYTES", "shape": [len(images)], "contents": {"bytes_contents": images}}
    with grpc.insecure_channel(address) as channel:
        request = ModelInferRequest(model_name=MODEL, inputs=[tensor])
        GRPCInferenceServiceStub(channel).ModelInfer(request, metadata=metadata, timeout=60)


def test_a_request_is_a_span_of_its_caller_s_trace_with_its_stages_below(
    tmp_path: Path, serve: Any, wanted: Callable[..., WantedModel], png: Callable[..., bytes], collector: Collector
) -> None:
    write_desired(tmp_path, {MODEL: wanted("4")})
    headers = {"traceparent": TRACEPARENT, "x-request-id": "seven"}
    with serve(tmp_path) as endpoint:
        endpoint.wait(lambda status: status.ready)
        endpoint.http.headers.update(headers)
        assert endpoint.predict(png(1), png(2)).status_code == 200
        assert endpoint.predict(b"no image").status_code == 400
        ask_grpc(endpoint.grpc, png(1), metadata=(("traceparent", TRACEPARENT),))
        del endpoint.http.headers["traceparent"]
        assert endpoint.predict(png(1)).status_code == 200
        assert endpoint.stop() == 0, "what waited is sent before the end"
    lines = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    (resource,) = {json.dumps(attributes(each.resource)) for each in collector.resources}
    assert json.loads(resource)["service.name"] == "mscflow-endpoint"
    ours = [span for span in collector.spans() if span.trace_id.hex() == TRACE]
    roots = [span for span in ours if span.parent_span_id.hex() == PARENT]
    assert [span.name for span in roots] == [f"v1 {MODEL}", f"v1 {MODEL}", f"grpc {MODEL}"]
    assert attributes(roots[0]) == {
        "mscflow.outcome": "answered",
        "mscflow.request": "seven",
        "mscflow.model": MODEL,
        "mscflow.version": "4",
        "mscflow.images": 2,
    }
    assert attributes(roots[1]).items() >= {"mscflow.outcome": "refused", "mscflow.reason": "unreadable"}.items()
    stages = sorted((s for s in ours if s.parent_span_id == roots[0].span_id), key=lambda s: s.start_time_unix_nano)
    assert [span.name for span in stages] == ["receive", "queue", "decode", "inference"]
    assert attributes(stages[3])["mscflow.version"] == "4"
    ends = [roots[0].start_time_unix_nano, *(span.end_time_unix_nano for span in stages)]
    assert [span.start_time_unix_nano for span in stages] == pytest.approx(ends[:4], abs=5_000_000)
    assert ends == sorted(ends)
    assert ends[-1] <= roots[0].end_time_unix_nano
    (alone,) = (s for s in collector.spans() if not s.parent_span_id)
    traced = [line["trace"] for line in lines if line.get("request") == "seven"]
    assert traced == [TRACE, TRACE, alone.trace_id.hex()], "the log names the trace"


@pytest.mark.parametrize("listens", [True, False], ids=["hangs", "is not there"])
def test_a_dead_collector_costs_no_request(
    listens: bool,
    tmp_path: Path,
    serve: Any,
    wanted: Callable[..., WantedModel],
    png: Callable[..., bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write_desired(tmp_path, {MODEL: wanted("1")})
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1] if listens else 9
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", f"http://127.0.0.1:{port}/v1/traces")
        monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "8")
        monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "4")
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "10")
        with serve(tmp_path) as endpoint:
            endpoint.wait(lambda status: status.ready)
            assert [endpoint.predict(png(seed)).status_code for seed in range(30)] == [200] * 30
            assert endpoint.stop() == 0


def test_without_a_collector_nothing_of_it_is_imported_and_the_log_still_names_the_caller_s_trace(
    tmp_path: Path, serve: Any, wanted: Callable[..., WantedModel], png: Callable[..., bytes]
) -> None:
    write_desired(tmp_path, {MODEL: wanted("1")})
    with serve(tmp_path, code=PRINT_MODULES) as endpoint:
        endpoint.wait(lambda status: status.ready)
        endpoint.http.headers["traceparent"] = TRACEPARENT
        endpoint.predict(png())
        endpoint.stop()
        modules = json.loads(endpoint.process.stdout.read().splitlines()[-1])
    assert [name for name in modules if name.startswith("opentelemetry.sdk") or "exporter" in name] == []
    lines = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert [line["trace"] for line in lines if line["message"] == "answered"] == [TRACE]


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": ""},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318", "OTEL_SDK_DISABLED": "TRUE"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318", "OTEL_TRACES_EXPORTER": "none"},
    ],
)
def test_traces_are_off_where_they_are_not_asked_for(given: dict[str, str]) -> None:
    assert open_tracing(given) is None


def test_a_protocol_that_is_not_spoken_is_said_and_no_reason_not_to_serve(caplog: pytest.LogCaptureFixture) -> None:
    assert open_tracing({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4317", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}) is None
    assert "http/protobuf, not over 'grpc'" in caplog.text


@pytest.mark.parametrize(
    ("header", "found"),
    [
        (TRACEPARENT, TRACE),
        (f"cc-{TRACE}-{PARENT}-01-of-a-later-version", TRACE),
        (f"ff-{TRACE}-{PARENT}-01", None),
        (f"00-{'0' * 32}-{PARENT}-01", None),
        (f"00-{TRACE.upper()}-{PARENT}-01", None),
        ("00-1-2-3\n", None),
        (b"\xff", None),
    ],
)
def test_only_what_w3c_calls_a_trace_is_taken_for_one(header: Any, found: str | None) -> None:
    assert trace_id_of({"traceparent": header}) == found
