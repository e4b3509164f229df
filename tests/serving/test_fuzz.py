"""Malformed requests over every protocol; benchmarks/fuzz.py sends many more."""

from collections.abc import Iterator

import pytest

from tests.fuzz.cases import Cases
from tests.fuzz.generated import run_generated
from tests.fuzz.laboratory import MODELS, Laboratory, laboratory
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
