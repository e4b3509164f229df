"""What a pack says of every model of a task, whatever its figures are."""

from typing import NamedTuple

from components.culture import CLASSES, Modality, Task


class Wording(NamedTuple):
    """The standing text on one task.

    Attributes:
        use: What the model is for.
        inputs: What it may be shown.
        output: What it answers.
        person: What is left to people.
        limits: What it cannot do, or was not tested on.
    """

    use: str
    inputs: str
    output: str
    person: str
    limits: tuple[str, ...]


_BANDS = "; ".join(
    f"{int(each)}, {each.decision} ({each.bounds[0]:.0%} to {each.bounds[1]:.0%} of the floor covered)"
    for each in CLASSES
)
_STATIC = (
    "The model is static and deterministic: it learns nothing while it serves, and the same bytes get the same "
    "answer. Another model comes into service only as another version, with a pack of its own."
)
_COMMON = (
    _STATIC,
    "It was tested on images of the vessels, days and microscopes named under the data. On others its figures are "
    "unknown, until images of them are labelled and tested.",
    "Why it answers as it does is shown by pictures of its errors in the report of the version, not by an account of "
    "which pixels weighed how much.",
)
_PERSON = (
    "Its answer supports the operator's decision. Where it abstains, and wherever its answer contradicts what the "
    "operator sees, the operator decides; the endpoint says which version answered, and how sure it was."
)


def wording(task: Task, modality: Modality) -> Wording:
    """Give the standing text on a task."""
    kind = modality.value.replace("_", "-")
    inputs = (
        f"Phase-contrast photographs (PNG, JPEG or TIFF) of mesenchymal stem cells in {kind} culture vessels, taken "
        "as those that it learnt from were. An image that looks unlike them is answered by an abstention that says so."
    )
    if task == Task.ABNORMAL_CELLS:
        return Wording(
            use="Finding enlarged, flattened cells, a sign of ageing, in photographs of a culture, so that a person "
            "looks at them before the culture goes on.",
            inputs=inputs,
            output="A box and a score for each cell that it takes for abnormal.",
            person=_PERSON,
            limits=(*_COMMON, "A photograph without boxes is no proof that the vessel holds no abnormal cell."),
        )
    return Wording(
        use="Telling how far a culture has grown, so that it is fed, split or discarded in time.",
        inputs=inputs,
        output=f"One of four bands of confluence with calibrated probabilities: {_BANDS}.",
        person=_PERSON,
        limits=(*_COMMON, "The bands are the labels of people; near an edge people, too, disagree."),
    )
