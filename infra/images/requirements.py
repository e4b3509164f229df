"""Prints the part of requirements.lock that an image needs, hashes included: what it asks for and all that this wants.

usage: requirements.py control|train|predict|sbom [cpu]

pyproject.toml says what is asked for; the lock's own notes of who wanted what ("# via") lead to the rest. With
``cpu`` torch and CUDA's libraries are left out, as the lock holds the builds with CUDA alone.
"""

import re
import sys
import tomllib
from pathlib import Path

# What of the base dependencies the endpoint uses; the rest of them is for steps and people.
SERVED = {"boto3", "httpx", "msgspec", "numpy", "onnxruntime", "pillow", "psutil", "pydantic", "pydantic-settings"}
EXTRAS = {"control": ("serve", "database"), "train": ("train", "database"), "predict": ("serve",)}
CUDA = re.compile(r"(torch|torchvision|triton|nvidia-.*|cuda-.*)$")


def asked(project: dict[str, object], image: str) -> set[str]:
    """Give the names that an image asks for by itself; ``sbom`` is what lists an image's contents."""
    if image == "sbom":
        return {"cyclonedx-bom"}
    base = {_name(each) for each in project["dependencies"]}
    extras = {_name(each) for extra in EXTRAS[image] for each in project["optional-dependencies"][extra]}
    return extras | (base & SERVED if image == "predict" else base)


def blocks(lock: str) -> dict[str, list[tuple[str, set[str]]]]:
    """Give each package's entries in the lock, each with the names of those who wanted it.

    A package has two entries where its version depends on Python's.
    """
    found: dict[str, list[tuple[str, set[str]]]] = {}
    for text in re.split(r"\n(?=[a-z0-9])", lock):
        if "==" in text.split("\n", 1)[0]:
            wanted_by = set(re.findall(r"^    #(?: via)? +([a-z0-9][a-z0-9._-]*)", text, re.MULTILINE)) - {"via"}
            found.setdefault(_name(text), []).append((text, wanted_by))
    return found


def closure(entries: dict[str, list[tuple[str, set[str]]]], names: set[str]) -> list[str]:
    """Give the entries of some packages and of all that they want, in the lock's order."""
    chosen: set[str] = set()
    while names - chosen:
        chosen |= names
        names = {name for name, texts in entries.items() if any(by & chosen for _, by in texts)}
    return [text for name, texts in entries.items() if name in chosen for text, _ in texts]


def _name(requirement: str) -> str:
    match = re.match(r"[a-z0-9._-]+", requirement)
    if match is None:
        raise SystemExit(f"'{requirement}' does not begin with a package's name")
    return match[0]


def main(image: str, *options: str) -> None:
    """Print the part of the lock."""
    folder = Path(__file__).parents[2]
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    entries = blocks((folder / "requirements.lock").read_text())
    texts = closure(entries, asked(project, image))
    sys.stdout.write("\n".join(text for text in texts if "cpu" not in options or not CUDA.match(_name(text))) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
