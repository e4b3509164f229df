"""``python -m components.training --job JOB.json``: one training process, alone or under ``torchrun``."""

import argparse
import os
import sys
from contextlib import suppress
from pathlib import Path

from components.errors import MscflowError, PeerLost, TrainingError, is_outage
from components.events import emit
from components.training.failure import encode_failure
from components.training.threads import wait_briefly

FAILURE_SUFFIX = ".failure.json"


def main(arguments: list[str] | None = None) -> int:
    """Train as a job file says.

    Returns:
        The exit code: 0, or that of the error, which then lies beside the job file.
    """
    parser = argparse.ArgumentParser(prog="python -m components.training", description=__doc__)
    parser.add_argument("--job", required=True, help="path of a job file, or URI of a job in a store (s3://, file://)")
    parser.add_argument("--parent", type=int, help="process without which this one must not go on")
    given = parser.parse_args(arguments)

    wait_briefly()
    try:
        if "://" in given.job:
            _work_from_store(given.job)
        else:
            _work_from_file(Path(given.job), given.parent)
    except MscflowError as error:
        emit("error", message=error)
        return error.exit_code
    return 0


def _work_from_store(uri: str) -> None:
    from components.settings import load_settings
    from components.training.stored import StoredTraining
    from components.training.worker import work

    training = StoredTraining.at(uri)
    try:
        work(training.job(load_settings().home), training=training)
    except MscflowError as error:
        # What another try may mend is left to it.
        if not isinstance(error, PeerLost) and not is_outage(type(error).__name__):
            training.leave_failure(error)
        raise


def _work_from_file(path: Path, parent: int | None) -> None:
    from components.training.job import read_job
    from components.training.worker import work

    try:
        work(read_job(path), lambda: _check_parent(parent))
    except MscflowError as error:
        if not isinstance(error, PeerLost):
            _leave_word(path, error)
        raise


def _check_parent(parent: int | None) -> None:
    try:
        if parent is not None:
            os.kill(parent, 0)
    except ProcessLookupError:
        raise TrainingError(f"process {parent}, which started this training, is gone; start it again") from None


def _leave_word(job: Path, error: MscflowError) -> None:
    path = job.with_name(job.name + FAILURE_SUFFIX)
    # The first of several processes to fail tells the cause.
    with suppress(OSError), path.open("xb") as file:
        file.write(encode_failure(error))


if __name__ == "__main__":
    sys.exit(main())
