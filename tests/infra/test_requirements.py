"""Which part of the lock an image gets."""

import re
import subprocess
import sys

import pytest

from tests.containers import ROOT

SCRIPT = ROOT / "infra" / "images" / "requirements.py"
# What each image's processes cannot start without, and what must never get in.
HELD = {
    "control": ({"kfp", "mlflow", "psycopg2-binary", "onnx", "onnxruntime", "kubernetes"}, {"torch", "pytest", "moto"}),
    "train": ({"torch", "torchvision", "nvidia-nccl-cu13", "optuna", "mlflow"}, {"kserve", "pytest", "moto"}),
    "predict": ({"kserve", "onnxruntime", "boto3", "msgspec"}, {"torch", "mlflow", "kfp", "matplotlib", "pytest"}),
    "sbom": ({"cyclonedx-bom", "cyclonedx-python-lib"}, {"torch", "mlflow"}),
}


def part(*arguments: str) -> dict[str, str]:
    """Give the entries that the script prints, by package."""
    text = subprocess.run([sys.executable, SCRIPT, *arguments], capture_output=True, text=True, check=True).stdout
    entries = re.split(r"\n(?=[a-z0-9])", text)
    return {re.match(r"[a-z0-9._-]+", entry)[0]: entry for entry in entries}


@pytest.mark.parametrize("image", HELD)
def test_an_image_gets_what_it_asks_for_with_all_that_this_wants(image):
    entries = part(image)
    present, absent = HELD[image]
    assert present <= entries.keys()
    assert not absent & entries.keys()
    for entry in entries.values():
        assert "--hash=sha256:" in entry
    lock = (ROOT / "requirements.lock").read_text()
    assert all(entry.strip() in lock for entry in entries.values())


def test_without_cuda_only_torch_and_its_libraries_are_left_to_another_index():
    left = part("train").keys() - part("train", "cpu").keys()
    assert {"torch", "torchvision", "triton"} <= left
    assert all(re.match(r"torch|triton|nvidia-|cuda-", name) for name in left)
