"""The registry steps as KFP components; what they do is in ``components.registry.steps``."""

from typing import NamedTuple

from kfp import dsl

from components.images import CONTROL


@dsl.component(base_image=CONTROL, install_kfp_package=False)
def champion(name: str, store: str, data_version: str) -> NamedTuple("Outputs", [("digest", str), ("result", str)]):
    """Put the champion of before this data version where a new training may go on from its weights and search."""
    from components.events import as_text, step
    from components.registry.start import fetch_champion
    from components.settings import load_settings

    with step("champion") as report:
        own = load_settings()
        result = fetch_champion(name, data_version, own.mlflow_uri, own.home, store)
        report(result)
    return result["digest"], as_text(result)


@dsl.component(base_image=CONTROL, install_kfp_package=False)
def register(candidate: dsl.Input[dsl.Model]) -> NamedTuple(
    "Outputs", [("name", str), ("version", str), ("result", str)]
):
    """Give the candidate a version in the model registry; the same bytes keep their version."""
    from pathlib import Path

    from components.events import as_text, step
    from components.registry import steps
    from components.settings import load_settings

    with step("register") as report:
        own = load_settings()
        result = steps.register(Path(candidate.path), own.mlflow_uri, own.home, own.store_uri)
        report(result)
    return result["name"], result["version"], as_text(result)


@dsl.component(base_image=CONTROL, install_kfp_package=False)
def promote(
    store: str, split_id: str, name: str, version: str, settings: dict, report_page: dsl.Output[dsl.HTML]
) -> NamedTuple("Outputs", [("passed", bool), ("result", str)]):
    """Judge the version against the floors and the champion; make it the champion if it passes."""
    import shutil
    from pathlib import Path

    from components.events import as_text, step
    from components.lasting import lasting
    from components.registry import steps
    from components.settings import GateSettings, load_settings

    with step("promote") as report:
        own = load_settings()
        gate = GateSettings.model_validate(settings)
        result = steps.promote(name, version, store, split_id, own.mlflow_uri, gate, own.home)
        page = own.home / "reports" / f"{name}-{version}.html"
        page.parent.mkdir(parents=True, exist_ok=True)
        steps.write_version_report(name, version, own.mlflow_uri, own.home, page)
        shutil.copyfile(page, report_page.path)
        result["report"] = lasting(store, "reports", page)
        if result["passed"]:
            pack = steps.write_evidence_pack(
                name, version, own.model_copy(update={"gate": gate}), own.home / "evidence"
            )
            result["evidence"] = lasting(store, "evidence", Path(pack["html"]), [Path(pack["json"])])
        result["aliases"] = steps.show(name, version, own.mlflow_uri)["aliases"]
        report(result)
    return result["passed"], as_text(result)
