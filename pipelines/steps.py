"""The steps of the training pipeline, in the order in which they run; kfp is not needed to name them."""

STEPS = (
    "snapshot",
    "validate",
    "split",
    "search",
    "train",
    "evaluate",
    "register",
    "promote",
    "deploy",
    "verify",
)
