"""The training pipeline: from a source of images to a served model.

The same definition runs on one machine (``kfp.local``) and on Kubeflow Pipelines. Steps whose work
depends on their inputs alone are cached; those that look at the world outside (the source, the
registry, the endpoint) run every time and are cheap when nothing changed.
"""

from typing import NamedTuple

from kfp import dsl

from components.datasets.component import snapshot, split, validate
from components.deployment.component import deploy, verify
from components.training.component import train
from components.tuning.component import search
from pipelines.judging import judge_model


class TrainOutputs(NamedTuple):
    """What the pipeline gives back, one result a step that always runs, as JSON text."""

    snapshot: str
    validate: str
    split: str
    search: str
    train: str
    evaluate: str
    register: str
    promote: str


@dsl.pipeline(name="rollout")
def rollout(passed: bool, name: str, version: str, serving: dict, rolling: dict) -> None:
    """Deploy and verify a version that passed its gate.

    A pipeline of its own, because ``kfp.local`` resolves a condition against a pipeline's inputs,
    but not against a named output of a task beside it.
    """
    with dsl.If(passed == True):  # noqa: E712  KFP builds its condition from this comparison
        deployed = deploy(name=name, version=version, settings=serving, rolling=rolling)
        deployed.set_caching_options(False)
        verified = verify(url=deployed.outputs["url"], name=name, digest=deployed.outputs["digest"])
        verified.set_caching_options(False)


@dsl.pipeline(name="train", description="From a source of images to a released, served model")
def train_pipeline(
    source: str,
    store: str,
    task: str,
    modality: str,
    data: dict,
    splitting: dict,
    searching: dict,
    training: dict,
    detection: dict,
    evaluating: dict,
    gate: dict,
    serving: dict,
    launching: dict,
    rolling: dict,
) -> TrainOutputs:
    """Run every step; the parameters are the sections of ``components.settings.Settings``.

    Args:
        source: Folder or ``s3://`` prefix of the images.
        store: Object store that data versions live in.
        task: One of ``components.culture.Task``.
        modality: One of ``components.culture.Modality``.
        data: ``DataSettings``.
        splitting: ``SplitSettings``.
        searching: ``SearchSettings``.
        training: ``TrainingSettings``.
        detection: ``DetectionSettings``.
        evaluating: ``EvaluationSettings``.
        gate: ``GateSettings``.
        serving: ``ServingSettings``.
        launching: ``components.trainer.Launching``.
        rolling: ``components.rollout.Rolling``.
    """
    taken = snapshot(source=source, store=store, modality=modality, settings=data)
    taken.set_caching_options(False)  # the source may hold other images than last time
    valid = validate(store=store, data_version=taken.outputs["data_version"], settings=data)
    # Not cached: it reads the lineage's frozen test part, which lies in the store.
    divided = split(
        store=store,
        data_version=valid.outputs["data_version"],
        lineage=taken.outputs["lineage"],
        task=task,
        settings=splitting,
        detection=detection,
    )
    divided.set_caching_options(False)
    found = search(store=store, split_id=divided.outputs["split_id"], settings=searching, training=training)
    fitted = train(
        store=store,
        split_id=divided.outputs["split_id"],
        modality=modality,
        learning_rate=found.outputs["learning_rate"],
        task=task,
        settings=training,
        detection=detection,
        launching=launching,
    )
    evaluated, registered, promoted = judge_model(
        fitted,
        found,
        store=store,
        data_version=valid.outputs["data_version"],
        split_id=divided.outputs["split_id"],
        lineage=divided.outputs["lineage"],
        task=task,
        modality=modality,
        quarantined=valid.outputs["quarantined"],
        evaluating=evaluating,
        gate=gate,
    )
    released = rollout(
        passed=promoted.outputs["passed"],
        name=registered.outputs["name"],
        version=registered.outputs["version"],
        serving=serving,
        rolling=rolling,
    )
    released.set_caching_options(False)
    return TrainOutputs(
        snapshot=taken.outputs["result"],
        validate=valid.outputs["result"],
        split=divided.outputs["result"],
        search=found.outputs["result"],
        train=fitted.outputs["result"],
        evaluate=evaluated.outputs["result"],
        register=registered.outputs["result"],
        promote=promoted.outputs["result"],
    )
