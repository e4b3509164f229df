"""How the threads of torch wait for one another; to be settled before torch is loaded."""

import os


def wait_briefly() -> None:
    """Make waiting threads give up their core after microseconds instead of milliseconds.

    GNU OpenMP's threads spin while they wait. On a machine that does something else as well they
    spin for a thread which has no core: measured on 2 busy cores an epoch took 14 s with spinning,
    4 s without. What the user has set stays.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "1000")
