"""Requests that schemathesis makes from the OpenAPI document: some as it asks, some as it forbids."""

import contextlib

import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.errors import Unsatisfiable
from schemathesis.checks import CHECKS
from schemathesis.core.failures import Failure, FailureGroup
from schemathesis.generation import GenerationMode

from serving.openapi import document
from tests.fuzz.cases import Case
from tests.fuzz.judge import Judge, Reply
from tests.fuzz.run import PATIENCE, Tally

REJECTION = "negative_data_rejection"
CHOSEN = ("status_code_conformance", "content_type_conformance", "response_schema_conformance", REJECTION)


def run_generated(url: str, number: int, examples: int) -> Tally:
    """Send requests for each operation, and judge each answer.

    Args:
        url: Of REST.
        number: A seed; it gives the same requests again.
        examples: Requests of each kind for each operation.
    """
    judge, tally = Judge(), Tally()
    for found in schemathesis.openapi.from_dict(document()).get_all_operations():
        for mode in GenerationMode:
            _run_operation(found.ok(), mode, url, judge, tally, (number, examples))
    return tally


def _run_operation(operation, mode, url, judge, tally, amount):
    @seed(amount[0])
    @settings(
        max_examples=amount[1],
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(operation.as_strategy(generation_mode=mode))
    def send(made):
        response = made.call(base_url=url, timeout=PATIENCE)
        request = response.request
        body = request.body.encode() if isinstance(request.body, str) else request.body or b""
        data = repr((request.url, dict(request.headers))).encode() + body
        case = Case("document", f"{mode.value} {operation.label}", data)
        headers = {name: values[0] for name, values in response.headers.items()}
        reply = Reply(response.status_code, headers, response.content, made.method.upper(), operation.path)
        tally.add(case, reply, judge.problem(case, reply) or _failure(made, response))

    with contextlib.suppress(Unsatisfiable):  # an operation that takes nothing has nothing to get wrong
        send()


def _failure(made, response):
    """Say what schemathesis finds wrong with an answer; None if nothing is."""
    # Its check of refusals does not know 413, which this endpoint gives where there are too many images.
    chosen = [name for name in CHOSEN if name != REJECTION or response.status_code < 300]
    try:
        made.validate_response(response, checks=CHECKS.get_by_names(chosen))
    except (Failure, FailureGroup) as failure:
        return f"schemathesis: {failure}"
    return None
