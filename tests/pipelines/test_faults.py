"""What goes wrong around a run, as its user sees it: one clear line, its exit code, nothing half-done.

Faults that a step could meet are made to happen to a whole run, with real servers, disks and files.
"""

import csv
import shutil
import signal
import subprocess
from collections import Counter

import pytest
from moto.server import ThreadedMotoServer

from tests.files import QUARANTINED, READ
from tests.servers import MlflowServer

from .conftest import MSCFLOW, NO_FLOORS, SMALL, Done, environment, runs_in, steps_at_work, wait_for_step

pytestmark = pytest.mark.slow

TIMEOUT = 280
HOME = ".mscflow"
OTHER_PORTS = ["--port", 0, "--grpc-port", 0]  # than those of the endpoint that serves already


@pytest.fixture(scope="module")
def small_run(ports):
    return ["run", "--data", "cultures", *SMALL, *NO_FLOORS, *ports]


def refused(done):
    """Check that a command ended as bad input does, and give its sentence."""
    assert done.code == 2, done.err
    assert "Traceback" not in done.err, done.err
    assert "bug" not in done.err
    (sentence,) = [line for line in done.err.splitlines() if line.startswith("mscflow: ")]
    return sentence


def started(place, command, **variables):
    return subprocess.Popen(
        [MSCFLOW, *map(str, command)],
        cwd=place,
        env={**environment(), **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


# The first, one that learns, and each that changes what others see.
INTERRUPTED_IN = ("snapshot", "train", "register", "promote", "deploy")


@pytest.mark.parametrize("step", INTERRUPTED_IN)
def test_ctrl_c_ends_any_step_at_once(place, small_run, step):
    known = runs_in(place / HOME)
    # Only the command itself is signalled, as a supervisor would do it.
    with started(place, small_run) as going:
        wait_for_step(place / HOME, step, known)
        going.send_signal(signal.SIGINT)
        _, complaint = going.communicate(timeout=60)
    assert going.returncode == 130, complaint
    assert "interrupted" in complaint
    assert "Traceback" not in complaint
    assert not steps_at_work(place), "the step in work ends with the command"


def test_after_those_interrupts_the_same_command_finishes(place, small_run, mscflow):
    done = mscflow(*small_run, "--json", cwd=place, timeout=TIMEOUT)
    assert done.code == 0, done.err
    # What the interrupted runs finished was kept, and none of them released a second model.
    assert set(done.json["cached"]) == {"validate", "search", "train", "evaluate"}
    assert done.json["prediction"]["model_version"] == "1"
    verified = mscflow("data", "verify", "--json", cwd=place)
    assert verified.code == 0, verified.err


def test_a_tracking_server_that_is_down_is_told_before_any_work(place, small_run, mscflow):
    sentence = refused(mscflow(*small_run, cwd=place, MLFLOW_TRACKING_URI="http://127.0.0.1:9"))
    assert "http://127.0.0.1:9 does not answer" in sentence


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"AWS_SECRET_ACCESS_KEY": "wrong"}, "AWS_SECRET_ACCESS_KEY"),
        ({"AWS_ACCESS_KEY_ID": "nobody"}, "AWS_ACCESS_KEY_ID"),
        ({"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, "http://127.0.0.1:9"),
    ],
)
def test_an_s3_store_that_cannot_be_used_is_told_before_any_work(
    place, small_run, mscflow, s3_server, s3_uri, wrong, told
):
    variables = {**s3_server.environment(), "MSCFLOW_STORE": s3_uri, **wrong}
    variables["MSCFLOW_STORE"] = variables.pop("bucket", s3_uri)
    known = runs_in(place / HOME)
    assert told in refused(mscflow(*small_run, cwd=place, **variables))
    assert runs_in(place / HOME) == known


def test_a_bucket_that_does_not_exist_is_told_before_any_work(place, small_run, mscflow):
    # SeaweedFS makes the buckets that it lacks; the mock answers as Amazon does.
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        keys = {"AWS_ACCESS_KEY_ID": "mock", "AWS_SECRET_ACCESS_KEY": "mock", "AWS_DEFAULT_REGION": "us-east-1"}
        where = {"AWS_ENDPOINT_URL": f"http://{host}:{port}", "MSCFLOW_STORE": "s3://no-such-bucket/store"}
        assert "bucket 'no-such-bucket'" in refused(mscflow(*small_run, cwd=place, **keys, **where))
    finally:
        server.stop()


def test_a_read_only_home_is_told_before_any_work(place, small_run, mscflow, read_only_folder):
    sentence = refused(mscflow("--home", read_only_folder / "home", *small_run, cwd=place))
    assert str(read_only_folder) in sentence


@pytest.mark.parametrize("size", [200, 12_000])
def test_a_disk_that_fills_up_is_one_sentence(place, small_run, mscflow, disk_of, size):
    """At the first write of all; when a checkpoint or a model is saved."""
    disk = disk_of(size)
    sentence = refused(mscflow("--home", disk / "home", *small_run, *OTHER_PORTS, cwd=place))
    assert str(disk) in sentence
    assert any(words in sentence.lower() for words in ("no space", "disk is full"))


def test_a_store_that_dies_in_mid_run_costs_the_step_in_work(place, small_run, mscflow, start_s3_server):
    server = start_s3_server()
    variables = {**server.environment(), "MSCFLOW_STORE": f"{server.make_bucket()}/store"}
    told, done = _dies(place, [*small_run, "--set", "training.seed=1"], server, "search", mscflow, variables)
    assert server.endpoint in told
    assert "validate" in done["cached"]


def test_a_tracking_server_that_dies_in_mid_run_costs_the_step_in_work(place, small_run, mscflow, tmp_path):
    server = MlflowServer(tmp_path)
    server.start()
    try:
        variables = {"MLFLOW_TRACKING_URI": server.uri}
        told, done = _dies(place, [*small_run, "--set", "training.seed=2"], server, "train", mscflow, variables)
    finally:
        server.stop()
    assert f"{server.uri} does not answer" in told
    assert {"validate", "search"} <= set(done["cached"])


def _dies(place, command, server, step, mscflow, variables):
    """Kill a server in a step; give the run's sentence and, with the server back, the same command's answer."""
    known = runs_in(place / HOME)
    with started(place, command, MSCFLOW_PATIENCE="5", **variables) as going:
        wait_for_step(place / HOME, step, known)
        server.stop()
        out, complaint = going.communicate(timeout=120)
    told = refused(Done(going.returncode, out, complaint))
    server.start()
    again = mscflow(*command, "--json", cwd=place, timeout=TIMEOUT, **variables)
    assert again.code == 0, again.err
    return told, again.json


def test_damaged_images_are_counted_and_the_rest_is_learnt_from(place, small_run, mscflow):
    folder = place / "mixed"
    shutil.copytree(place / "cultures", folder)
    files = READ | {name: data for name, (_, data) in QUARANTINED.items()}
    with (folder / "labels.csv").open() as file:
        columns = file.readline().strip().split(",")
    rows = [{"file": f"odd/{name}", "class": "1", "group": f"odd {name}"} for name in files]
    (folder / "odd").mkdir()
    for name, data in files.items():
        (folder / "odd" / name).write_bytes(data())
    with (folder / "labels.csv").open("a", newline="") as file:
        csv.DictWriter(file, columns).writerows(rows)
    command = ["mixed" if word == "cultures" else word for word in small_run]
    done = mscflow(*command, "--json", cwd=place, timeout=TIMEOUT)
    assert done.code == 0, done.err
    expected = Counter(reason for reason, _ in QUARANTINED.values())
    assert {reason: count for reason, count in done.json["quarantined"].items() if count} == expected
    assert sum(sum(counts.values()) for counts in done.json["split"].values()) == 60 + len(READ)


@pytest.mark.parametrize(
    ("classes", "groups", "told"),
    [
        ([], 1, "no images"),
        ([1] * 12, 12, "class"),
        ([1, 2, 3, 4] * 3, 2, "group"),
        ([1, 2, 3, 5] * 3, 12, "5"),
    ],
)
def test_images_that_nothing_can_be_learnt_from_are_named(place, mscflow, ports, tmp_path, png, classes, groups, told):
    folder = tmp_path / "few"
    folder.mkdir()
    lines = ["file,class,group"]
    for number, label in enumerate(classes):
        (folder / f"{number}.png").write_bytes(png(number))
        lines.append(f"{number}.png,{label},{number % groups}")
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")
    sentence = refused(mscflow("run", "--data", folder, *SMALL, *ports, cwd=place))
    assert told in sentence


def test_a_path_that_is_not_there_is_named(place, mscflow, ports):
    assert "no-such-folder" in refused(mscflow("run", "--data", "no-such-folder", *ports, cwd=place))
