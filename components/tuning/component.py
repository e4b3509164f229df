"""The search step as a KFP component; what it does is in ``components.tuning.steps``."""

from typing import NamedTuple

from kfp import dsl

from components.images import TRAIN


@dsl.component(base_image=TRAIN, install_kfp_package=False)
def search(
    store: str,
    split_id: str,
    settings: dict,
    training: dict,
    trials: dsl.Output[dsl.Artifact],
    champion: str = "",
    retraining: dict = {},  # noqa: B006  KFP takes defaults from the signature, and never changes them
) -> NamedTuple("Outputs", [("learning_rate", float), ("result", str)]):
    """Find the learning rate that does best on the validation part; what led to the champion makes it shorter."""
    from pathlib import Path

    from components.events import as_text, step
    from components.settings import RetrainSettings, SearchSettings, TrainingSettings, load_settings
    from components.shelf import fetch_bundle
    from components.storage import open_store
    from components.tuning import steps
    from components.tuning.earlier import earlier_trials

    with step("search") as report:
        own = load_settings()
        how = SearchSettings.model_validate({**settings, "storage": own.search.storage})
        fitting = TrainingSettings.model_validate(training)
        if champion:
            fetch_bundle(open_store(store), champion, own.home / "models")
        if earlier := earlier_trials(own.home, champion, fitting):
            enough = RetrainSettings.model_validate(retraining).trials
            how = how.model_copy(update={"trials": min(how.trials, enough)})
        result = steps.search(
            store,
            split_id,
            how,
            fitting,
            Path(trials.path),
            own.home,
            own.mlflow_uri,
            earlier,
        )
        report(result)
    return result["best_lr"], as_text(result)
