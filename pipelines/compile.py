"""Compiling the pipelines to KFP's intermediate representation."""

from pathlib import Path

from components.errors import InputError


def compile_train(output: Path) -> None:
    """Write the training pipeline as YAML.

    Raises:
        InputError: if the file's name does not end as KFP requires, or it cannot be written.
    """
    if output.suffix not in {".yaml", ".yml", ".json"}:
        raise InputError(f"--output '{output}' must end in .yaml, .yml or .json")
    from kfp import compiler

    from pipelines.train import train_pipeline

    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        compiler.Compiler().compile(train_pipeline, str(output))
    except OSError as error:
        raise InputError(f"--output '{output}' cannot be written: {error.strerror}") from error
