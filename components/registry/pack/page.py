"""A pack as files: one HTML page that needs no network, and the same as JSON."""

import hashlib
from pathlib import Path
from typing import Any

import msgspec

from components.evaluation.report import page_environment
from components.registry.pack.content import Pack

TEMPLATE = "pack.html.j2"


def write_pack(pack: Pack, folder: Path) -> dict[str, str]:
    """Write a pack into a folder, made if it is missing.

    Returns:
        ``html`` and ``json``, the paths, and ``sha256``, the digest of the JSON, which the page names.
    """
    folder.mkdir(parents=True, exist_ok=True)
    stem = f"{pack.model['name']}-{pack.model['version']}"
    content = msgspec.json.format(msgspec.json.encode(pack), indent=1) + b"\n"
    digest = hashlib.sha256(content).hexdigest()
    data, page = folder / f"{stem}.json", folder / f"{stem}.html"
    data.write_bytes(content)
    page.write_text(render_pack(pack, data.name, digest), encoding="utf-8")
    return {"html": str(page), "json": str(data), "sha256": digest}


def render_pack(pack: Pack, data_name: str, data_digest: str) -> str:
    """Render a pack as HTML.

    Args:
        pack: What it says.
        data_name: File name of the same as JSON.
        data_digest: Its SHA-256.
    """
    plain: dict[str, Any] = msgspec.to_builtins(pack)
    return (
        page_environment("components.registry.pack")
        .get_template(TEMPLATE)
        .render(p=plain, data_name=data_name, data_digest=data_digest, flat=_flat)
    )


def _flat(tree: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    rows: list[tuple[str, Any]] = []
    for key, value in tree.items():
        rows += _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else [(f"{prefix}{key}", value)]
    return rows
