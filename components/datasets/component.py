"""The data steps as KFP components; what they do is in ``components.datasets.steps``."""

from typing import NamedTuple

from kfp import dsl

from components.images import CONTROL


@dsl.component(base_image=CONTROL, install_kfp_package=False)
def snapshot(source: str, store: str, modality: str, settings: dict) -> NamedTuple(
    "Outputs", [("data_version", str), ("lineage", str), ("result", str)]
):
    """Record what the source holds now as a data version; only new images are read and stored."""
    from components.culture import Modality
    from components.datasets import steps
    from components.events import as_text, step
    from components.settings import DataSettings, load_settings

    with step("snapshot") as report:
        result = steps.snapshot(
            source, store, DataSettings.model_validate(settings), Modality(modality), load_settings().home
        )
        report(result)
    return result["data_version"], result["ref"], as_text(result)


@dsl.component(base_image=CONTROL, install_kfp_package=False)
def validate(store: str, data_version: str, settings: dict) -> NamedTuple(
    "Outputs", [("data_version", str), ("quarantined", str), ("result", str)]
):
    """Quarantine what cannot be learnt from; the rest becomes a data version of its own."""
    import json

    from components.datasets import steps
    from components.events import as_text, step
    from components.settings import DataSettings, load_settings

    with step("validate") as report:
        result = steps.validate(store, data_version, DataSettings.model_validate(settings), load_settings().home)
        report(result)
    # As text: numbers in a dictionary come back from the cache as other types, and would miss it downstream.
    return result["data_version"], json.dumps(result["quarantined"], sort_keys=True), as_text(result)


@dsl.component(base_image=CONTROL, install_kfp_package=False)
def split(store: str, data_version: str, lineage: str, task: str, settings: dict, detection: dict) -> NamedTuple(
    "Outputs", [("split_id", str), ("lineage", str), ("result", str)]
):
    """Divide a data version into train, validation and the lineage's frozen test part."""
    from components.culture import Task
    from components.datasets import steps
    from components.events import as_text, step
    from components.settings import DetectionSettings, SplitSettings

    with step("split") as report:
        positive = DetectionSettings.model_validate(detection).positive if task == Task.ABNORMAL_CELLS else None
        result = steps.split(store, data_version, lineage, SplitSettings.model_validate(settings), positive)
        report(result)
    return result["split_id"], result["lineage"], as_text(result)
