"""Export of a detector to ONNX with its non-maximum suppression, and proof that it finds the same boxes."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from components.boxes import Boxes, match
from components.errors import TrainingError
from components.models.detector import Detector, gathered, strongest
from components.models.export import INPUT, write_onnx
from components.settings import DetectionSettings

BOXES, SCORES, IMAGE = "boxes", "scores", "image"
OUTPUTS = (BOXES, SCORES, IMAGE)
TOLERANCE = 1e-4
_ALIKE = 0.95  # share of the boxes that both must keep
# The network's own outputs, which the suppression goes on from.
_CANDIDATES, _LIKELY = "candidate_boxes", "candidate_scores"


class _Candidates(nn.Module):
    """A detector up to the boxes that suppression chooses from: boxes (N, T, 4) and scores (N, 1, T)."""

    def __init__(self, detector: Detector) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        boxes, scores = self.detector.candidates(*self.detector(images))
        return boxes, scores[:, None, :]


def export_detector(model: Detector, settings: DetectionSettings, path: Path) -> float:
    """Write a detector as one ONNX file with a free batch size, and compare both on random images.

    The file takes ``images`` float32 (N, 3, S, S), normalised, and gives the boxes of all images one after
    another: ``boxes`` float32 (M, 4) as fractions of the image, ``scores`` float32 (M,), and ``image`` int64 (M,),
    the number of the image that each is on.

    Args:
        model: The trained detector.
        settings: What its suppression goes by.
        path: The file to write.

    Returns:
        Largest absolute difference between PyTorch's and ONNX Runtime's boxes and scores.

    Raises:
        TrainingError: if they find other boxes, or the file takes batches of one size only.
    """
    plain = copy.deepcopy(model).cpu().to(memory_format=torch.contiguous_format).eval()
    images = torch.randn(3, 3, model.size, model.size, generator=torch.Generator().manual_seed(0))
    write_onnx(_Candidates(plain).eval(), images[:2], path, [_CANDIDATES, _LIKELY])
    _suppress(path, settings)
    difference = _difference(plain, settings, images, path)
    if not difference < TOLERANCE:
        raise TrainingError(
            f"the exported detector answers otherwise than the trained one (by {difference:.2g}, {TOLERANCE:g} is "
            "allowed); check the backbone's operations"
        )
    return difference


def _suppress(path: Path, settings: DetectionSettings) -> None:
    """Append the suppression to a network's graph, whose outputs its nodes then take the place of."""
    model = onnx.load(path)
    graph = model.graph
    constants: dict[str, NDArray[Any]] = {
        "most": np.array([settings.max_boxes], np.int64),
        "overlap": np.array([settings.suppression], np.float32),
        "least": np.array([settings.min_score], np.float32),
        "image_and_box": np.array([0, 2], np.int64),
        "first": np.array(0, np.int64),
    }
    graph.initializer.extend(numpy_helper.from_array(value, f"nms_{name}") for name, value in constants.items())
    # A row for each box that is kept: the image, the class, the box; by image, then by falling score.
    graph.node.extend(
        [
            helper.make_node(
                "NonMaxSuppression", [_CANDIDATES, _LIKELY, "nms_most", "nms_overlap", "nms_least"], ["nms_kept"]
            ),
            helper.make_node("Gather", ["nms_kept", "nms_image_and_box"], ["nms_rows"], axis=1),
            helper.make_node("GatherND", [_CANDIDATES, "nms_rows"], [BOXES]),
            helper.make_node("GatherND", [_LIKELY, "nms_kept"], [SCORES]),
            helper.make_node("Gather", ["nms_kept", "nms_first"], [IMAGE], axis=1),
        ]
    )
    del graph.output[:]
    graph.output.extend(
        [
            helper.make_tensor_value_info(BOXES, TensorProto.FLOAT, ["found", 4]),
            helper.make_tensor_value_info(SCORES, TensorProto.FLOAT, ["found"]),
            helper.make_tensor_value_info(IMAGE, TensorProto.INT64, ["found"]),
        ]
    )
    onnx.checker.check_model(model)
    onnx.save(model, path)


@torch.no_grad()
def _difference(model: Detector, settings: DetectionSettings, images: Tensor, path: Path) -> float:
    """Compare what both see and what both keep of it; infinite if they keep other boxes."""
    boxes, scores, kept = _answers(path, images)
    own_boxes, own_scores = model.candidates(*model(images))
    gaps = [float((scores - own_scores).abs().max())]
    for theirs, score, own in zip(boxes, scores, own_boxes, strict=True):
        # At the end of the list, rounding decides which box is still in it.
        inside = score > score[-1] + TOLERANCE
        gaps.append(float(torch.cdist(theirs[inside], own, p=torch.inf).amin(dim=1).amax()) if inside.any() else 0.0)
    low = settings.model_copy(update={"min_score": 0.0})
    expected = gathered(strongest(boxes, scores, low))
    # Exact ties may be broken otherwise.
    alike = np.count_nonzero(match(expected, kept, 0.99) >= 0) / max(len(expected), len(kept), 1)
    return max(gaps) if alike > _ALIKE else float("inf")


def _answers(path: Path, images: Tensor) -> tuple[Tensor, Tensor, Boxes]:
    """Give a file's candidates, and what its suppression keeps of them where no score is too low."""
    model = onnx.load(path)
    (least,) = (each for each in model.graph.initializer if each.name == "nms_least")
    least.CopyFrom(numpy_helper.from_array(np.zeros(1, np.float32), least.name))
    for name in (_CANDIDATES, _LIKELY):
        model.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, ["a", "b", "c"]))
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    if isinstance(batch := session.get_inputs()[0].shape[0], int):
        raise TrainingError(f"the exported model takes batches of {batch} only; check how the backbone reads its input")
    corners, score, image, boxes, scores = session.run([*OUTPUTS, _CANDIDATES, _LIKELY], {INPUT: images.numpy()})
    kept = Boxes(corners.astype(np.float64), score.astype(np.float64), image, len(images))
    return torch.from_numpy(boxes), torch.from_numpy(scores)[:, 0], kept
