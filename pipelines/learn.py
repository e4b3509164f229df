"""The greater part of the retraining pipeline: what is done with a batch once it was screened.

A condition sits in a pipeline of its own and looks at that pipeline's inputs: ``kfp.local`` skips, without a word,
one that looks at a named output of a task beside it. Nothing leads out of a condition either, so each way to the end
has its own ``conclude``, which is given the results of the steps before it.
"""

from kfp import dsl

from components.batches.component import admit, conclude
from components.deployment.component import deploy, verify
from components.registry.component import champion
from components.training.component import train
from components.tuning.component import search
from pipelines.judging import judge_model


@dsl.pipeline(name="rollout")
def roll_out(
    passed: bool,
    store: str,
    lineage: str,
    batch: str,
    batch_id: str,
    owner: str,
    serving: dict,
    rolling: dict,
    name: str,
    version: str,
    polled: str,
    taken: str,
    screened: str,
    admitted: str,
    validated: str,
    divided: str,
    led: str,
    searched: str,
    trained: str,
    evaluated: str,
    registered: str,
    promoted: str,
) -> None:
    """Deploy a version that was released, and conclude; conclude alone where it was not."""
    batch_of = {"store": store, "lineage": lineage, "name": batch, "batch_id": batch_id, "owner": owner}
    known = {
        "poll": polled,
        "intake": taken,
        "screen": screened,
        "admit": admitted,
        "validate": validated,
        "split": divided,
        "champion": led,
        "search": searched,
        "train": trained,
        "evaluate": evaluated,
        "register": registered,
        "promote": promoted,
    }
    with dsl.If(passed == True):  # noqa: E712  KFP builds its condition from this comparison
        deployed = deploy(name=name, version=version, settings=serving, rolling=rolling)
        deployed.set_caching_options(False)
        verified = verify(url=deployed.outputs["url"], name=name, digest=deployed.outputs["digest"])
        verified.set_caching_options(False)
        told = {"deploy": deployed.outputs["result"], "verify": verified.outputs["result"]}
        released = conclude(**batch_of, **known, **told)
        released.set_caching_options(False)
    with dsl.If(passed == False):  # noqa: E712
        kept = conclude(**batch_of, **known)
        kept.set_caching_options(False)


@dsl.pipeline(name="learn")
def learn(
    verdict: str,
    admissible: str,
    store: str,
    lineage: str,
    batch: str,
    batch_id: str,
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
    retraining: dict,
    polled: str,
    taken: str,
    screened: str,
) -> None:
    """Learn from a batch that was admitted and judge what was learnt; conclude where it was not admitted."""
    with dsl.If(verdict != "admitted"):
        batch_of = {"store": store, "lineage": lineage, "name": batch, "batch_id": batch_id, "owner": owner}
        left = conclude(**batch_of, poll=polled, intake=taken, screen=screened)
        left.set_caching_options(False)
    with dsl.If(verdict == "admitted"):
        admitted = admit(
            store=store,
            admissible=admissible,
            lineage=lineage,
            name=batch,
            batch_id=batch_id,
            task=task,
            data=data,
            splitting=splitting,
            detection=detection,
        )
        admitted.set_caching_options(False)  # it moves the lineage, and its frozen sides
        led = champion(name=model_name, store=store, data_version=admitted.outputs["data_version"])
        led.set_caching_options(False)
        found = search(
            store=store,
            split_id=admitted.outputs["split_id"],
            settings=searching,
            training=training,
            champion=led.outputs["digest"],
            retraining=retraining,
        )
        fitted = train(
            store=store,
            split_id=admitted.outputs["split_id"],
            modality=modality,
            learning_rate=found.outputs["learning_rate"],
            task=task,
            settings=training,
            detection=detection,
            champion=led.outputs["digest"],
            retraining=retraining,
            launching=launching,
        )
        evaluated, registered, promoted = judge_model(
            fitted,
            found,
            store=store,
            data_version=admitted.outputs["data_version"],
            split_id=admitted.outputs["split_id"],
            lineage=admitted.outputs["lineage"],
            task=task,
            modality=modality,
            quarantined=admitted.outputs["quarantined"],
            evaluating=evaluating,
            gate=gate,
        )
        ended = roll_out(
            passed=promoted.outputs["passed"],
            store=store,
            lineage=lineage,
            batch=batch,
            batch_id=batch_id,
            owner=owner,
            serving=serving,
            rolling=rolling,
            name=registered.outputs["name"],
            version=registered.outputs["version"],
            polled=polled,
            taken=taken,
            screened=screened,
            admitted=admitted.outputs["admitted"],
            validated=admitted.outputs["validated"],
            divided=admitted.outputs["divided"],
            led=led.outputs["result"],
            searched=found.outputs["result"],
            trained=fitted.outputs["result"],
            evaluated=evaluated.outputs["result"],
            registered=registered.outputs["result"],
            promoted=promoted.outputs["result"],
        )
        ended.set_caching_options(False)
