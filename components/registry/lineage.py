"""Which lineage of data a model belongs to."""

from pathlib import Path

import msgspec

from components.bundle import EVIDENCE_FILE
from components.registry.versions import Registry


class _Data(msgspec.Struct):
    lineage: str


class _Evidence(msgspec.Struct):
    data: _Data


def champion_lineage(name: str, mlflow_uri: str, home: Path) -> str | None:
    """Give the lineage that the champion learnt from and is tested on, None where there is no champion.

    Raises:
        IntegrityError: if the champion's bundle is not what was registered.
        RegistryError: if MLflow does not answer or refuses.
    """
    registry = Registry(mlflow_uri, home)
    champion = registry.champion(name)
    if champion is None:
        return None
    folder = registry.download(name, champion.version, home / "models")
    return msgspec.json.decode((folder / EVIDENCE_FILE).read_bytes(), type=_Evidence).data.lineage
