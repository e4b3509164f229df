"""What every pipeline does with a model that was fitted: evaluate, register, and hold it against the champion."""

from typing import Any

from components.evaluation.component import evaluate
from components.registry.component import promote, register


def judge_model(
    fitted: Any,
    found: Any,
    *,
    store: Any,
    data_version: Any,
    split_id: Any,
    lineage: Any,
    task: Any,
    modality: Any,
    quarantined: Any,
    evaluating: Any,
    gate: Any,
) -> tuple[Any, Any, Any]:
    """Add these steps to the pipeline that is being defined.

    Args:
        fitted: The task ``train``.
        found: The task ``search``.
        store: Object store. This and what follows are parameters of the pipeline, or outputs of its tasks.
        data_version: That was divided.
        split_id: Whose test part decides.
        lineage: Whose frozen test part it has.
        task: One of ``components.culture.Task``.
        modality: One of ``components.culture.Modality``.
        quarantined: What was left out, as JSON text.
        evaluating: ``EvaluationSettings``.
        gate: ``GateSettings``.

    Returns:
        The tasks ``evaluate``, ``register`` and ``promote``.
    """
    evaluated = evaluate(
        store=store,
        data_version=data_version,
        split_id=split_id,
        lineage=lineage,
        task=task,
        modality=modality,
        quarantined=quarantined,
        settings=evaluating,
        model=fitted.outputs["model"],
        trials=found.outputs["trials"],
    )
    registered = register(candidate=evaluated.outputs["candidate"])
    registered.set_caching_options(False)
    promoted = promote(
        store=store,
        split_id=split_id,
        name=registered.outputs["name"],
        version=registered.outputs["version"],
        settings=gate,
    )
    promoted.set_caching_options(False)
    return evaluated, registered, promoted
