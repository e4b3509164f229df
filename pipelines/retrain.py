"""The retraining pipeline: from a new batch of images to a model that serves, if it is fit to.

It polls first and ends there when nothing is new, so that a recurring run is all that a cluster needs. The same
definition runs on one machine (``kfp.local``) and on Kubeflow Pipelines. Its conditions: see ``pipelines.learn``.
"""

from kfp import dsl

from components.batches.component import intake, poll
from components.screening.component import screen
from pipelines.learn import learn


@dsl.pipeline(name="work")
def work(
    found: bool,
    batch: str,
    batch_id: str,
    uri: str,
    store: str,
    lineage: str,
    owner: str,
    task: str,
    modality: str,
    model_name: str,
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
    screening: dict,
    drift: dict,
    retraining: dict,
    polled: str,
) -> None:
    """Take a batch in, screen it, and go on as its screening says; nothing where there is no batch."""
    with dsl.If(found == True):  # noqa: E712
        taken = intake(uri=uri, name=batch, store=store, lineage=lineage, modality=modality, settings=data)
        taken.set_caching_options(False)
        screened = screen(
            store=store,
            batch_version=taken.outputs["batch_version"],
            lineage=lineage,
            model_name=model_name,
            screening=screening,
            drift=drift,
        )
        screened.set_caching_options(False)  # it holds the batch against the champion, which may change
        learnt = learn(
            verdict=screened.outputs["verdict"],
            admissible=screened.outputs["admissible"],
            store=store,
            lineage=lineage,
            batch=batch,
            batch_id=batch_id,
            owner=owner,
            task=task,
            modality=modality,
            model_name=model_name,
            data=data,
            splitting=splitting,
            searching=searching,
            training=training,
            detection=detection,
            evaluating=evaluating,
            gate=gate,
            serving=serving,
            launching=launching,
            rolling=rolling,
            retraining=retraining,
            polled=polled,
            taken=taken.outputs["result"],
            screened=screened.outputs["result"],
        )
        learnt.set_caching_options(False)


@dsl.pipeline(name="retrain", description="From a new batch of images to a released, served model")
def retrain_pipeline(
    watched: str,
    batch: str,
    store: str,
    lineage: str,
    owner: str,
    lease: float,
    attempts: int,
    task: str,
    modality: str,
    model_name: str,
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
    screening: dict,
    drift: dict,
    retraining: dict,
) -> None:
    """Run every step that a batch asks for; most parameters are the sections of ``components.settings.Settings``.

    Args:
        watched: Folder or ``s3://`` prefix whose sub-folders are batches; empty where ``batch`` is given.
        batch: Folder or ``s3://`` prefix of one batch; empty for the oldest that nobody has worked on.
        store: Object store that data versions, the ledger and the audit log live in.
        lineage: That the batch is added to.
        owner: Who works on it, for the ledger and the audit log.
        lease: Seconds for which the batch is claimed.
        attempts: Runs that a batch may take.
        task: One of ``components.culture.Task``.
        modality: One of ``components.culture.Modality``.
        model_name: Registered model whose champion the batch is held against.
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
        screening: ``ScreeningSettings``.
        drift: ``DriftSettings``.
        retraining: ``RetrainSettings``.
    """
    polled = poll(
        watched=watched, batch=batch, store=store, lineage=lineage, owner=owner, lease=lease, attempts=attempts
    )
    polled.set_caching_options(False)
    worked = work(
        found=polled.outputs["found"],
        batch=polled.outputs["name"],
        batch_id=polled.outputs["batch_id"],
        uri=polled.outputs["uri"],
        store=store,
        lineage=lineage,
        owner=owner,
        task=task,
        modality=modality,
        model_name=model_name,
        data=data,
        splitting=splitting,
        searching=searching,
        training=training,
        detection=detection,
        evaluating=evaluating,
        gate=gate,
        serving=serving,
        launching=launching,
        rolling=rolling,
        screening=screening,
        drift=drift,
        retraining=retraining,
        polled=polled.outputs["result"],
    )
    worked.set_caching_options(False)
