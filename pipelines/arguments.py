"""What the pipelines are given: the settings' sections, each as plain data."""

from typing import Any

from components.culture import ABNORMAL_MODEL, Task
from components.images import TRAIN
from components.rollout import Rolling
from components.settings import Settings
from components.trainer import Launching, TrainerSettings


def pipeline_arguments(settings: Settings, source: str) -> dict[str, Any]:
    """Give the parameters of the training pipeline."""
    return {"source": source, **_shared(settings)}


def retrain_arguments(settings: Settings, watched: str, batch: str, lineage: str, owner: str) -> dict[str, Any]:
    """Give the parameters of the retraining pipeline; see ``pipelines.local.run_retrain_pipeline``."""
    plain = settings.model_dump(mode="json", exclude_none=True)
    return {
        "watched": watched,
        "batch": batch,
        "lineage": lineage,
        "owner": owner,
        "lease": settings.watch.lease,
        "attempts": settings.watch.attempts,
        "model_name": model_name(settings),
        **_shared(settings),
        "screening": plain["screening"],
        "drift": plain["drift"],
        "retraining": plain["retrain"],
    }


def model_name(settings: Settings) -> str:
    """Name the registered model that a run with these settings makes versions of."""
    return ABNORMAL_MODEL if settings.task == Task.ABNORMAL_CELLS else settings.modality.model_name


def _shared(settings: Settings) -> dict[str, Any]:
    plain = settings.model_dump(mode="json", exclude_none=True)  # KFP knows no null
    return {
        "store": settings.store_uri,
        "task": str(settings.task),
        "modality": str(settings.modality),
        "data": plain["data"],
        "splitting": plain["split"],
        # A database's password is no parameter of a pipeline, which everybody reads: it is in the steps' environment.
        "searching": {name: value for name, value in plain["search"].items() if name != "storage"},
        "training": plain["training"],
        "detection": plain["detection"],
        "evaluating": plain["evaluation"],
        "gate": plain["gate"],
        "serving": plain["serving"],
        "launching": _launching(settings),
        "rolling": _rolling(settings),
    }


def _launching(settings: Settings) -> dict[str, Any]:
    """Give what the train step is told of its launcher; where it trains itself, that of TrainJobs does not matter."""
    if settings.trainer.launcher == "local":
        return {"launcher": "local"}
    shared = settings.cluster.model_dump(include=set(Launching.model_fields) - set(TrainerSettings.model_fields))
    given = settings.trainer.model_dump() | {"image": settings.trainer.image or TRAIN}
    return Launching(**given, **shared).model_dump(mode="json")


def _rolling(settings: Settings) -> dict[str, Any]:
    local = settings.rollout.target == "local"
    said = Rolling.of(settings.rollout, settings.cluster)
    return said.model_dump(mode="json", include={"target"} if local else None, exclude_none=True)
