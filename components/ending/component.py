"""The end of a run as a KFP component, for an exit handler; what it does is in ``components.ending.steps``."""

from typing import NamedTuple

from kfp import dsl

from components.images import CONTROL


@dsl.component(base_image=CONTROL, install_kfp_package=False)
def end(status: dsl.PipelineTaskFinalStatus, store: str = "", lineage: str = "", owner: str = "") -> NamedTuple(
    "Outputs", [("result", str)]
):
    """Tell how the run ended, whatever ended it; one with an owner may have left a batch, which is concluded."""
    from components.ending import steps
    from components.events import as_text, step
    from components.settings import load_settings

    with step("end") as report:
        own = load_settings()
        ended = steps.Ended.of(status.state, status.error_message or "", own.store_uri)
        batch = steps.conclude_left(ended, store, lineage, owner) if owner else None
        steps.tell(ended, own.mlflow_uri)
        result = {"state": ended.state, "reason": ended.reason, "batch": batch}
        report(result)
    return (as_text(result),)
