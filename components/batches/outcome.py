"""What came of a batch: said in one word, and written into the ledger and the audit log."""

import os
from collections.abc import Mapping
from typing import Any

from components.audit.log import AuditLog
from components.batches import steps
from components.batches.ledger import Ledger
from components.errors import ConflictError
from components.patience import RUN_VARIABLE
from components.provenance import code_version
from components.storage import open_store
from components.tracking import RUN_ID_VARIABLE

Results = Mapping[str, Mapping[str, Any]]

RELEASED, REFUSED, WAITING, FAILED = "released", "refused", "waiting for approval", "failed"


def outcome(results: Results) -> dict[str, Any]:
    """Say what came of a batch, from the results of those steps that ran.

    Returns:
        ``ended`` (released, refused, waiting for approval, or the screening's stopped or queued), ``reasons``, and
        what is known of: ``attempt``, ``images``, ``drifted``, ``data_version``, ``split_id``, ``start`` (of the
        training), ``model``, ``version``, ``digest``, ``url``.
    """
    screened, promoted = results.get("screen", {}), results.get("promote", {})
    drift = screened.get("drift") or {}
    named = {
        "attempt": results.get("poll", {}).get("attempt"),
        "images": results.get("intake", {}).get("images"),
        "drifted": drift.get("drifted"),
        "data_version": results.get("validate", {}).get("data_version"),
        "split_id": results.get("split", {}).get("split_id"),
        "start": results.get("train", {}).get("start"),
        "model": results.get("register", {}).get("name"),
        "version": results.get("register", {}).get("version"),
        "digest": results.get("register", {}).get("digest"),
        "url": results.get("deploy", {}).get("url"),
    }
    told = (promoted or screened).get("reasons", [])
    known = {key: value for key, value in named.items() if value is not None}
    return {"ended": _ended(screened, promoted, results), "reasons": list(told), **known}


def conclude(store_uri: str, lineage: str, name: str, batch_id: str, owner: str, results: Results) -> dict[str, Any]:
    """Write down what came of a batch; first in the audit log, so that a batch is done only once it is told.

    Returns:
        See ``outcome``.

    Raises:
        StorageError: if the store cannot be written.
        ConflictError: if the batch has gone to another owner meanwhile.
    """
    _check_owner(store_uri, lineage, batch_id, owner)
    came = outcome(results)
    _tell("run.finished", store_uri, lineage, name, owner, {**came, "batch_id": batch_id})
    steps.conclude(store_uri, lineage, batch_id, owner, came, None)
    return came


def conclude_failed(
    store_uri: str, lineage: str, name: str, batch_id: str, owner: str, failure: str, exit_code: int, *, outage: bool
) -> dict[str, Any]:
    """Write down that the run on a batch failed; ``exit_code`` tells bad input (2) from other failures.

    An outage, of the store or the registry or the endpoint, ends with the same code, but is worth another run.

    Raises:
        StorageError: if the store cannot be written.
        ConflictError: if the batch has gone to another owner meanwhile.
    """
    _check_owner(store_uri, lineage, batch_id, owner)
    came = {"ended": FAILED, "reasons": [failure], "exit_code": exit_code, "outage": outage}
    _tell("run.failed", store_uri, lineage, name, owner, {**came, "batch_id": batch_id})
    steps.conclude(store_uri, lineage, batch_id, owner, came, failure)
    return came


def _ended(screened: Mapping[str, Any], promoted: Mapping[str, Any], results: Results) -> str:
    if not promoted:
        return str(screened.get("verdict", "nothing"))
    if promoted.get("awaits_approval"):
        return WAITING
    return RELEASED if promoted["passed"] else REFUSED


def _check_owner(store_uri: str, lineage: str, batch_id: str, owner: str) -> None:
    """Make sure that the batch is still this owner's, before the audit log, which forgets nothing, is told."""
    record = Ledger(open_store(store_uri), lineage).find(batch_id)
    if record is None or record.owner != owner:
        raise ConflictError(f"batch {batch_id[:12]} of lineage '{lineage}' was taken over from {owner}")


def _tell(action: str, store_uri: str, lineage: str, name: str, owner: str, details: dict[str, Any]) -> None:
    # In containers the tracked run is not known by its id, but the name of the pipeline run finds it.
    run = os.environ.get(RUN_ID_VARIABLE) or os.environ.get(RUN_VARIABLE, "")
    about = {**details, "code_version": code_version(), "run_id": run}
    log = AuditLog(open_store(store_uri))
    log.append(action, f"{lineage}/{name}", actor=owner, reason="; ".join(details["reasons"]), details=about)
