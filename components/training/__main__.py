"""``python -m components.training --job JOB.json``: one training process, alone or under ``torchrun``."""

import argparse
import json
import os
import sys
from pathlib import Path

from components.errors import MscflowError, TrainingError
from components.events import emit
from components.training.threads import wait_briefly

FAILURE_SUFFIX = ".failure.json"


def main(arguments: list[str] | None = None) -> int:
    """Train as a job file says.

    Returns:
        The exit code: 0, or that of the error, which then lies beside the job file.
    """
    parser = argparse.ArgumentParser(prog="python -m components.training", description=__doc__)
    parser.add_argument("--job", type=Path, required=True, help="job file, as components.training.job writes it")
    parser.add_argument("--parent", type=int, help="process without which this one must not go on")
    given = parser.parse_args(arguments)

    wait_briefly()
    from components.training.job import read_job
    from components.training.worker import work

    try:
        work(read_job(given.job), lambda: _check_parent(given.parent))
    except MscflowError as error:
        _leave_word(given.job, error)
        emit("error", message=error)
        return error.exit_code
    return 0


def _check_parent(parent: int | None) -> None:
    try:
        if parent is not None:
            os.kill(parent, 0)
    except ProcessLookupError:
        raise TrainingError(f"process {parent}, which started this training, is gone; start it again") from None


def _leave_word(job: Path, error: MscflowError) -> None:
    path = job.with_name(job.name + FAILURE_SUFFIX)
    try:
        # The first of several processes to fail tells the cause.
        with path.open("x", encoding="utf-8") as file:
            json.dump({"error": type(error).__name__, "message": str(error)}, file)
    except OSError:
        return


if __name__ == "__main__":
    sys.exit(main())
