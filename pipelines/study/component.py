"""A study's steps as KFP components; what they do is in ``pipelines.study.steps``."""

from typing import NamedTuple

from kfp import dsl

from components.images import TRAIN


@dsl.component(base_image=TRAIN, install_kfp_package=False)
def plan(sources: list, store: str, asked: dict, settings: dict, detecting: dict) -> NamedTuple(
    "Outputs", [("study", str), ("folds", list), ("result", str)]
):
    """Read the sources and say what each fold is."""
    from components.events import as_text, step
    from pipelines.study import steps
    from pipelines.study.arguments import options_of

    with step("plan") as report:
        result = steps.plan(options_of(sources, store, asked, settings, detecting))
        report(result)
    return result["study"], result["folds"], as_text(result)


@dsl.component(base_image=TRAIN, install_kfp_package=False)
def fold(store: str, study: str, key: str) -> NamedTuple("Outputs", [("result", str)]):
    """Train and score one fold, unless the store has its result."""
    from components.events import as_text, step
    from components.settings import load_settings
    from pipelines.study import steps

    with step("fold") as report:
        result = steps.make_fold(store, study, key, load_settings().home)
        report(result)
    return (as_text(result),)


@dsl.component(base_image=TRAIN, install_kfp_package=False)
def tabulate(
    sources: list,
    store: str,
    asked: dict,
    settings: dict,
    detecting: dict,
    planned: str,
    made: list,
    report_page: dsl.Output[dsl.HTML],
) -> NamedTuple("Outputs", [("result", str)]):
    """Put the tables and the report of all folds together."""
    import json
    import shutil

    from components.events import as_text, step
    from pipelines.study import steps
    from pipelines.study.arguments import options_of

    with step("tabulate") as report:
        options = options_of(sources, store, asked, settings, detecting)
        result = steps.put_together(options, json.loads(planned), [json.loads(each) for each in made])
        shutil.copyfile(result.pop("page"), report_page.path)
        report(result)
    return (as_text(result),)
