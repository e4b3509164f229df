"""`mscflow predict` as a user gives it, against a real endpoint with the three models."""

import csv
import io
import json
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from components.culture import Modality
from components.endpoint.files import WantedModel, write_desired
from tests.certificates import Authority
from tests.serving.conftest import Endpoint, running

from .conftest import MSCFLOW, environment

SINGLE, MULTI, CELLS = "confluence-single-stack", "confluence-multi-stack", "abnormal-cells"
UNSURE = {"weight": 0.0, "min_confidence": 0.99}


@pytest.fixture(scope="module")
def laboratory(
    tmp_path_factory: pytest.TempPathFactory, make_bundle: Callable[..., str], make_detector: Callable[..., str]
) -> Iterator[Endpoint]:
    """An endpoint that calls single-stack images class 3, and is unsure of all others."""
    folder = tmp_path_factory.mktemp("laboratory")
    multi = {"model_name": MULTI, "modality": Modality.MULTI_STACK, **UNSURE}
    models = {
        SINGLE: WantedModel(str(folder / "single"), "3", make_bundle(folder / "single", favour=3)),
        MULTI: WantedModel(str(folder / "multi"), "5", make_bundle(folder / "multi", favour=4, **multi)),
        CELLS: WantedModel(str(folder / "cells"), "7", make_detector(folder / "cells")),
    }
    write_desired(folder, models)
    with running(folder) as endpoint:
        endpoint.wait(lambda status: status.ready)
        yield endpoint


@pytest.fixture
def vessel(tmp_path: Path, png: Callable[..., bytes]) -> Path:
    """A folder of three images, one of them in another format, below a folder of that name."""
    for index, (name, form) in enumerate([("day1.png", "PNG"), ("day2.jpg", "JPEG"), ("more/day1.png", "PNG")]):
        path = tmp_path / "vessel" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(index, (60, 80), form))
    return tmp_path / "vessel"


@pytest.fixture
def predict(laboratory: Endpoint, tmp_path: Path, mscflow: Callable[..., Any]) -> Callable[..., Any]:
    """Runs the command beside ``vessel``."""

    def run(*arguments: object, url: str | None = None, **variables: str) -> Any:
        return mscflow("predict", *arguments, "--url", url or laboratory.url, cwd=tmp_path, **variables)

    return run


def test_people_get_a_table(vessel: Path, predict: Callable[..., Any]) -> None:
    done = predict("vessel")
    assert done.code == 0, done.err
    heads, rule, *rows = [line.split() for line in done.out.splitlines() if line.strip()]
    assert heads == ["image", "class", "decision", "confidence", "cells"]
    assert rule
    assert [row[:3] for row in rows[:3]] == [
        ["vessel/day1.png", "3", "subculture"],
        ["vessel/day2.jpg", "3", "subculture"],
        ["vessel/more/day1.png", "3", "subculture"],
    ]
    assert "answered by confluence-single-stack version 3, abnormal-cells version 7" in done.out


def test_who_abstains_is_told_from_who_decides(vessel: Path, predict: Callable[..., Any]) -> None:
    done = predict("vessel/day1.png", "--modality", "multi_stack")
    assert done.code == 0
    heads, _, row = [line.split() for line in done.out.splitlines() if line.strip()][:3]
    assert heads == ["image", "class", "decision", "confidence", "note"]
    assert row[1:3] == ["(4)", "abstains"]
    assert "version 5" in done.out


def test_machines_get_all_of_the_answer(vessel: Path, predict: Callable[..., Any]) -> None:
    (row,) = predict(vessel / "day1.png", "--json").json
    assert row["image"] == str(vessel / "day1.png")
    assert (row["modality"], row["class"], row["decision"], row["model_version"]) == (
        "single_stack",
        3,
        "subculture",
        "3",
    )
    assert sum(row["probabilities"].values()) == pytest.approx(1)
    cells = row["abnormal_cells"]
    assert (cells["count"], cells["model_version"], cells["width"], cells["height"]) == (1, "7", 80, 60)
    assert cells["cells"][0]["score"] >= cells["min_score"]


def test_one_model_alone_can_be_asked(vessel: Path, predict: Callable[..., Any]) -> None:
    (cells,) = predict("vessel/day1.png", "--model", CELLS, "--json").json
    assert (cells["count"], len(cells["cells"]), cells["model"]) == (1, 1, CELLS)
    (confluence,) = predict("vessel/day1.png", "--model", SINGLE, "--json").json
    assert (confluence["class"], confluence["model"]) == (3, SINGLE)
    assert "abnormal_cells" not in confluence


def test_a_spreadsheet_gets_a_column_a_field(vessel: Path, predict: Callable[..., Any]) -> None:
    (vessel / "broken.png").write_bytes(b"no image")
    done = predict("vessel", "--csv", "--overlays", "seen")
    assert done.code == 2
    rows = list(csv.DictReader(io.StringIO(done.out)))
    assert [row["image"] for row in rows] == [
        f"vessel/{name}" for name in ("broken.png", "day1.png", "day2.jpg", "more/day1.png")
    ]
    assert "no JPEG" in rows[0]["error"]
    first = rows[1]
    assert (first["class"], first["cells_count"], first["error"]) == ("3", "1", "")
    assert json.loads(first["cells"])[0]["box"] == [20.0, 7.5, 40.0, 45.0]
    assert float(first["probability_media change"]) < 0.5
    assert first["overlay"] == "seen/day1.png"


def test_what_cannot_be_read_is_named_and_the_rest_is_answered(vessel: Path, predict: Callable[..., Any]) -> None:
    (vessel / "broken.png").write_bytes(b"no image")
    (vessel / "empty.tif").write_bytes(b"")
    done = predict("vessel")
    assert done.code == 2
    assert done.out.count("subculture") == 3
    assert "the file is no JPEG" in done.out
    assert "2 of 5 images could not be dealt with: vessel/broken.png: the file is no JPEG" in done.err


def test_names_with_brackets_are_shown_as_they_are(
    tmp_path: Path, png: Callable[..., bytes], predict: Callable[..., Any]
) -> None:
    (tmp_path / "[red]day[1].png").write_bytes(png())
    assert "[red]day[1].png" in predict("[red]day[1].png").out


def test_overlays_show_what_was_said_and_a_second_run_does_them_again(
    vessel: Path, tmp_path: Path, predict: Callable[..., Any]
) -> None:
    images = {path: path.read_bytes() for path in vessel.rglob("*.*")}
    done = predict("vessel", "--overlays", "vessel/seen", "--json")
    assert done.code == 0, done.err
    places = [row["overlay"] for row in done.json]
    assert places == ["vessel/seen/day1.png", "vessel/seen/day2.png", "vessel/seen/more/day1.png"]
    first = {place: (tmp_path / place).read_bytes() for place in places}
    with Image.open(tmp_path / places[0]) as shown:
        assert shown.size[0] == 480
        assert (np.asarray(shown) == (255, 222, 0)).all(axis=2).any()
    again = predict("vessel", "--overlays", "vessel/seen", "--json")
    assert [row["overlay"] for row in again.json] == places
    assert {place: (tmp_path / place).read_bytes() for place in places} == first
    found = {path for path in vessel.rglob("*") if path.is_file()}
    assert found == {*images, *(tmp_path / place for place in places)}
    assert all(path.read_bytes() == data for path, data in images.items())


def test_overlays_beside_the_images_leave_them_alone(vessel: Path, predict: Callable[..., Any]) -> None:
    before = (vessel / "day1.png").read_bytes()
    (row,) = predict("vessel/day1.png", "--overlays", "vessel", "--json").json
    assert (vessel / "day1.png").read_bytes() == before
    assert row["overlay"] != "vessel/day1.png"
    assert len(predict("vessel", "--json").json) == 3


def test_names_of_any_bytes_are_answered(
    tmp_path: Path, png: Callable[..., bytes], predict: Callable[..., Any]
) -> None:
    folder = tmp_path / "odd"
    folder.mkdir()
    (folder / "ä\udcff.png").write_bytes(png())
    for how in ([], ["--csv"], ["--json"]):
        done = predict("odd", "--overlays", "seen", *how)
        assert done.code == 0, done.err
        assert "\N{REPLACEMENT CHARACTER}.png" in done.out or how == ["--json"]
    assert len(list((tmp_path / "seen").iterdir())) == 1


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--model", "nope"], "no model 'nope' is served; there is abnormal-cells"),
        (["--csv", "--json"], "exclude each other"),
        (["--at-once", "0"], "'--at-once'"),
        (["--overlays", "vessel/day1.png"], "cannot be made (File exists)"),
        (["--token-file", "none"], "--token-file 'none' cannot be read"),
        (["missing.png"], "'missing.png' is no file or folder"),
    ],
)
def test_what_cannot_be_done_is_one_line(vessel: Path, predict: Any, arguments: list[str], told: str) -> None:
    done = predict("vessel", *arguments)
    assert done.code == 2
    assert told in done.err + done.out
    assert "Traceback" not in done.err


def test_a_modality_without_a_model_is_refused_with_those_there_are(
    tmp_path: Path, vessel: Path, predict: Callable[..., Any], alone: str
) -> None:
    done = predict("vessel", "--modality", "multi_stack", url=alone)
    assert done.code == 2
    assert "serves no model for --modality multi_stack; give --modality single_stack" in done.err


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory, make_bundle: Callable[..., str]) -> Iterator[str]:
    """The URL of an endpoint with one model, which is slow."""
    folder = tmp_path_factory.mktemp("alone")
    made = make_bundle(folder / "single", favour=2, slow=400)
    write_desired(folder, {SINGLE: WantedModel(str(folder / "single"), "1", made)})
    with running(folder) as endpoint:
        endpoint.wait(lambda status: status.ready)
        yield endpoint.url


@pytest.fixture
def many(tmp_path: Path, png: Callable[..., bytes]) -> Path:
    """A folder of more images than a slow endpoint can answer while a test waits."""
    folder = tmp_path / "many"
    folder.mkdir()
    for index in range(400):
        (folder / f"{index:03}.png").write_bytes(png(index % 7))
    return folder


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_who_interrupts_gets_what_was_answered_and_whole_files(
    tmp_path: Path, many: Path, alone: str, number: int
) -> None:
    command = [MSCFLOW, "predict", "many", "--overlays", "seen", "--json", "--url", alone]
    process = subprocess.Popen(
        command, cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("seen/[0-9]*.png")) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "images; what was answered is printed" in err
    rows, error = map(json.loads, out.splitlines())
    assert 0 < len(rows) < 400
    assert error["exit_code"] == 130
    written = {path.name for path in (tmp_path / "seen").iterdir()}
    assert written >= {Path(row["overlay"]).name for row in rows}
    for name in written:
        with Image.open(tmp_path / "seen" / name) as shown:
            shown.load()


@pytest.mark.slow
def test_an_endpoint_that_dies_leaves_what_it_answered(
    tmp_path: Path, many: Path, make_bundle: Callable[..., str], mscflow: Callable[..., Any]
) -> None:
    folder = tmp_path / "dying"
    folder.mkdir()
    made = make_bundle(folder / "single", slow=400)
    write_desired(folder, {SINGLE: WantedModel(str(folder / "single"), "1", made)})
    with running(folder) as endpoint:
        endpoint.wait(lambda status: status.ready)

        def kill() -> None:
            while not list(tmp_path.glob("seen/*.png")):
                time.sleep(0.01)
            endpoint.process.kill()

        killer = threading.Thread(target=kill)
        killer.start()
        done = mscflow("predict", "many", "--overlays", "seen", "--json", "--url", endpoint.url, cwd=tmp_path)
        killer.join()
    assert done.code == 2
    rows, error = map(json.loads, done.out.splitlines())
    assert 0 < len(rows) < 400
    assert endpoint.url in error["error"]


def test_an_endpoint_without_models_says_why(tmp_path: Path, vessel: Path, predict: Callable[..., Any]) -> None:
    folder = tmp_path / "empty"
    folder.mkdir()
    with running(folder) as endpoint:
        done = predict("vessel", url=endpoint.url)
    assert done.code == 2
    assert "serves no model: the endpoint is not ready: no model has been deployed to it" in done.err


def test_help_is_enough_to_begin(tmp_path: Path) -> None:
    done = subprocess.run([MSCFLOW, "predict", "--help"], capture_output=True, text=True, check=True)
    for word in ("--overlays FOLDER", "mscflow predict vessel7/ --overlays", "--modality multi_stack"):
        assert word in done.stdout


def test_an_endpoint_that_is_closed_to_others_is_asked(
    tmp_path: Path, vessel: Path, make_bundle: Callable[..., str], mscflow: Callable[..., Any]
) -> None:
    authority, folder = Authority(tmp_path), tmp_path / "closed"
    server, client = authority.issue("server"), authority.issue("client")
    (tmp_path / "token").write_text("# of this test\na-token-of-a-test\n")
    folder.mkdir()
    made = make_bundle(folder / "single", favour=3)
    write_desired(folder, {SINGLE: WantedModel(str(folder / "single"), "1", made)})
    files = {"--token-file": tmp_path / "token", "--tls-certificate": server.certificate, "--tls-key": server.key}
    options = {**files, "--tls-client-ca": authority.certificate}
    with running(folder, *(str(part) for option in options.items() for part in option)) as endpoint:
        status = endpoint.wait(lambda status: status.ready)
        ask = ["predict", "vessel/day1.png", "--url", f"https://127.0.0.1:{status.port}"]
        known = ["--ca", authority.certificate]
        mine = [*known, "--certificate", client.certificate, "--key", client.key]

        done = mscflow(*ask, *mine, "--token-file", "token", "--json", cwd=tmp_path)
        assert [row["class"] for row in done.json] == [3], done.err
        variables = {"MSCFLOW_CA": authority.certificate, "MSCFLOW_CERTIFICATE": client.certificate}
        variables |= {"MSCFLOW_KEY": client.key, "MSCFLOW_TOKEN": "a-token-of-a-test"}
        assert mscflow(*ask, cwd=tmp_path, **{name: str(value) for name, value in variables.items()}).code == 0

        for given, told in (
            ([], "its certificate is not trusted"),
            (known, "with --certificate"),
            (mine, "token"),
        ):
            done = mscflow(*ask, *given, cwd=tmp_path)
            assert (done.code, done.out) == (2, "")
            assert told in done.err
            assert "Traceback" not in done.err
