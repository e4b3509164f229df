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
    champion: str = "",
    retraining: dict = {"start": "scratch"},  # noqa: B006  KFP takes defaults from the signature, and never changes them
    launching: dict = {},  # noqa: B006
) -> NamedTuple("Outputs", [("result", str)]):
    """Fit one model on the train part, choosing the epoch on the validation part.

    It starts from the champion's weights, or anew, or whichever of the two does better on the validation part.
    """
    from pathlib import Path

    from components.culture import Modality, Task
    from components.events import as_text, step
    from components.settings import DetectionSettings, RetrainSettings, TrainingSettings, load_settings
    from components.trainer import Launching
    from components.training.start import train_from

    with step("train") as report:
        own = load_settings()
        result = train_from(
            champion,
            RetrainSettings.model_validate(retraining),
            TrainingSettings.model_validate(settings),
            Path(model.path),
            own.home,
            Launching.model_validate(launching),
            store_uri=store,
            split_id=split_id,
            learning_rate=learning_rate,
            modality=Modality(modality),
            mlflow_uri=own.mlflow_uri,
            detection=DetectionSettings.model_validate(detection) if task == Task.ABNORMAL_CELLS else None,
        )
        report(result)
    return (as_text(result),)
