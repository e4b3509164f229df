"""The training step as a KFP component; what it does is in ``components.training.steps``."""

from typing import NamedTuple

from kfp import dsl

from components.images import TRAIN


@dsl.component(base_image=TRAIN, install_kfp_package=False)
def train(
    store: str,
    split_id: str,
    modality: str,
    learning_rate: float,
    task: str,
    settings: dict,
    detection: dict,
    model: dsl.Output[dsl.Model],
) -> NamedTuple("Outputs", [("result", dict)]):
    """Fit one model on the train part, choosing the epoch on the validation part."""
    from pathlib import Path

    from components.culture import Modality, Task
    from components.events import step
    from components.settings import DetectionSettings, TrainingSettings, load_settings
    from components.training import steps

    with step("train") as report:
        own = load_settings()
        result = steps.train(
            store,
            split_id,
            learning_rate,
            TrainingSettings.model_validate(settings),
            Path(model.path),
            own.home,
            Modality(modality),
            own.mlflow_uri,
            DetectionSettings.model_validate(detection) if task == Task.ABNORMAL_CELLS else None,
        )
        report(result)
    return (result,)
