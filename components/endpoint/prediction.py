"""The answer to one image, as the endpoint gives it and as clients read it."""

import msgspec


class Prediction(msgspec.Struct, frozen=True, kw_only=True):
    """What the endpoint says of one image.

    Attributes:
        confluence_class: 1 to 4; ``class`` in JSON.
        name: Name of the class, such as ``media_change``.
        probabilities: Calibrated probability by class name.
        confidence: The highest probability.
        decision: What the process does next; None where the model abstains.
        abstain: Whether the model refuses to decide; a person must look.
        reason: Why it abstains: ``unsure``, where its confidence lies below what the model asks for.
        model_version: Version in the model registry.
        data_version: Data version that the model was trained on.
        digest: The model's digest, which fixes every byte of it.
    """

    confluence_class: int = msgspec.field(name="class")
    name: str
    probabilities: dict[str, float]
    confidence: float
    decision: str | None
    abstain: bool
    reason: str | None
    model: str
    model_version: str
    data_version: str
    digest: str
