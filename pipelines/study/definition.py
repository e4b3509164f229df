"""The study's pipeline: as many folds at once as there are nodes for, and then their tables.

The same definition runs on one machine (``kfp.local``) and on Kubeflow Pipelines. No step is cached: what the store
has of a fold is found there, by the digest of all that it depends on.
"""

from typing import NamedTuple

from kfp import dsl

from pipelines.study.component import fold, plan, tabulate


class FoldsOutputs(NamedTuple):
    """What the greater part of it gives back, as JSON text."""

    tabulate: str


class StudyOutputs(NamedTuple):
    """What the pipeline gives back, as JSON text."""

    plan: str
    tabulate: str


@dsl.pipeline(name="folds")
def cross_validate(
    study: str, folds: list, planned: str, sources: list, store: str, asked: dict, settings: dict, detecting: dict
) -> FoldsOutputs:
    """Make each fold and put the tables together.

    A pipeline of its own, because ``kfp.local`` takes what a loop is over from a pipeline's inputs, but not from a
    named output of a task beside it.
    """
    with dsl.ParallelFor(folds, name="each-fold") as key:
        made = fold(store=store, study=study, key=key)
        made.set_caching_options(False)
    told = tabulate(
        sources=sources,
        store=store,
        asked=asked,
        settings=settings,
        detecting=detecting,
        planned=planned,
        made=dsl.Collected(made.outputs["result"]),
    )
    told.set_caching_options(False)
    return FoldsOutputs(tabulate=told.outputs["result"])


@dsl.pipeline(name="study", description="The cross-validation of backbones, its tables and its report")
def study_pipeline(sources: list, store: str, asked: dict, settings: dict, detecting: dict) -> StudyOutputs:
    """Run every fold; the parameters are those of ``pipelines.study.arguments.study_arguments``.

    Args:
        sources: Folders, ``s3://`` prefixes, refs or ids of data versions.
        store: Object store of the data versions, and of the folds' results.
        asked: What the study is of: tasks, backbones, protocols and so on.
        settings: Of the classifiers, by section.
        detecting: Of the detectors.
    """
    about = {"sources": sources, "store": store, "asked": asked, "settings": settings, "detecting": detecting}
    planned = plan(**about)
    planned.set_caching_options(False)
    validated = cross_validate(
        study=planned.outputs["study"],
        folds=planned.outputs["folds"],
        planned=planned.outputs["result"],
        **about,
    )
    validated.set_caching_options(False)
    return StudyOutputs(plan=planned.outputs["result"], tabulate=validated.outputs["tabulate"])
