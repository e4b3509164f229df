import os
import signal
import subprocess
import sys
import time
from functools import partial

import pytest

from components.datasets.simulation.workers import map_in_order
from components.errors import MscflowError

# Processes of the pool import what they run by name, so these tests use functions of the library.


@pytest.mark.parametrize("processes", [1, 2])
def test_results_come_in_the_order_of_the_tasks(processes):
    assert list(map_in_order(partial(pow, 2), range(30), processes)) == [2**number for number in range(30)]


def test_a_process_that_dies_is_told_in_a_sentence():
    with pytest.raises(MscflowError, match="a process that draws images died"):
        list(map_in_order(os._exit, [3, 3, 3, 3], 2))


PARENT = """
import os
import time
from components.datasets.simulation.workers import map_in_order

def wait(number):
    os.write(1, b"working\\n")  # whole lines: two processes write at once
    time.sleep(60)

if __name__ == "__main__":
    list(map_in_order(wait, range(8), 2))
"""


@pytest.mark.parametrize("signals", [[signal.SIGKILL], [signal.SIGINT], [signal.SIGINT, signal.SIGINT]])
def test_processes_end_with_a_parent_that_is_killed_or_interrupted(tmp_path, signals):
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    with subprocess.Popen(
        [sys.executable, str(script)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    ) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"working\n"
        for number in signals:
            parent.send_signal(number)
            time.sleep(0.1)
        # The pipe ends when nobody holds it any more: neither the parent nor its processes.
        parent.communicate(timeout=30)
        assert parent.returncode != 0
