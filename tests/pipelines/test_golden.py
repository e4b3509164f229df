"""The compiled pipelines are those that were looked at.

After a change that is meant: GOLDEN=write .venv/bin/pytest tests/pipelines/test_golden.py, and read the diff.
"""

import os
from pathlib import Path

import pytest

from pipelines.compile import PIPELINES, compile_pipeline

from .compiled import text_of, tree_of

GOLDEN = Path(__file__).parent / "golden"
IMAGES = {"train": "train@sha256:7", "control": "control@sha256:c"}


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_it_is_as_it_was(pipeline, tmp_path):
    compile_pipeline(pipeline, tmp_path / "pipeline.yaml", images=IMAGES)
    made, kept = text_of(tree_of(tmp_path / "pipeline.yaml")), GOLDEN / f"{pipeline}.yaml"
    if os.environ.get("GOLDEN") == "write":
        kept.write_text(made)
    assert made == kept.read_text(), f"{kept.name} is another now; see the head of this file"
