"""Compiling the pipelines to what Kubeflow Pipelines runs."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from components.cluster import ClusterSettings
from components.errors import InputError
from components.images import CONTROL, TRAIN

PIPELINES = ("train", "retrain", "study")


def compile_pipeline(
    name: str, output: Path, cluster: ClusterSettings | None = None, images: Mapping[str, str] | None = None
) -> list[str]:
    """Write a pipeline as YAML, with all that its steps need on a cluster.

    Args:
        name: One of ``PIPELINES``.
        output: The file.
        cluster: How its steps run; the defaults where nothing is given.
        images: References to put in the place of ``train`` and ``control``, best by digest.

    Returns:
        The images that it runs in.

    Raises:
        InputError: if the file's name does not end as KFP requires, or it cannot be written.
    """
    from kfp.compiler.pipeline_spec_builder import write_pipeline_spec_to_file

    from pipelines.cluster.ending import with_end
    from pipelines.cluster.equipment import equip, images_of, put_images
    from pipelines.cluster.labels import relabel

    if output.suffix not in {".yaml", ".yml"}:
        raise InputError(f"--output '{output}' must end in .yaml or .yml")
    how = cluster or ClusterSettings()
    made = with_end(_pipeline(name), how)
    spec, platform = made.pipeline_spec, made.platform_spec
    relabel(spec)
    equip(spec, platform, how)
    given = images or {}
    put_images(spec, {TRAIN: given.get("train", TRAIN), CONTROL: given.get("control", CONTROL)})
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        write_pipeline_spec_to_file(spec, made.description, platform, str(output))
    except OSError as error:
        raise InputError(f"--output '{output}' cannot be written: {error.strerror}") from error
    return images_of(spec)


def is_mutable(image: str) -> bool:
    """Whether an image's reference may name other bytes tomorrow; KFP's cache and its retries would not notice."""
    return "@sha256:" not in image


def _pipeline(name: str) -> Any:
    if name == "train":
        from pipelines.train import train_pipeline

        return train_pipeline
    if name == "retrain":
        from pipelines.retrain import retrain_pipeline

        return retrain_pipeline
    if name == "study":
        from pipelines.study.definition import study_pipeline

        return study_pipeline
    raise InputError(f"'{name}' is not a pipeline; take one of {', '.join(PIPELINES)}")
