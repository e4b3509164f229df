"""The README's examples, run as they are printed, against a real endpoint with all models."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from serving.refusals import Refusal
from tests.serving.conftest import b64

README = Path(__file__).parents[2] / "serving" / "README.md"
COMMANDS = {"bash": ["bash", "-euo", "pipefail", "-c"], "python": [sys.executable, "-W", "ignore", "-c"]}
# What each example says of an image, in their order.
SAID = {
    "mscflow": [("media change", '"abnormal_cells": {')],
    "curl": [('"name":"media change"',), ('"decision":"media change"', '"count":1')],
    "Python": [("media change", "1 [(20.0, 5.0, 40.0, 30.0)]"), ("media change 1",)],
    "gRPC": [("media change\n1\n",)],
}


class Example(NamedTuple):
    way: str
    number: int
    language: str
    code: str


def examples() -> list[Example]:
    sections = re.findall(r"^## Ask (?:with|over) (\w+)\n(.*?)(?=^## )", README.read_text(), re.DOTALL | re.MULTILINE)
    return [
        Example(way, number, *block)
        for way, text in sections
        for number, block in enumerate(re.findall(r"```(\w+)\n(.*?)```", text, re.DOTALL))
    ]


def test_there_are_examples_for_each_way_to_ask() -> None:
    assert {way: len(said) for way, said in SAID.items()} == {
        way: sum(each.way == way for each in examples()) for way in dict.fromkeys(each.way for each in examples())
    }


@pytest.mark.parametrize("example", examples(), ids=lambda each: f"{each.way}-{each.number}")
def test_an_example_prints_the_answer(
    laboratory: Any, tmp_path: Path, png: Callable[..., bytes], example: Example
) -> None:
    if example.way == "curl" and shutil.which("curl") is None:
        pytest.skip("there is no curl on this machine")
    (tmp_path / "image.png").write_bytes(png(size=(40, 80)))
    code = example.code
    if example.way == "mscflow":
        code = re.sub("^mscflow predict (.*)$", rf"mscflow predict \1 --url {laboratory.url}", code, flags=re.MULTILINE)
    assert example.way == "mscflow" or "127.0.0.1:8080" in code or "127.0.0.1:8081" in code
    code = code.replace("http://127.0.0.1:8080", laboratory.url).replace("127.0.0.1:8081", laboratory.grpc)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        [*COMMANDS[example.language], code],
        cwd=tmp_path,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for words in SAID[example.way][example.number]:
        assert words in done.stdout


def test_each_field_of_an_answer_is_explained(laboratory: Any, png: Callable[..., bytes]) -> None:
    body = {"instances": [{"b64": b64(png()), "modality": "single_stack"}]}
    (answer,) = laboratory.http.post("/v1/models/culture:predict", json=body).json()["predictions"]
    explained = set(re.findall(r"`(\w+)`", README.read_text()))
    fields = {*answer["confluence"], *answer["abnormal_cells"]}
    assert fields - explained == set()
    assert all(f'"{field}"' in README.read_text() for field in answer)


def test_each_path_is_told(laboratory: Any) -> None:
    served = laboratory.http.get("/openapi.json").json()["paths"]
    names = re.compile(r"culture|abnormal-cells|confluence-\w+-stack|{\w+}")
    told = set(re.findall(r"(?:GET|POST) (/[\w/.:]+)", README.read_text()))
    assert {names.sub("NAME", path) for path in served} - {"/", "/v2", "/v2/models"} == told


def test_each_refusal_is_told() -> None:
    kinds = [Refusal, *Refusal.__subclasses__()]
    assert {str(kind.status) for kind in kinds} == set(re.findall(r"^\| (\d{3}) \|", README.read_text(), re.MULTILINE))
    assert {kind.grpc_code for kind in kinds} <= set(re.findall(r"`([A-Z_]{5,})`", README.read_text()))


def test_the_index_of_the_operators_pages_names_each() -> None:
    folder = README.parents[1] / "docs" / "serving"
    pages = {page.name for page in folder.glob("*.md")} - {"README.md"}
    assert set(re.findall(r"^\| \[.*\]\((\w+\.md)\)", (folder / "README.md").read_text(), re.MULTILINE)) == pages


def test_links_lead_somewhere() -> None:
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", README.read_text())
    assert links
    assert [link for link in links if "://" not in link and not (README.parent / link).exists()] == []
