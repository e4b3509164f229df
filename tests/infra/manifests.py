"""What kustomize makes of infra/kubernetes."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

KUBERNETES = Path(__file__).parents[2] / "infra" / "kubernetes"
WHOLE = ("overlays/dev", "overlays/production", "schema")
Manifest = dict[str, Any]


def render(folder: Path) -> list[Manifest]:
    """Give the objects of a kustomization."""
    command = [Path(sys.executable).with_name("kubectl"), "kustomize", folder]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return [document for document in yaml.safe_load_all(done.stdout) if document]


def render_overlay(name: str) -> list[Manifest]:
    """Give the objects of one of the overlays, as they are."""
    return render(KUBERNETES / "overlays" / name)


def render_changed(name: str, folder: Path, **changes: Any) -> list[Manifest]:
    """Give the objects of an overlay with changes laid over it, as an operator would.

    Args:
        name: Of the overlay.
        folder: For the kustomization that is laid over it.
        changes: Fields of that kustomization.
    """
    folder.mkdir(exist_ok=True)
    base = os.path.relpath(KUBERNETES / "overlays" / name, folder.resolve())
    kind = {"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization"}
    (folder / "kustomization.yaml").write_text(yaml.safe_dump({**kind, "resources": [base], **changes}))
    return render(folder)


def pod_templates(manifests: list[Manifest]) -> Iterator[tuple[str, Manifest]]:
    """Give the pod templates of all workloads, a TrainingRuntime's and a ServingRuntime's included, by their names."""
    for each in manifests:
        name, spec = f"{each['kind']}/{each['metadata']['name']}", each.get("spec", {})
        if each["kind"] in ("Deployment", "StatefulSet", "Job"):
            yield name, spec["template"]
        elif each["kind"] == "TrainingRuntime":
            for job in spec["template"]["spec"]["replicatedJobs"]:
                yield name, job["template"]["spec"]["template"]
        elif each["kind"] == "ServingRuntime":
            yield name, {"metadata": {}, "spec": spec}
