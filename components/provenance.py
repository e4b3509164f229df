"""Where a result comes from: the code and the environment that made it."""

import hashlib
import platform
import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ("components", "pipelines", "serving")
RECORDED = ("kfp", "kserve", "mlflow", "numpy", "onnxruntime", "optuna", "pillow", "torch", "torchvision")
_ROOT = Path(__file__).resolve().parent.parent


@cache
def code_version() -> str:
    """Give the version of mscflow, the commit where it is known, and the digest of the sources.

    For example ``0.1.0+g70e689b1c2d3.s4f1d0a9e77b2``; an altered checkout ends in ``.dirty``. The digest
    tells installed copies apart that no commit is known of.
    """
    commit = _commit()
    parts = [f"g{commit}"] if commit else []
    return "+".join([_release("mscflow") or "0", ".".join([*parts, f"s{_sources_digest()[:12]}"])])


def environment() -> dict[str, str]:
    """Give what a result may depend on besides the code: Python, machine and library versions."""
    found = {name: _release(name) for name in RECORDED}
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        **{name: release for name, release in found.items() if release},
    }


def _release(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def _sources_digest() -> str:
    digest = hashlib.sha256()
    for package in PACKAGES:
        for path in sorted((_ROOT / package).rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                content = hashlib.sha256(path.read_bytes()).hexdigest()
                digest.update(f"{path.relative_to(_ROOT).as_posix()} {content}\n".encode())
    return digest.hexdigest()


def _commit() -> str | None:
    # Only a checkout of mscflow itself counts, not a repository that an installed copy happens to lie in.
    if not (_ROOT / ".git").exists():
        return None
    try:
        commit = _git("rev-parse", "--short=12", "HEAD")
        dirty = _git("status", "--porcelain", "--", *PACKAGES)
    except (OSError, subprocess.SubprocessError):
        return None
    return f"{commit}.dirty" if dirty else commit


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=_ROOT, capture_output=True, text=True, timeout=10, check=True)
    return done.stdout.strip()
