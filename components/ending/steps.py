"""What is done when a run on a cluster has ended, as plain functions."""

from dataclasses import dataclass
from typing import Any, Literal

from components.batches.holder import holder
from components.batches.ledger import Ledger
from components.batches.outcome import conclude_failed
from components.batches.record import RUNNING
from components.ending.trainings import clear_trainings
from components.errors import is_outage
from components.failure import Failure, find_failure
from components.storage import open_store
from components.tracking import Run, Status, end_parent, parent_run

State = Literal["SUCCEEDED", "FAILED", "CANCELLED"]
_STATUS: dict[str, Status] = {"SUCCEEDED": "FINISHED", "CANCELLED": "KILLED"}
# KFP's driver on a cluster says how MLMD calls it; kfp.local as the SDK does.
_WORDS: dict[str, State] = {
    "SUCCEEDED": "SUCCEEDED",
    "COMPLETE": "SUCCEEDED",
    "CACHED": "SUCCEEDED",
    "CANCELLED": "CANCELLED",
    "CANCELED": "CANCELLED",
    "FAILED": "FAILED",
}
_SILENT = {
    "CANCELLED": "the run was cancelled",
    "FAILED": "a step ended without a word (out of memory?)",
}


@dataclass(frozen=True)
class Ended:
    """How a run ended.

    Attributes:
        state: SUCCEEDED, FAILED, CANCELLED, or what KFP says where that is none of these.
        reason: Why it did not succeed; empty where it did.
        failure: What the step that failed left word of, if it could.
    """

    state: str
    reason: str = ""
    failure: Failure | None = None

    @classmethod
    def of(cls, state: str, message: str, store_uri: str) -> "Ended":
        """Put together what KFP says of a run and the word that its failed step left in the store.

        Raises:
            StorageError: if the store cannot be read.
        """
        known = _WORDS.get(state, state)
        if known == "SUCCEEDED":
            return cls(known)
        failure = find_failure(store_uri) if known != "CANCELLED" else None
        told = f"step '{failure.step}': {failure.message}" if failure else message
        # A pod that was killed tells nobody, and KFP then still says RUNNING.
        unknown = f"the run ended while KFP called it {state}: a step's pod was killed, or the run was cancelled"
        return cls("FAILED" if failure else known, told or _SILENT.get(known, unknown), failure)


def tell(ended: Ended, mlflow_uri: str) -> None:
    """End the tracked run of this pipeline run, and what it left training; outside of one there is nothing to end.

    Raises:
        RegistryUnavailable: if the tracking server does not answer.
    """
    clear_trainings()
    run_id = parent_run(mlflow_uri)
    if run_id is None:
        return
    if ended.reason:
        Run(mlflow_uri, run_id).set_tags({"mscflow.ended": ended.reason})
    end_parent(mlflow_uri, run_id, _STATUS.get(ended.state, "FAILED"))


def conclude_left(ended: Ended, store_uri: str, lineage: str, owner: str) -> dict[str, Any] | None:
    """Conclude the batch that a run left in the middle, so that it is due again, or left to a person.

    A cancelled run's batch is let go as if it had never been claimed; a failed one's is written down as failed, with
    what the failed step said of it.

    Returns:
        What came of it (see ``outcome.conclude_failed``); None where the run left none.

    Raises:
        StorageError: if the store cannot be written.
    """
    ledger, holding = Ledger(open_store(store_uri), lineage), holder(owner)
    turn = ledger.turn()
    record = ledger.find(turn.batch_id) if turn is not None and turn.owner == holding else None
    if record is None or record.state != RUNNING:
        return None
    if ended.state == "CANCELLED":
        ledger.release(holding)
        return {"ended": "cancelled", "reasons": [ended.reason]}
    failure = ended.failure
    return conclude_failed(
        store_uri,
        lineage,
        record.name,
        record.id,
        holding,
        ended.reason or "the run ended without concluding its batch",
        failure.exit_code if failure else 1,
        outage=is_outage(failure.error) if failure else False,
    )
