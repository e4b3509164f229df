"""Trying a model in a process of its own: ``python -m serving.trial NAME PATH VERSION DIGEST THREADS``.

A network can end the process that runs it: one that divides the lowest 64-bit integer by -1 does so with SIGFPE. It can
also run for ever, or take all memory. So each version is loaded and asked once where that harms nobody.
"""

import signal
import subprocess
import sys

from components.endpoint.files import WantedModel
from serving.loaded import ModelRejected
from serving.loading import load_model

SECONDS = 100.0


def try_out(name: str, wanted: WantedModel, threads: int, seconds: float = SECONDS) -> None:
    """Make sure that loading a model, warming it and asking it about its known image comes to an end.

    What ``load_model`` itself refuses passes: it will say why, where it is called next.

    Raises:
        ModelRejected: if the trial's process is ended by it, or does not end in time.
    """
    given = [name, wanted.path, wanted.version, wanted.digest, str(threads)]
    # -P keeps a folder named `serving` in the working directory from being taken for ours.
    command = [sys.executable, "-P", "-m", "serving.trial", *given]
    try:
        done = subprocess.run(command, timeout=seconds, check=False, stdin=subprocess.DEVNULL, capture_output=True)
    except subprocess.TimeoutExpired as error:
        raise ModelRejected(f"it was not loaded and asked within {seconds:g} s") from error
    if done.returncode < 0:
        ended = signal.Signals(-done.returncode).name
        raise ModelRejected(f"it ends the process that loads and asks it, with {ended}")


def main(name: str, path: str, version: str, digest: str, threads: str) -> int:
    """Load the model; give the exit code."""
    try:
        load_model(name, WantedModel(path, version, digest), int(threads))
    except ModelRejected:
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
