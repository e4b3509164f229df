"""The word that a failed step leaves for the end of its run, where steps share nothing but the store."""

import os
from contextlib import suppress

import msgspec

from components.errors import MscflowError, ObjectNotFound
from components.patience import RUN_VARIABLE
from components.storage import open_store


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """Why a step failed.

    Attributes:
        step: Its name.
        message: The sentence for people.
        error: Name of the error's class; ``bug`` for one that was not raised on purpose.
        exit_code: That the step ended with.
    """

    step: str
    message: str
    error: str
    exit_code: int


def leave_word(failure: Failure) -> None:
    """Write a failure into the store that the steps of a run on a cluster share; elsewhere, do nothing."""
    store, run = os.environ.get("MSCFLOW_STORE"), os.environ.get(RUN_VARIABLE)
    # A store that has just failed the step is not asked again: its patience would be spent twice.
    if not store or not run or failure.error == "StorageError":
        return
    with suppress(MscflowError):
        open_store(store).write(_key(run), msgspec.json.encode(failure))


def forget_word(step: str) -> None:
    """Take back what an earlier try of a step that has now succeeded left word of."""
    store, run = os.environ.get("MSCFLOW_STORE"), os.environ.get(RUN_VARIABLE)
    if not store or not run:
        return
    with suppress(MscflowError):
        left = find_failure(store, run)
        if left is not None and left.step == step:
            open_store(store).delete(_key(run))


def find_failure(store_uri: str, run: str = "") -> Failure | None:
    """Give the last failure that a step of a run, by default of this one, left word of.

    Raises:
        StorageError: if the store cannot be read.
    """
    run = run or os.environ.get(RUN_VARIABLE, "")
    if not run:
        return None
    with suppress(ObjectNotFound, msgspec.MsgspecError):
        return msgspec.json.decode(open_store(store_uri).read(_key(run)), type=Failure)
    return None


def _key(run: str) -> str:
    return f"runs/{run}/failure.json"
