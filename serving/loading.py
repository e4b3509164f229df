"""Reading a model version from its bundle: checked, warmed, and proven on an image with a known answer."""

from pathlib import Path

import onnxruntime as ort

from components.bundle import KNOWN_IMAGE_FILE, MODEL_FILE, Bundle, read_any_bundle
from components.endpoint.files import WantedModel
from components.errors import ImageError, IntegrityError
from components.novelty import NOVELTY_FILE, Familiar
from serving.classifier import Classifier
from serving.detector import Detector
from serving.loaded import ORT_ERRORS, LoadedModel, ModelRejected


def load_model(name: str, wanted: WantedModel, threads: int) -> LoadedModel:
    """Read a bundle, check every digest in it, warm it and try its known image.

    Args:
        name: Name under which it will be served.
        wanted: Where it lies, and its digest as the registry records it.
        threads: Threads of one inference.

    Raises:
        ModelRejected: if it must not be served.
    """
    folder = Path(wanted.path)
    try:
        bundle, digest = read_any_bundle(folder, wanted.digest)
        if bundle.model_name != name:
            raise ModelRejected(f"it is a version of {bundle.model_name}, not of {name}")
        session = _open_session(folder / MODEL_FILE, threads)
        familiar = Familiar.read(folder / NOVELTY_FILE) if NOVELTY_FILE in bundle.files else None
        model: LoadedModel = (
            Classifier(name, wanted.version, digest, session, familiar, bundle)
            if isinstance(bundle, Bundle)
            else Detector(name, wanted.version, digest, session, familiar, bundle)
        )
        model.check((folder / KNOWN_IMAGE_FILE).read_bytes())
    except (IntegrityError, ImageError, OSError, MemoryError) as error:
        raise ModelRejected(str(error)) from error
    except ORT_ERRORS as error:
        first_line = str(error).splitlines()[0]
        raise ModelRejected(f"ONNX Runtime refuses {folder / MODEL_FILE}: {first_line}") from error
    return model


def _open_session(path: Path, threads: int) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Waiting threads that spin would take the processor from the threads that decode.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
