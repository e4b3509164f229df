"""Whether the endpoint serves what a rollout brought, asked as its users would ask it."""

import time
from collections.abc import Sequence
from pathlib import Path

from components.bundle import KNOWN_IMAGE_FILE, Bundle, DetectorBundle, read_any_bundle
from components.deployment import process
from components.endpoint.client import Client
from components.endpoint.files import Status, WantedModel, read_status
from components.endpoint.prediction import CellsPrediction, CulturePrediction, Prediction
from components.errors import DeploymentError, IntegrityError, MscflowError, UnfitModel

POLL_SECONDS = 0.05
PATIENCE_SECONDS = 10.0

ModelPrediction = Prediction | CellsPrediction


def wait_until_settled(folder: Path, generation: str, timeout: float) -> Status:
    """Wait until the server has tried all models that this writing of ``desired.json`` asks for.

    Raises:
        DeploymentError: if it takes too long, or the server ends.
    """
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        status = read_status(folder)
        running = process.find(folder)
        if running is None:
            raise DeploymentError(f"the endpoint ended while it loaded a model; see {folder / process.LOG_FILE}")
        if status is not None and (status.pid, status.generation) == (running.pid, generation):
            return status
        time.sleep(POLL_SECONDS)
    raise DeploymentError(f"the endpoint did not load within {timeout:g} s; see {folder / process.LOG_FILE}")


def check_model(status: Status, url: str, name: str, wanted: WantedModel) -> ModelPrediction:
    """Check that the endpoint is ready and answers a model's known image as its bundle says.

    Raises:
        UnfitModel: if the model does not serve, or answers otherwise.
        DeploymentError: if the endpoint does not answer.
    """
    model = status.models[name]
    if model.state != "ready":
        raise UnfitModel(f"{name} {wanted.version} cannot serve: {model.reason}")
    failed = [other for other, each in status.models.items() if each.state == "failed"]
    with Client(url, patience=PATIENCE_SECONDS) as client:
        why = client.why_not_ready()
    # Another model that was broken before is not this rollout's fault.
    if why is not None and not failed:
        raise DeploymentError(why)
    try:
        return ask_known(url, name, Path(wanted.path), wanted.digest)
    except IntegrityError as error:
        raise UnfitModel(f"{name} {wanted.version} was altered while it was deployed: {error}") from error


def ask_known(url: str, name: str, bundle_dir: Path, digest: str) -> ModelPrediction:
    """Ask the endpoint about the known image of a bundle, and compare.

    Raises:
        DeploymentError: if it does not answer, or another model does.
        UnfitModel: if the answer is not the known one.
        IntegrityError: if the bundle is not what it was.
    """
    bundle, _ = read_any_bundle(bundle_dir, digest)
    image = bundle_dir / KNOWN_IMAGE_FILE
    prediction = ask(url, name, image.name, image.read_bytes(), digest)
    if not is_known(bundle, prediction):
        raise UnfitModel(f"{name} at {url} answers its known image with {told(prediction)}, off its own")
    return prediction


def ask(url: str, name: str, image_name: str, image: bytes, digest: str) -> ModelPrediction:
    """Ask the endpoint about an image, and check that the expected model answers.

    Raises:
        DeploymentError: if it does not answer, or another model does.
    """
    try:
        with Client(url, patience=PATIENCE_SECONDS) as client:
            (answer,) = client.stream(name, [(image_name, image)])
    except MscflowError as error:
        raise DeploymentError(f"{name} does not answer: {error}") from error
    prediction = answer.prediction
    if prediction is None or isinstance(prediction, CulturePrediction):
        raise DeploymentError(f"{name} does not answer: {answer.error}")
    if prediction.digest != digest:
        raise DeploymentError(
            f"{name} at {url} is answered by version {prediction.model_version} ({prediction.digest[:12]}), "
            f"not by {digest[:12]}"
        )
    return prediction


def is_known(bundle: Bundle | DetectorBundle, prediction: ModelPrediction) -> bool:
    """Whether an answer about the known image of a bundle is the known one."""
    match bundle, prediction:
        case Bundle(), Prediction():
            given = [prediction.probabilities[label] for label in bundle.classes]
            return _alike(given, bundle.known.probabilities, bundle.known.tolerance)
        case DetectorBundle(), CellsPrediction():
            return _boxes_are_known(bundle, prediction)
    return False


def _boxes_are_known(bundle: DetectorBundle, prediction: CellsPrediction) -> bool:
    """Whether each known box that is surely above the threshold is among the cells."""
    known, size = bundle.known, (prediction.width, prediction.height) * 2
    expected = [
        (*corners, score)
        for corners, score in zip(known.boxes, known.scores, strict=True)
        if score >= bundle.min_score + known.tolerance
    ]
    given = [
        (*(value / side for value, side in zip(cell.box, size, strict=True)), cell.score) for cell in prediction.cells
    ]
    return all(any(_alike(each, one, known.tolerance) for each in given) for one in expected)


def _alike(given: Sequence[float], known: Sequence[float], tolerance: float) -> bool:
    return all(abs(one - other) <= tolerance for one, other in zip(given, known, strict=True))


def told(prediction: ModelPrediction) -> str:
    """Say in a word or two what was answered."""
    return f"{prediction.count} cells" if isinstance(prediction, CellsPrediction) else str(prediction.probabilities)
