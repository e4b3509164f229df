"""Compiling the pipelines to KFP's intermediate representation."""

from pathlib import Path
from typing import Any

from components.errors import InputError


def compile_train(output: Path) -> None:
    """Write the training pipeline as YAML.

    Raises:
        InputError: if the file's name does not end as KFP requires, or it cannot be written.
    """
    from pipelines.train import train_pipeline

    _compile(train_pipeline, output)


def compile_retrain(output: Path) -> None:
    """Write the retraining pipeline as YAML; see ``compile_train``."""
    from pipelines.retrain import retrain_pipeline

    _compile(retrain_pipeline, output)


def _compile(pipeline: Any, output: Path) -> None:
    if output.suffix not in {".yaml", ".yml", ".json"}:
        raise InputError(f"--output '{output}' must end in .yaml, .yml or .json")
    from kfp import compiler

    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        compiler.Compiler().compile(pipeline, str(output))
    except OSError as error:
        raise InputError(f"--output '{output}' cannot be written: {error.strerror}") from error
