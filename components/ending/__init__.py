"""How a run of a pipeline on a cluster ended: told to the tracking server and, of a batch, to the ledger."""
