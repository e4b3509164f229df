"""A compiled pipeline of which a step fails, run on this machine: its exit handler tells why, and the batch is due."""

import json
import subprocess
import sys

import pytest
from kfp import compiler, dsl

from components.audit.log import AuditLog
from components.batches.component import poll
from components.batches.ledger import Ledger
from components.cluster import ClusterSettings
from components.storage import open_store
from pipelines.cluster.ending import with_end
from tests.pipelines.conftest import environment

RUN = """
import json, sys
from kfp import components, local
path, arguments, folder = sys.argv[1:]
local.init(local.SubprocessRunner(use_venv=False), pipeline_root=folder)
components.load_component_from_file(path)(**json.loads(arguments))
"""


@dsl.component(base_image="image", install_kfp_package=False)
def diverge(found: bool):
    from components.errors import TrainingError
    from components.events import step

    with step("train"):
        raise TrainingError("the loss is not a number")


@dsl.pipeline(name="short")
def short(batch: str, store: str, lineage: str, owner: str):
    polled = poll(watched="", batch=batch, store=store, lineage=lineage, owner=owner, lease=600.0, attempts=3)
    diverge(found=polled.outputs["found"])


@pytest.fixture
def arguments(tmp_path, png):
    batch = tmp_path / "b1"
    batch.mkdir()
    (batch / "1.png").write_bytes(png(1))
    (batch / "_COMPLETE").touch()
    return {"batch": str(batch), "store": str(tmp_path / "store"), "lineage": "line", "owner": "operator-1"}


def test_a_failed_run_tells_why_and_its_batch_is_due_again(tmp_path, arguments):
    compiler.Compiler().compile(with_end(short, ClusterSettings()), str(tmp_path / "short.yaml"))
    around = {
        "MSCFLOW_RUN": "run-1",
        "MSCFLOW_STORE": arguments["store"],
        "MSCFLOW_HOME": str(tmp_path / "home"),
        "MSCFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db",
    }
    done = subprocess.run(
        [sys.executable, "-c", RUN, tmp_path / "short.yaml", json.dumps(arguments), tmp_path / "artifacts"],
        cwd=tmp_path,
        env=environment() | around,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode != 0, "the run failed, whatever its exit handler did"
    (told,) = AuditLog(open_store(arguments["store"])).entries()
    assert (told.action, told.reason) == ("run.failed", "step 'train': the loss is not a number")
    (record,) = Ledger(open_store(arguments["store"]), "line").records()
    assert (record.state, record.owner) == ("failed", "operator-1 (run run-1)")
    assert Ledger(open_store(arguments["store"]), "line").turn() is None
