"""The screening step as a KFP component; what it does is in ``components.screening.steps``."""

from typing import NamedTuple

from kfp import dsl

from components.images import CONTROL


@dsl.component(base_image=CONTROL, install_kfp_package=False)
def screen(
    store: str,
    batch_version: str,
    lineage: str,
    model_name: str,
    screening: dict,
    drift: dict,
    screening_page: dsl.Output[dsl.HTML],
) -> NamedTuple("Outputs", [("verdict", str), ("admissible", str), ("result", str)]):
    """Hold the batch against its lineage and the champion; say what may be learnt from and what a person must see."""
    import shutil
    from pathlib import Path

    from components.events import as_text, step
    from components.lasting import lasting
    from components.screening import steps
    from components.settings import DriftSettings, ScreeningSettings, load_settings

    with step("screen") as report:
        own = load_settings()
        result = steps.screen(
            store,
            batch_version,
            lineage,
            model_name,
            own.mlflow_uri,
            ScreeningSettings.model_validate(screening),
            DriftSettings.model_validate(drift),
            own.home,
            own.home / "screening" / batch_version[:12],
        )
        page = Path(result["page"])
        shutil.copyfile(page, screening_page.path)
        result["page"] = lasting(store, f"screening/{page.parent.name}", page, set(page.parent.iterdir()) - {page})
        report(result)
    return result["verdict"], result["admissible"], as_text(result)
