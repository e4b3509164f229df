"""Importing kserve without what a server never uses.

``import kserve`` brings the Kubernetes client (for its control-plane API) and pandas with PyArrow (for
one data-frame method). Together they are two thirds of its import time and 130 MB of memory. While
kserve is imported, placeholders stand in for both; afterwards pandas can be imported by whoever wants it.
"""

import importlib
import sys
from types import ModuleType

_CONTROL_PLANE = "kserve.api.kserve_client"


class _Placeholder(ModuleType):
    """A module whose every attribute is ``object``, enough for type annotations and re-exports."""

    def __getattr__(self, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        return object


def import_kserve() -> None:
    """Import kserve's model server; call it before any other import of kserve in the process.

    kserve parses ``sys.argv`` when it is imported, so it is shown an empty one.
    """
    if "kserve" in sys.modules:
        return
    arguments = sys.argv
    stand_ins = {name: _Placeholder(name) for name in (_CONTROL_PLANE, "pandas") if name not in sys.modules}
    sys.modules.update(stand_ins)
    sys.argv = arguments[:1]
    try:
        importlib.import_module("kserve")
    finally:
        sys.argv = arguments
        for name in stand_ins:
            sys.modules.pop(name, None)
