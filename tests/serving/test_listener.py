import subprocess
import sys

import pytest

CODE = """
import resource
from serving.listener import raise_file_limit
resource.setrlimit(resource.RLIMIT_NOFILE, (64, {hard}))
raise_file_limit()
print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
"""


@pytest.mark.parametrize(("hard", "expected"), [(256, 256), (4096, 4096)])
def test_the_process_may_open_as_many_files_as_it_can_be_allowed(hard: int, expected: int) -> None:
    """In a process of its own, as a limit that was lowered stays low."""
    done = subprocess.run(
        [sys.executable, "-c", CODE.format(hard=hard)], capture_output=True, text=True, timeout=60, check=True
    )
    assert int(done.stdout) == expected
