"""Malformed requests over every protocol; benchmarks/fuzz.py sends many more."""

import json
from collections.abc import Iterator

import grpc
import pytest
from kserve.protocol.grpc.grpc_predict_v2_pb2 import ModelInferRequest

from tests.fuzz.cases import Case, Cases
from tests.fuzz.generated import run_generated
from tests.fuzz.judge import Judge, Reply
from tests.fuzz.laboratory import MODELS, Laboratory, laboratory
from tests.fuzz.messages import INFER
from tests.fuzz.run import Tally, run

SEED = 20261123
REQUESTS = 1800


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Laboratory]:
    with laboratory(tmp_path_factory.mktemp("laboratory")) as started:
        yield started


def assert_without_offence(tally: Tally) -> None:
    assert not tally.offences, "\n".join(str(each)[:1500] for each in tally.offences[:10])


def test_malformed_requests_are_refused_in_a_sentence_and_leave_nothing_behind(server: Laboratory) -> None:
    expected = server.answer()
    run(server.sender, Cases(SEED + 1, MODELS).take(200))  # memory is laid out, and threads are there
    before = server.settled()
    tally = run(server.sender, Cases(SEED, MODELS).take(REQUESTS))
    assert_without_offence(tally)
    protocols = {protocol for protocol, *_ in tally.counts}
    assert protocols == {"v1", "v2", "v2 binary", "image", "http", "grpc", "frames"}
    after = server.settled()
    assert server.answer() == expected
    assert after.files <= before.files + 2
    assert after.threads <= before.threads + 2
    assert after.memory < before.memory + 60


def test_requests_made_from_the_document_are_answered_as_it_says(server: Laboratory) -> None:
    tally = run_generated(server.url, SEED, 10)
    assert_without_offence(tally)
    assert {"200", "400", "404"} <= {status for *_, status in tally.counts}


def test_a_compressed_message_is_not_unpacked_beyond_the_limit(server: Laboratory) -> None:
    message = ModelInferRequest(model_name="culture", raw_input_contents=[bytes(100_000_000)]).SerializeToString()
    before = server.settled()
    options = [("grpc.max_send_message_length", -1)]
    with grpc.insecure_channel(server.grpc, options, compression=grpc.Compression.Gzip) as channel:
        call = channel.unary_unary(INFER, request_serializer=None, response_deserializer=None)
        with pytest.raises(grpc.RpcError, match="larger than max") as caught:
            call(message, timeout=60)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert server.settled().memory < before.memory + 50


def refusal(text: str, reason: str = "bad_request", **more: str) -> bytes:
    return json.dumps({"error": text, "reason": reason, **more}).encode()


@pytest.mark.parametrize(
    ("reply", "problem"),
    [
        (Reply(400, {}, refusal("the body is empty; send an image")), None),
        (Reply(500, {}, refusal("the endpoint failed", "bug")), "status 500"),
        (Reply(302, {}, b""), "status 302"),
        (Reply(503, {}, refusal("it is busy; try again", "overloaded")), "status 503"),
        (Reply(503, {"retry-after": "1"}, refusal("it is busy; try again", "overloaded")), None),
        (Reply(400, {}, b"Invalid HTTP request"), "a refusal that is no JSON"),
        (Reply(400, {}, refusal("the body is empty", traceback="")), "not just error and reason"),
        (Reply(400, {}, refusal("the body is empty", "odd")), "the reason odd is not documented"),
        (Reply(400, {}, refusal("no")), "a sentence of 2 characters"),
        (Reply(400, {}, refusal("Traceback (most recent call last)")), "internals: Traceback"),
        (Reply(400, {}, refusal("cannot read <_io.BytesIO object at 0x7f>")), "internals: <_io"),
        (Reply(400, {}, refusal("a KeyError, it seems")), "internals: KeyError"),
        (Reply(400, {}, refusal("see /usr/lib/python3 for more")), "internals: /usr/"),
        (Reply(400, {}, refusal("there is no output 'SentError'; ask for class")), None),
        (Reply("closed", {}), "closed without an answer"),
        (Reply("silence", {}), "no answer in time"),
    ],
)
def test_the_judge_tells_right_answers_from_wrong_ones(reply: Reply, problem: str | None) -> None:
    found = Judge().problem(Case("http", "any", b"SentError"), reply)
    assert found is None if problem is None else problem in (found or "")


def test_an_answer_that_the_document_does_not_describe_is_found() -> None:
    path, headers = "/v2/health/live", {"content-type": "application/json"}
    judge, case = Judge(), Case("v1", "any", b"")
    assert judge.problem(case, Reply(200, headers, b'{"live": true}', "GET", path)) is None
    for body in (b'{"live": false}', b'{"live": true, "pid": 7}', b"{}"):
        assert "against the document" in (judge.problem(case, Reply(200, headers, body, "GET", path)) or "")
    assert "text/html" in (judge.problem(case, Reply(200, {"content-type": "text/html"}, b"", "GET", path)) or "")


def test_a_seed_gives_the_same_requests_again() -> None:
    assert list(Cases(7, MODELS).take(200)) == list(Cases(7, MODELS).take(200))
