"""Export to ONNX, the only form in which a model leaves training, and proof that it answers the same."""

import contextlib
import copy
import io
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from torch import nn

from components.errors import TrainingError

OPSET = 20
INPUT, OUTPUT = "images", "logits"
TOLERANCE = 1e-4


def export_onnx(model: nn.Module, size: int, path: Path) -> float:
    """Write a model as one ONNX file with a free batch size, and compare both on random images.

    Args:
        model: Takes ``images`` float32 (N, 3, size, size) and gives ``logits`` (N, K).
        size: Side of the images in pixels.
        path: The file to write.

    Returns:
        Largest absolute difference between PyTorch's and ONNX Runtime's logits.

    Raises:
        TrainingError: if they differ by ``TOLERANCE`` or more, or the file takes batches of one size only.
    """
    plain = copy.deepcopy(model).cpu().to(memory_format=torch.contiguous_format).eval()
    images = torch.randn(3, 3, size, size, generator=torch.Generator().manual_seed(0))
    write_onnx(plain, images[:2], path, [OUTPUT])
    difference = _difference(plain, images, path)
    if not difference < TOLERANCE:
        raise TrainingError(
            f"the exported model answers otherwise than the trained one (logits differ by {difference:.2g}, "
            f"{TOLERANCE:g} is allowed); check the backbone's operations"
        )
    return difference


def write_onnx(model: nn.Module, images: torch.Tensor, path: Path, outputs: list[str]) -> None:
    """Write a network as one ONNX file with a free batch size, its input named ``INPUT``.

    Args:
        model: In evaluation mode, on the CPU.
        images: An example of its input, of two images at least.
        path: The file to write.
        outputs: Names of its outputs.
    """
    # The exporter prints its progress, and standard output belongs to whoever runs the step.
    with contextlib.redirect_stdout(io.StringIO()):
        program = torch.onnx.export(
            model,
            (images,),
            dynamo=True,
            opset_version=OPSET,
            input_names=[INPUT],
            output_names=outputs,
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            verbose=False,
        )
    if program is None:
        raise TrainingError("torch.onnx.export gave no program; check the versions of torch and onnxscript")
    program.save(path, external_data=False)


@torch.no_grad()
def _difference(model: nn.Module, images: torch.Tensor, path: Path) -> float:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    batch = session.get_inputs()[0].shape[0]
    if isinstance(batch, int):
        raise TrainingError(f"the exported model takes batches of {batch} only; check how the backbone reads its input")
    (answer,) = session.run([OUTPUT], {INPUT: images.numpy()})
    return float(np.abs(answer - model(images).numpy()).max())
