"""Going on from a champion: its weights as the first weights of another training."""

from pathlib import Path

import safetensors.torch
from torch import Tensor

from components.bundle import file_digest, read_any_bundle
from components.errors import IntegrityError
from components.models.weights import Weights, input_of
from components.settings import TrainingSettings

NOTHING = Weights("none")


def save_weights(state: dict[str, Tensor], path: Path) -> None:
    """Write the weights of a whole network; nothing in the file runs code when it is loaded."""
    safetensors.torch.save_file({name: value.detach().cpu().contiguous() for name, value in state.items()}, path)


def champion_weights(home: Path, digest: str) -> Weights:
    """Give the weights of a champion that ``components.registry.start`` has fetched.

    Args:
        home: Which keeps bundles in its folder ``models`` and weights in ``weights``.
        digest: The champion's.

    Raises:
        IntegrityError: if its files are not what they were, or its weights were not kept.
    """
    bundle, _ = read_any_bundle(home / "models" / digest, digest)
    path = home / "weights" / f"{bundle.weights}.safetensors"
    if bundle.weights is None or not path.is_file():
        raise IntegrityError(f"no weights of {bundle.model_name} {digest[:12]} lie in {path.parent}; fetch them again")
    if (actual := file_digest(path)) != bundle.weights:
        raise IntegrityError(f"{path} has digest {actual}, but bundle.json records {bundle.weights}; delete it")
    source = f"champion {bundle.model_name} {digest[:12]}"
    return Weights(source, path, bundle.weights, preprocessing=bundle.preprocessing)


def why_not(home: Path, digest: str, settings: TrainingSettings) -> str | None:
    """Say why a training with these settings cannot go on from a champion, None if it can.

    Raises:
        IntegrityError: if the champion's bundle is not what it was.
    """
    if not digest:
        return "there is no champion yet"
    bundle, _ = read_any_bundle(home / "models" / digest, digest)
    if bundle.weights is None:
        return "the champion's weights were not kept"
    if bundle.backbone != settings.backbone:
        return f"the champion's backbone is {bundle.backbone}, not {settings.backbone}"
    wanted, own = input_of(settings, NOTHING), bundle.preprocessing
    # Whatever its images were normalised by, the champion's training goes on with it.
    if wanted.model_copy(update={"mean": own.mean, "std": own.std}) != own:
        return "the champion is shown its images in another way (size, planes, clumps or equalisation)"
    return None
