"""What is done with a batch, as KFP components; the work is in ``components.batches`` and ``components.datasets``."""

from typing import NamedTuple

from kfp import dsl

from components.images import CONTROL


@dsl.component(base_image=CONTROL, install_kfp_package=False)
def poll(watched: str, batch: str, store: str, lineage: str, owner: str, lease: float, attempts: int) -> NamedTuple(
    "Outputs", [("found", bool), ("name", str), ("batch_id", str), ("uri", str), ("result", str)]
):
    """Claim the oldest complete batch that nobody has worked on, or the one that is named."""
    from components.batches import steps
    from components.batches.holder import holder
    from components.events import as_text, step
    from components.settings import load_settings

    with step("poll") as report:
        home = load_settings().home
        result = steps.poll(watched, batch or None, store, lineage, home, holder(owner), lease, attempts)
        report(result)
    # KFP knows no null.
    named = (result.get(key) or "" for key in ("batch", "id", "uri"))
    return result["found"], *named, as_text(result)


@dsl.component(base_image=CONTROL, install_kfp_package=False)
def intake(uri: str, name: str, store: str, lineage: str, modality: str, settings: dict) -> NamedTuple(
    "Outputs", [("batch_version", str), ("result", str)]
):
    """Take the batch in as a data version of its own; nothing of the lineage moves."""
    from components.batches.intake import intake as take_in
    from components.culture import Modality
    from components.events import as_text, step
    from components.settings import DataSettings, load_settings

    with step("intake") as report:
        limits = DataSettings.model_validate(settings)
        result = take_in(uri, name, store, lineage, Modality(modality), limits, load_settings().home)
        report(result)
    return result["batch_version"], as_text(result)


@dsl.component(base_image=CONTROL, install_kfp_package=False)
def admit(
    store: str,
    admissible: str,
    lineage: str,
    name: str,
    batch_id: str,
    task: str,
    data: dict,
    splitting: dict,
    detection: dict,
) -> NamedTuple(
    "Outputs",
    [
        ("data_version", str),
        ("split_id", str),
        ("lineage", str),
        ("quarantined", str),
        ("admitted", str),
        ("validated", str),
        ("divided", str),
    ],
):
    """Add what was admitted to the lineage, validate the whole, and divide it: three short steps, one process."""
    import json

    from components.batches.intake import admit as take_up
    from components.culture import Task
    from components.datasets import steps
    from components.events import as_text, step
    from components.settings import DataSettings, DetectionSettings, SplitSettings, load_settings

    home = load_settings().home
    with step("admit") as report:
        admitted = take_up(store, admissible, lineage, name, batch_id, home)
        report(admitted)
    with step("validate") as report:
        validated = steps.validate(store, admitted["data_version"], DataSettings.model_validate(data), home)
        report(validated)
    with step("split") as report:
        positive = DetectionSettings.model_validate(detection).positive if task == Task.ABNORMAL_CELLS else None
        settings = SplitSettings.model_validate(splitting)
        divided = steps.split(store, validated["data_version"], lineage, settings, positive)
        report(divided)
    # As text: numbers in a dictionary come back from the cache as other types, and would miss it downstream.
    quarantined = json.dumps(validated["quarantined"], sort_keys=True)
    told = map(as_text, (admitted, validated, divided))
    return validated["data_version"], divided["split_id"], divided["lineage"], quarantined, *told


@dsl.component(base_image=CONTROL, install_kfp_package=False)
def conclude(
    store: str,
    lineage: str,
    name: str,
    batch_id: str,
    owner: str,
    poll: str = "",
    intake: str = "",
    screen: str = "",
    admit: str = "",
    validate: str = "",
    split: str = "",
    champion: str = "",
    search: str = "",
    train: str = "",
    evaluate: str = "",
    register: str = "",
    promote: str = "",
    deploy: str = "",
    verify: str = "",
) -> NamedTuple("Outputs", [("result", str)]):
    """Write down what came of the batch, in the ledger and in the audit log; the others are the steps' results."""
    import json

    from components.batches.holder import holder
    from components.batches.outcome import conclude as write_down
    from components.events import as_text, step

    with step("conclude") as report:
        given = {
            "poll": poll, "intake": intake, "screen": screen, "admit": admit, "validate": validate, "split": split,
            "champion": champion, "search": search, "train": train, "evaluate": evaluate, "register": register,
            "promote": promote, "deploy": deploy, "verify": verify,
        }  # fmt: skip
        results = {step_name: json.loads(text) for step_name, text in given.items() if text}
        result = write_down(store, lineage, name, batch_id, holder(owner), results)
        # What steps gave that came from a cache: those have no event of their own.
        report({**result, "steps": results})
    return (as_text(result),)
