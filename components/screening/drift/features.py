"""What a model's network makes of an image just before it answers."""

from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from components.bundle import MODEL_FILE, read_any_bundle
from components.datasets.manifest import ImageRecord
from components.datasets.versions import DataRepository
from components.evaluation.remembered import remembered
from components.evaluation.resampling import Floats
from components.imaging import Preprocessing, arrange, normalise

if TYPE_CHECKING:
    from onnx import GraphProto

_WEIGHTED = ("Conv", "Gemm", "MatMul")
# A change of what is made of a network's tensors needs a new one.
_METHOD = "1"


def features(
    repository: DataRepository, records: Sequence[ImageRecord], bundle_dir: Path, cache: Path
) -> Floats | None:
    """Give what a model's network sees in images, shape (N, F); None if it has no weights to see with.

    Images are remembered by their digest and the model's.

    Raises:
        ImageError: naming an image that cannot be decoded.
        IntegrityError: if the bundle, or an image in the store, is altered or incomplete.
    """
    bundle, digest = read_any_bundle(bundle_dir)
    measure = _measure(bundle_dir / MODEL_FILE, bundle.preprocessing)
    if measure is None:
        return None
    path, method = cache / "features.sqlite", f"{digest}:{_METHOD}"
    return remembered(repository, records, measure, path, method=method, task="see images as the champion does")


def penultimate(graph: "GraphProto") -> str | None:
    """Name the tensor that the last layer with weights reads, seen from the graph's last output but for its boxes."""
    weights = {each.name for each in graph.initializer}
    makers = {name: node for node in graph.node for name in node.output}
    wanted = [each.name for each in graph.output if each.name in ("logits", "scores")]
    waiting, seen = deque(wanted), set(wanted)
    while waiting:
        node = makers.get(waiting.popleft())
        if node is None:
            continue
        if node.op_type in _WEIGHTED and weights.intersection(node.input):
            return str(next(name for name in node.input if name not in weights))
        fresh = [name for name in node.input if name not in seen]
        seen.update(fresh)
        waiting.extend(fresh)
    return None


def _measure(path: Path, prep: Preprocessing) -> Callable[[Image.Image], Floats] | None:
    import onnx
    import onnxruntime

    model = onnx.load(path)
    name = penultimate(model.graph)
    if name is None:
        return None
    if name not in {each.name for each in (*model.graph.input, *model.graph.output)}:
        model.graph.output.append(onnx.helper.make_empty_tensor_value_info(name))
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 3, 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])

    def measure(picture: Image.Image) -> Floats:
        batch = normalise(arrange(picture, prep)[np.newaxis], prep)
        return _pooled(session.run([name], {"images": batch})[0][0])

    return measure


def _pooled(tensor: Any) -> Floats:
    """Make a vector of what one image's tensor holds: a map's means and spreads, or the mean of its tokens."""
    values = np.asarray(tensor, np.float64)
    if values.ndim == 3:
        return np.concatenate([values.mean(axis=(1, 2)), values.std(axis=(1, 2))])
    return values.mean(axis=0) if values.ndim == 2 else values.ravel()
