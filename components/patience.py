"""How long a server that was there and is away is waited for, as when it restarts or the network fails for a minute."""

import os

from components.errors import SettingsError

VARIABLE = "MSCFLOW_PATIENCE"
DEFAULT_SECONDS = 90.0
# Names the pipeline run that a step in a container is part of.
RUN_VARIABLE = "MSCFLOW_RUN"
# Set while a run is made, whose start a server has answered, so that each step waits from its first call on.
_IN_A_RUN = ("MLFLOW_RUN_ID", "MSCFLOW_EVENTS", RUN_VARIABLE)


def patience() -> float:
    """Give the seconds: ``MSCFLOW_PATIENCE``, else 90.

    Raises:
        SettingsError: if that is no number from 0 on.
    """
    text = os.environ.get(VARIABLE, "")
    try:
        seconds = float(text) if text else DEFAULT_SECONDS
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise SettingsError(f"{VARIABLE} is '{text}'; give seconds from 0 on, such as 90")
    return seconds


def in_a_run() -> bool:
    """Tell whether this process is part of a run; before one, a server that does not answer is told at once."""
    return any(name in os.environ for name in _IN_A_RUN)
