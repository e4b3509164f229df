"""All batches that were worked on, as rows of a table."""

from typing import Any

from components.batches.ledger import Ledger
from components.batches.record import RUNNING, BatchRecord, Turn
from components.storage import open_store

SILENT = "silent"  # its owner no longer says that it is at work


def overview(store_uri: str, lineage: str | None) -> list[dict[str, Any]]:
    """Give a row for each batch: by lineage, then by name.

    Args:
        store_uri: Object store of the lineages.
        lineage: One of them; None for all.

    Returns:
        Of each ``lineage``, ``name``, ``id``, ``uri``, ``images``, ``attempts``, ``owner``, ``state`` (running, silent,
        done or failed), ``since``, ``ended``, ``reasons`` and the whole ``outcome``.

    Raises:
        StorageError: if the store cannot be read.
        IntegrityError: if its ledger was altered.
    """
    store = open_store(store_uri)
    rows = []
    for each in [lineage] if lineage else Ledger.lineages(store):
        ledger = Ledger(store, each)
        turn = ledger.turn()
        rows += [_row(record, turn) for record in ledger.records()]
    return rows


def _row(record: BatchRecord, turn: Turn | None) -> dict[str, Any]:
    in_work = turn is not None and turn.batch_id == record.id
    return {
        "lineage": record.lineage,
        "name": record.name,
        "id": record.id,
        "uri": record.uri,
        "images": record.images,
        "attempts": record.attempts,
        "owner": record.owner,
        "state": SILENT if record.state == RUNNING and not in_work else record.state,
        "since": record.history[-1].time.isoformat(timespec="seconds"),
        "ended": record.outcome.get("ended"),
        "reasons": record.outcome.get("reasons", []),
        "outcome": record.outcome,
    }
