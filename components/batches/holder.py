"""Under which name a run holds a batch."""

import os

from components.patience import RUN_VARIABLE


def holder(owner: str) -> str:
    """Tell an owner's runs apart where each is a run of a cluster: two at once must not take each other for one."""
    run = os.environ.get(RUN_VARIABLE)
    return f"{owner} (run {run})" if run else owner
