"""The evaluation step as a KFP component; what it does is in ``components.evaluation.steps``."""

from typing import NamedTuple

from kfp import dsl

from components.images import CONTROL


@dsl.component(base_image=CONTROL, install_kfp_package=False)
def evaluate(
    store: str,
    data_version: str,
    split_id: str,
    lineage: str,
    task: str,
    modality: str,
    quarantined: str,
    settings: dict,
    model: dsl.Input[dsl.Model],
    trials: dsl.Input[dsl.Artifact],
    candidate: dsl.Output[dsl.Model],
    metrics: dsl.Output[dsl.Metrics],
) -> NamedTuple("Outputs", [("result", str)]):
    """Calibrate on the validation part, score on the test part, and write the model's bundle."""
    import json
    from pathlib import Path

    from components.culture import Modality, Task
    from components.evaluation import steps
    from components.evaluation.detector.steps import evaluate_detector
    from components.events import as_text, step
    from components.settings import EvaluationSettings, load_settings

    with step("evaluate") as report:
        about = {
            "modality": Modality(modality),
            "data_version": data_version,
            "lineage": lineage,
            "quarantined": json.loads(quarantined),
            "false_abstain": EvaluationSettings.model_validate(settings).false_abstain,
        }
        home, trained, bundle = load_settings().home, Path(model.path), Path(candidate.path)
        if task == Task.ABNORMAL_CELLS:
            result = evaluate_detector(store, split_id, trained, bundle, home, **about)
        else:
            result = steps.evaluate(store, split_id, trained, Path(trials.path), bundle, home, **about)
        report(result)
    # kfp.local takes a cached result only if the files of all its artifacts are there, and Metrics writes none.
    Path(metrics.path).write_text(json.dumps(result), encoding="utf-8")
    for name, value in result.items():
        if isinstance(value, int | float):
            metrics.log_metric(name, value)
    return (as_text(result),)
