"""The search step as a KFP component; what it does is in ``components.tuning.steps``."""

from typing import NamedTuple

from kfp import dsl

from components.images import TRAIN


@dsl.component(base_image=TRAIN, install_kfp_package=False)
def search(store: str, split_id: str, settings: dict, training: dict, trials: dsl.Output[dsl.Artifact]) -> NamedTuple(
    "Outputs", [("learning_rate", float), ("result", dict)]
):
    """Find the learning rate that does best on the validation part."""
    from pathlib import Path

    from components.events import step
    from components.settings import SearchSettings, TrainingSettings, load_settings
    from components.tuning import steps

    with step("search") as report:
        own = load_settings()
        result = steps.search(
            store,
            split_id,
            SearchSettings.model_validate(settings),
            TrainingSettings.model_validate(training),
            Path(trials.path),
            own.home,
            own.mlflow_uri,
        )
        report(result)
    return result["best_lr"], result
