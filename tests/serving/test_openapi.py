"""The OpenAPI document: valid, whole, and true of what the endpoint answers."""

import json
import re
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from openapi_spec_validator import validate
from starlette.routing import Match, Route

from components import imaging
from components.bundle import KnownAnswer
from components.endpoint.files import WantedModel, write_desired
from components.settings import ServingSettings
from serving import messages, openapi
from serving.credentials import Credentials
from serving.server import EndpointServer
from tests.fuzz.conformance import Conformance
from tests.fuzz.laboratory import MODELS, Laboratory, laboratory
from tests.serving.conftest import MODEL, b64

PATHS = openapi.document()["paths"]
OPERATIONS = [(path, method) for path, item in PATHS.items() for method in ("get", "post") if method in item]
QUESTIONS = [path for path, method in OPERATIONS if method == "post"]
TOKEN = "a-token-of-the-tests"
# Reasons of answers, not of refusals.
ABSTENTIONS = {"unsure", "out_of_distribution"}
SERVING = Path(openapi.__file__).parent


@pytest.fixture
def routes(tmp_path: Path) -> Iterator[list[Route]]:
    """The routes of the application, as the server registers them."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        settings = ServingSettings()
        server = EndpointServer(tmp_path, settings, Credentials.read(settings), listener)
        server._rest.create_application()
        yield server._rest._app.routes


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Laboratory]:
    """An endpoint with all models."""
    with laboratory(tmp_path_factory.mktemp("whole")) as started:
        yield started


@pytest.fixture(scope="module")
def closed(
    tmp_path_factory: pytest.TempPathFactory, make_bundle: Callable[..., str], serve: Callable[..., Any]
) -> Iterator[Any]:
    """An endpoint that asks for a token, and whose only model cannot be loaded."""
    folder = tmp_path_factory.mktemp("closed")
    (folder / "token").write_text(TOKEN)
    digest = make_bundle(folder / "broken", known=KnownAnswer(probabilities=(0.7, 0.1, 0.1, 0.1)))
    write_desired(folder, {MODEL: WantedModel(str(folder / "broken"), "1", digest)})
    with serve(folder, "--token-file", str(folder / "token")) as endpoint:
        endpoint.wait(lambda status: MODEL in status.models and status.models[MODEL].state == "failed")
        yield endpoint


def problems(response: httpx.Response) -> list[str]:
    request, headers = response.request, {name.lower(): value for name, value in response.headers.items()}
    return Conformance().problems(request.method, request.url.path, response.status_code, headers, response.content)


def example(path: str, image: bytes) -> dict[str, Any]:
    """Give the document's own example of a request, with a real image in it."""
    found = PATHS[path]["post"]["requestBody"]["content"]["application/json"]["example"]
    return json.loads(json.dumps(found).replace(openapi.EXAMPLE_IMAGE, b64(image)))


def test_the_document_is_valid() -> None:
    validate(openapi.document())


def test_every_route_is_documented_and_every_path_is_served(routes: list[Route]) -> None:
    served = set()
    for path, method in OPERATIONS:
        scope = {"type": "http", "path": path.replace("{model_name}", "culture"), "method": method.upper()}
        found = [route for route in routes if route.matches(scope)[0] is Match.FULL]
        assert found, f"{method} {path} is documented, but not served"
        served.add(found[0].path)
    assert {route.path for route in routes} == served


def test_every_reason_that_the_code_names_is_documented() -> None:
    files = [*SERVING.glob("*.py"), Path(imaging.__file__)]
    source = "".join(path.read_text() for path in files)
    named = re.findall(r'reason="(\w+)"|ImageError\(\s*"(\w+)"|Refusal\([^()]*, "(\w+)"\)', source)
    assert {word for words in named for word in words if word} - ABSTENTIONS <= set(openapi.REASONS)


@pytest.mark.parametrize("path", [path for path, method in OPERATIONS if method == "get"])
def test_what_a_get_answers_is_as_documented(whole: Laboratory, path: str) -> None:
    for model in MODELS if "{" in path else [""]:
        response = whole.http.get(path.replace("{model_name}", model))
        assert response.status_code == 200
        assert problems(response) == []


def test_the_document_that_is_served_is_the_one_that_is_tested(whole: Laboratory) -> None:
    assert whole.http.get("/openapi.json").json() == json.loads(json.dumps(openapi.document()))


@pytest.mark.parametrize("path", QUESTIONS)
def test_the_examples_of_requests_are_answered_as_documented(
    whole: Laboratory, png: Callable[..., bytes], path: str
) -> None:
    response = whole.http.post(path, json=example(path, png()))
    assert response.status_code == 200, response.text
    assert problems(response) == []
    assert response.headers["x-request-id"]


@pytest.mark.parametrize("path", [path for path in QUESTIONS if path.endswith("/infer")])
def test_a_binary_answer_has_the_documented_header(whole: Laboratory, png: Callable[..., bytes], path: str) -> None:
    body = example(path, png())
    body["parameters"] = body.get("parameters", {}) | {"binary_data_output": True}
    response = whole.http.post(path, json=body)
    assert problems(response) == []
    pattern = openapi.document()["components"]["headers"]["Inference-Header-Content-Length"]["schema"]["pattern"]
    length = response.headers["inference-header-content-length"]
    assert re.fullmatch(pattern, length)
    answer = json.loads(response.content[: int(length)])
    assert set(answer) <= set(messages.V2Answer.__struct_fields__)


@pytest.mark.parametrize("path", QUESTIONS)
@pytest.mark.parametrize(("image", "status"), [(b"no image", 400), (b"x" * 300_001, 413), (b"x" * 900_000, 413)])
def test_refusals_are_as_documented(whole: Laboratory, path: str, image: bytes, status: int) -> None:
    response = whole.http.post(path, json=example(path, image))
    assert response.status_code == status
    assert problems(response) == []


@pytest.mark.parametrize("path", ["/v1/models/other", "/v2/models/other", "/v2/models/other/ready"])
def test_unknown_models_are_refused_as_documented(whole: Laboratory, path: str) -> None:
    response = whole.http.get(path)
    assert response.status_code == 404
    assert problems(response) == []


@pytest.mark.parametrize(("path", "method"), OPERATIONS)
def test_an_endpoint_that_is_closed_or_not_ready_refuses_as_documented(closed: Any, path: str, method: str) -> None:
    path = path.replace("{model_name}", MODEL)
    stranger = closed.http.request(method, path)
    known = closed.http.request(method, path, headers={"Authorization": f"Bearer {TOKEN}"})
    probe = PATHS.get(path, {}).get(method, {}).get("security") == []
    assert (stranger.status_code == 401) is not probe
    assert problems(stranger) == problems(known) == []
    assert known.status_code in {200, 404, 503}
