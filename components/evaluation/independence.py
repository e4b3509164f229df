"""Whether a model is judged on images that it did not learn from."""

from components.datasets.splits import load_split
from components.datasets.versions import DataRepository
from components.errors import DataError
from components.evaluation.verdict import Rule, weigh

NAME = "test images it learnt from"


def learnt_images(repository: DataRepository, own_split: str, split_id: str) -> int | None:
    """Count the test images of a split that a model learnt from, or was chosen by; None where nobody can tell.

    Args:
        repository: Where the splits lie.
        own_split: The split that the model was made from.
        split_id: The one whose test part it is judged on.
    """
    try:
        own = load_split(repository, own_split)
    except DataError:
        return None
    seen = {record.sha256 for part, records in own.items() if part != "test" for record in records}
    return sum(record.sha256 in seen for record in load_split(repository, split_id)["test"])


def independent(learnt: int | None) -> Rule:
    """Give the rule that none of the test images was learnt from."""
    return weigh(
        NAME,
        learnt,
        "<=",
        0,
        refusal="The model learnt from {figure} that it is judged on; judge it on the split that it was made from.",
        unknown="the split that the model was made from is not in this object store; judge it where it was made",
        note="training and validation images of its own split, by their digests",
        unit="images",
    )


def champion_note(learnt: int | None) -> str:
    """Say what a comparison with the champion is worth, if it learnt from the test images."""
    if learnt is None:
        return "what the champion learnt from is not in this object store"
    return f"the champion learnt from {learnt} of the images, which flatters it" if learnt else ""
