"""A watcher that is killed just before or just after each of its writes to the ledger, as if power failed."""

import subprocess
import sys
import time

import pytest

from components.batches.arrival import MARKER
from components.batches.ledger import Ledger
from components.batches.steps import conclude, poll
from components.storage import open_store

from .test_arrival import upload

LEASE = 0.3
LINEAGE = "clinic"
WRITES = 5  # the turn, the batch in work, a renewal, the batch concluded, the turn given back
CONCLUDED = 4

# The last two arguments: which of its writes it dies at, and on which side of it.
WATCHER = """
import os, signal, sys
from pathlib import Path
from components.batches.ledger import Ledger
from components.batches.steps import conclude, poll
from components.storage import LocalStore, open_store

place, number, side = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
replace, made = LocalStore.replace, []

def dies(store, key, data, expected):
    made.append(key)
    if len(made) == number and side == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    replace(store, key, data, expected)
    if len(made) == number:
        os.kill(os.getpid(), signal.SIGKILL)

LocalStore.replace = dies
found = poll(str(place / "watched"), None, str(place / "store"), "clinic", place / "home", "killed", 0.3)
Ledger(open_store(place / "store"), "clinic").renew("killed", 0.3)
conclude(str(place / "store"), "clinic", found["id"], "killed", {"ended": "refused"}, None)
"""


@pytest.mark.parametrize("side", ["before", "after"])
@pytest.mark.parametrize("number", range(1, WRITES + 1))
def test_whenever_a_watcher_is_killed_its_batch_is_concluded_once(tmp_path, number, side):
    (upload(tmp_path / "watched" / "day-1") / MARKER).touch()
    killed = subprocess.run([sys.executable, "-c", WATCHER, tmp_path, str(number), side], check=False)
    assert killed.returncode == -9
    store, claimed = str(tmp_path / "store"), []
    where = str(tmp_path / "watched"), None, store, LINEAGE, tmp_path / "home"
    deadline = time.monotonic() + 30
    while (found := poll(*where, "next", 60))["found"] or found["why"] != "nothing new has arrived":
        if found["found"]:
            claimed.append(found["batch"])
            conclude(store, LINEAGE, found["id"], "next", {"ended": "refused"}, None)
        assert time.monotonic() < deadline, found
        time.sleep(LEASE / 10)
    concluded = number > CONCLUDED or (number == CONCLUDED and side == "after")
    assert claimed == ([] if concluded else ["day-1"])
    (record,) = Ledger(open_store(store), LINEAGE).records()
    assert [move.state for move in record.history].count("done") == 1
    assert record.state == "done"


def test_the_watcher_has_no_further_write_to_be_killed_at(tmp_path):
    (upload(tmp_path / "watched" / "day-1") / MARKER).touch()
    lives = subprocess.run([sys.executable, "-c", WATCHER, tmp_path, str(WRITES + 1), "before"], check=False)
    assert lives.returncode == 0, "every write is one that the test above kills it at"
