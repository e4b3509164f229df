"""Two processes that share a fit, against one that does it alone, and when one of the two dies."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from components.settings import DetectionSettings, TrainingSettings
from components.training.detection import fit_detector
from tests.components.training.test_detection import make_part
from tests.servers import free_ports

pytestmark = pytest.mark.slow

DETECTOR = """
import json, sys
from pathlib import Path
from tests.components.training.test_together import fit_small

history = fit_small()
Path(sys.argv[1] + sys.argv[2]).write_text(json.dumps(history))
"""

# The second process is killed where the first waits for it.
DYING = """
import os, signal, sys
import torch
from components.errors import PeerLost
from components.training.ranks import join_ranks

try:
    with join_ranks() as ranks:
        assert ranks.tell(b"state" if ranks.leads else None) == b"state"
        assert ranks.tell(None) is None
        assert ranks.tell(b"") == b""
        assert float(ranks.sum(torch.ones(()))) == 2
        if not ranks.leads:
            os.kill(os.getpid(), signal.SIGKILL)
        ranks.sum(torch.ones(()))
except PeerLost as error:
    print(error)
    sys.exit(7)
"""


def start(script: str, folder: Path, rank: int, world: int, port: int, *arguments: str) -> subprocess.Popen[str]:
    """Start one process of several as torchrun would."""
    (folder / "script.py").write_text(script)
    place = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world), "LOCAL_WORLD_SIZE": str(world)}
    meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    own = {"OMP_NUM_THREADS": "1", "GOMP_SPINCOUNT": "1000", "PYTHONPATH": str(Path(__file__).parents[3])}
    return subprocess.Popen(
        [sys.executable, str(folder / "script.py"), *arguments, f"/{rank}"],
        env=os.environ | place | meeting | own,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def launch(script: str, folder: Path, processes: int, *arguments: str) -> list[tuple[int, str, str]]:
    """Run processes together; give the exit code, the output and the errors of each."""
    (port,) = free_ports(1)
    started = [start(script, folder, rank, processes, port, *arguments) for rank in range(processes)]
    told = [each.communicate(timeout=120) for each in started]
    return [(each.returncode, *texts) for each, texts in zip(started, told, strict=True)]


def fit_small() -> list[dict[str, Any]]:
    """Fit a detector; it has no dropout, which each process would draw for itself."""
    settings = TrainingSettings(planes="rgb", image_size=64, batch_size=8, epochs=2, learning_rate=3e-3, micro_batch=3)
    detection = DetectionSettings(width=16, depth=1, min_score=0.01)
    fitted = fit_detector(make_part(12, 0), make_part(9, 1), settings, detection)
    return [asdict(epoch) for epoch in fitted.result.history]


def test_two_processes_teach_a_detector_what_one_does_and_count_each_image_once(tmp_path: Path) -> None:
    assert len(make_part(9, 1)) % 2 == 1, "else shares would be even"
    for code, _, errors in launch(DETECTOR, tmp_path, 2, str(tmp_path)):
        assert code == 0, errors
    alone, first, second = fit_small(), *(json.loads((tmp_path / str(rank)).read_bytes()) for rank in range(2))
    for each in (first, second):
        for one, two in zip(alone, each, strict=True):
            for name in ("train_loss", "validation_loss", "validation_average_precision"):
                assert two[name] == pytest.approx(one[name], rel=5e-3), name
    assert alone[-1]["validation_average_precision"] > 0, "else the precisions show nothing"


def test_a_process_whose_peer_was_killed_says_so_in_a_sentence(tmp_path: Path) -> None:
    (code, told, errors), (killed, _, _) = launch(DYING, tmp_path, 2)
    assert killed == -signal.SIGKILL
    assert code == 7, errors
    assert "another process of this training is gone" in told
