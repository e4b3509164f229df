"""Where a backbone's first weights come from: nowhere, an installed package, torchvision, or a local file."""

import hashlib
import os
import pickle
import time
import urllib.request
from dataclasses import dataclass
from http.client import HTTPException
from importlib.metadata import packages_distributions, version
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from components.bundle import file_digest
from components.errors import IntegrityError, SettingsError
from components.imaging import Preprocessing
from components.models.backbones import Backbone, backbone, check_size
from components.settings import TrainingSettings

NONE, AUTO, TORCHVISION = "none", "auto", "torchvision"

CONNECT_SECONDS = 15.0
FETCH_SECONDS = 600.0
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Weights:
    """The first weights of a backbone.

    Attributes:
        source: Where they come from, for people: ``none``, ``package ...``, ``torchvision ...`` or ``file ...``.
        path: The file, or None for a random start.
        sha256: Its hexadecimal digest.
        note: Why a wish for pretrained weights was not met.
        preprocessing: What the whole network was shown that they are of; None where they are a backbone's alone.
    """

    source: str
    path: Path | None = None
    sha256: str | None = None
    note: str | None = None
    preprocessing: Preprocessing | None = None

    @property
    def pretrained(self) -> bool:
        """Whether training starts from anything but random numbers."""
        return self.path is not None

    @property
    def whole(self) -> bool:
        """Whether they are those of a whole network, not of a backbone alone."""
        return self.preprocessing is not None


def find_weights(name: str, wish: str) -> Weights:
    """Find the weights that a setting asks for.

    Args:
        name: The backbone.
        wish: ``none``; ``auto`` (what an installed package carries or torchvision's cache already
            holds, else none; it never uses the network); ``torchvision`` (fetched if need be); or
            the path of a file.

    Raises:
        SettingsError: if the backbone is unknown, the file does not exist, or a fetch fails.
        IntegrityError: if torchvision's file is not what its name promises.
    """
    entry = backbone(name)
    if wish == NONE:
        return Weights(NONE)
    if wish == AUTO:
        return _packaged(entry) or _cached(entry) or Weights(NONE, note=f"no pretrained weights of {name} are at hand")
    if wish == TORCHVISION:
        return _cached(entry) or _fetched(name, entry)
    path = Path(wish).expanduser()
    if not path.is_file():
        raise SettingsError(f"training.weights '{wish}' is not none, auto, torchvision or the path of a file")
    return Weights(f"file {path.name}", path, file_digest(path))


def input_of(settings: TrainingSettings, weights: Weights) -> Preprocessing:
    """Give what a network is shown; as in the training that its weights come from, else normalised by 0.5 and 0.5.

    Raises:
        SettingsError: if the images are too small for the backbone, or there is none of this name.
    """
    check_size(settings.backbone, settings.image_size)
    if weights.preprocessing is not None:
        return weights.preprocessing
    plain = Preprocessing(
        size=settings.image_size,
        planes=settings.planes,
        clumps=settings.clumps,
        equalisation=settings.equalisation,
    )
    entry = backbone(settings.backbone)
    return plain.model_copy(update={"mean": entry.mean, "std": entry.std}) if weights.pretrained else plain


def load_weights(features: nn.Module, name: str, weights: Weights) -> None:
    """Fill a backbone's feature extractor with weights; the published classifier in the file is left out.

    Those of a whole network are for ``load_whole``.

    Raises:
        SettingsError: if the file cannot be read or belongs to another network.
    """
    if weights.path is None or weights.whole:
        return
    entry = backbone(name)
    found = {
        _current(key, entry): value for key, value in _read(weights.path).items() if not key.startswith(entry.head)
    }
    _check(features.state_dict(), found, name, weights.path)
    # Files from before PyTorch 0.4.1 do not count batches; nothing here reads the counts.
    features.load_state_dict(found, strict=False)


def load_whole(model: nn.Module, name: str, weights: Weights) -> None:
    """Fill a network with weights that are those of a whole one; others leave it as it is.

    Raises:
        SettingsError: if the file cannot be read or belongs to another network.
    """
    if weights.path is None or not weights.whole:
        return
    found = _read(weights.path)
    _check(model.state_dict(), found, name, weights.path)
    model.load_state_dict(found)


def _current(key: str, entry: Backbone) -> str:
    for former, current in entry.renamed:
        key = key.replace(former, current)
    return key


def _packaged(entry: Backbone) -> Weights | None:
    if entry.packaged is None:
        return None
    path = entry.packaged()
    module = [parent.name for parent in path.parents if (parent / "__init__.py").is_file()][-1]
    package = packages_distributions()[module][0]
    return Weights(f"package {package} {version(package)}", path, file_digest(path))


def _cached(entry: Backbone) -> Weights | None:
    if entry.url is None or not (path := _cache_path(entry.url)).is_file():
        return None
    return _checked(path)


def _cache_path(url: str) -> Path:
    return Path(torch.hub.get_dir()) / "checkpoints" / Path(urlsplit(url).path).name


def _checked(path: Path) -> Weights:
    return Weights(f"torchvision {path.name}", path, _promised_digest(path, path.name))


def _promised_digest(path: Path, name: str) -> str:
    """Give a file's digest, which must begin as its name ends."""
    digest, promised = file_digest(path), Path(name).stem.rpartition("-")[2]
    if not digest.startswith(promised):
        raise IntegrityError(f"{path} has SHA-256 {digest[:8]}..., not {promised}...; delete it and fetch it again")
    return digest


def _fetched(name: str, entry: Backbone) -> Weights:
    if entry.url is None:
        raise SettingsError(
            f"training.weights 'torchvision': torchvision has none for {name}; use auto, none or a file"
        )
    path = _cache_path(entry.url)
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with urllib.request.urlopen(entry.url, timeout=CONNECT_SECONDS) as answer, partial.open("wb") as file:  # noqa: S310  # the registry's own URL
            _copy(answer, file)
        _promised_digest(partial, path.name)
        partial.replace(path)
    except (OSError, HTTPException) as error:
        raise SettingsError(
            f"training.weights 'torchvision': {entry.url} cannot be fetched ({error}); download it elsewhere and put "
            f"it at {path}, name the file in training.weights, or set training.weights to none"
        ) from error
    finally:
        partial.unlink(missing_ok=True)
    return _checked(path)


def _copy(answer: IO[bytes], file: IO[bytes]) -> None:
    deadline = time.monotonic() + FETCH_SECONDS
    while chunk := answer.read(_CHUNK):
        file.write(chunk)
        if time.monotonic() > deadline:
            raise TimeoutError(f"not finished after {FETCH_SECONDS:.0f} s")


def _read(path: Path) -> dict[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, OSError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise SettingsError(
            f"training.weights '{path}' cannot be read ({reason}); give a .safetensors file or one that "
            "torch.save(model.state_dict(), ...) wrote"
        ) from error
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise SettingsError(
            f"training.weights '{path}' holds more than a state_dict; write it with torch.save(model.state_dict(), ...)"
        )
    return state


def _check(expected: dict[str, Tensor], found: dict[str, Tensor], name: str, path: Path) -> None:
    missing = [key for key in expected if key not in found and not key.endswith("num_batches_tracked")]
    alien = [key for key in found if key not in expected]
    shapes = [key for key in expected if key in found and expected[key].shape != found[key].shape]
    if missing or alien:
        what = f"it lacks '{missing[0]}'" if missing else f"it holds '{alien[0]}'"
        raise SettingsError(
            f"training.weights '{path}' does not belong to {name}: {what} ({len(missing + alien)} names)"
        )
    if shapes:
        key = shapes[0]
        raise SettingsError(
            f"training.weights '{path}' does not belong to {name}: '{key}' has shape {tuple(found[key].shape)}, "
            f"not {tuple(expected[key].shape)}"
        )


def state_digest(state: dict[str, Tensor]) -> str:
    """Give the SHA-256 of a state_dict: names, shapes, types and bytes, in the order of the names."""
    digest = hashlib.sha256()
    for key in sorted(state):
        value = state[key].detach().cpu().contiguous()
        digest.update(f"{key} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
