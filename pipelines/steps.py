"""The steps of the pipelines, in the order in which they run; kfp is not needed to name them."""

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

RETRAIN_STEPS = (
    "poll",
    "intake",
    "screen",
    "admit",
    "validate",
    "split",
    "champion",
    "search",
    "train",
    "evaluate",
    "register",
    "promote",
    "deploy",
    "verify",
    "conclude",
)
