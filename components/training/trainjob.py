"""The TrainJob of a training, as Kubeflow Trainer reads it; nothing in it holds a secret.

Trainer gives each pod its place (``PET_NNODES``, ``PET_MASTER_ADDR``...), which torchrun reads as its options, and
names the pods' job and container ``node``.
"""

import hashlib
import json
import os
import re

from components.apiserver import Manifest, own_namespace
from components.events import EVENTS_VARIABLE, STANDARD_ERROR
from components.images import TRAIN
from components.patience import RUN_VARIABLE
from components.trainer import Launching
from components.training.torchrun import REJOINING

VERSION, PLURAL, NODE = "trainer.kubeflow.org/v1alpha1", "trainjobs", "node"
MANAGER, MADE_BY = "app.kubernetes.io/managed-by", "mscflow"
SPEC = "mscflow.dev/spec"
RUN = "mscflow.dev/run"

_CONFIG = {"MSCFLOW_STORE": False, "MSCFLOW_TRACKING_URI": False, "AWS_ENDPOINT_URL": True, "AWS_DEFAULT_REGION": True}
_STORAGE = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
_TRACKING = ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD")
_USER, _GROUP = 10001, 0
# A pod that was lost needs a place, and its image, before the others can go on with it.
_RENDEZVOUS_SECONDS = 900
_RESTARTS = 3


def name_of(training_id: str) -> str:
    """Name the TrainJob of a training; equal trainings have the same."""
    return f"{MADE_BY}-{training_id}"


def of_run(run: str) -> str:
    """Give the label selector of the TrainJobs of a pipeline run."""
    return f"{MANAGER}={MADE_BY},{RUN}={_label(run)}"


def trainjob(training_id: str, uri: str, processes: int, launching: Launching) -> Manifest:
    """Give the TrainJob of a training.

    Args:
        training_id: As ``StoredTraining`` names it.
        uri: Of its job.
        processes: Of each pod that has no GPU; others have one a GPU.
        launching: What the pods get.
    """
    spec = _spec(training_id, uri, launching.gpus or processes, launching)
    labels = {MANAGER: MADE_BY, "mscflow.dev/training": training_id}
    if run := os.environ.get(RUN_VARIABLE):
        labels[RUN] = _label(run)
    metadata = {
        "name": name_of(training_id),
        "namespace": launching.namespace,
        "labels": labels,
        "annotations": {SPEC: _digest(spec)},
        "ownerReferences": _owners(launching.namespace),
    }
    return {"apiVersion": VERSION, "kind": "TrainJob", "metadata": metadata, "spec": spec}


def _digest(spec: Manifest) -> str:
    """Give what two TrainJobs that were made alike, by whichever run, have in common."""
    environment = [each for each in spec["trainer"]["env"] if each["name"] != RUN_VARIABLE]
    alike = {**spec, "trainer": {**spec["trainer"], "env": environment}}
    return hashlib.sha256(json.dumps(alike, sort_keys=True).encode()).hexdigest()


def _label(run: str) -> str:
    """Make the value of a label: 63 characters, the last of them a letter or a digit."""
    return re.sub(r"[^A-Za-z0-9]+$", "", run[:63])


def _owners(namespace: str) -> list[Manifest]:
    """Name the step's own pod, with which the TrainJob goes if nobody is left to take it away."""
    name, uid = os.environ.get("KFP_POD_NAME"), os.environ.get("KFP_POD_UID")
    # What belongs to a pod of another namespace is taken away at once.
    if not name or not uid or own_namespace() != namespace:
        return []
    return [{"apiVersion": "v1", "kind": "Pod", "name": name, "uid": uid}]


def _spec(training_id: str, uri: str, processes: int, launching: Launching) -> Manifest:
    return {
        "runtimeRef": {"name": launching.runtime, "kind": launching.runtime_kind},
        "activeDeadlineSeconds": launching.train_timeout,
        "trainer": {
            "image": launching.image or TRAIN,
            "command": ["python", "-m", "torch.distributed.run"],
            "args": [*_torchrun(training_id, processes), "--module", "components.training", f"--job={uri}"],
            "env": _environment(launching),
            "numNodes": launching.workers,
            "numProcPerNode": processes,
            "resourcesPerNode": _resources(launching),
        },
        "runtimePatches": [{"manager": "mscflow.dev/train-step", "trainingRuntimeSpec": _patch(launching)}],
    }


def _torchrun(training_id: str, processes: int) -> list[str]:
    # By c10d, a pod that comes back joins the others again; Kubernetes puts the address in.
    return [
        f"--nproc-per-node={processes}",
        "--rdzv-backend=c10d",
        f"--rdzv-id={training_id}",
        "--rdzv-endpoint=$(PET_MASTER_ADDR):$(PET_MASTER_PORT)",
        f"--rdzv-conf=join_timeout={_RENDEZVOUS_SECONDS}",
        f"--max-restarts={_RESTARTS}",
    ]


def _environment(launching: Launching) -> list[Manifest]:
    plain = {"HOME": "/tmp", "MSCFLOW_HOME": "/tmp/mscflow", EVENTS_VARIABLE: STANDARD_ERROR, "GOMP_SPINCOUNT": "1000"}  # noqa: S108
    plain |= REJOINING
    if run := os.environ.get(RUN_VARIABLE):
        plain[RUN_VARIABLE] = run
    held = [
        *((key, "configMapKeyRef", launching.config_map, optional) for key, optional in _CONFIG.items()),
        # Without keys the pods are who their ServiceAccount is in the cloud; where that will not do, the store says so.
        *((key, "secretKeyRef", launching.storage_secret, True) for key in _STORAGE),
        *((key, "secretKeyRef", launching.tracking_secret, True) for key in _TRACKING),
    ]
    return [{"name": name, "value": value} for name, value in plain.items()] + [
        {"name": key, "valueFrom": {kind: {"name": holder, "key": key, "optional": optional}}}
        for key, kind, holder, optional in held
    ]


def _resources(launching: Launching) -> Manifest:
    amounts = {"cpu": launching.cpu, "memory": launching.memory}
    if launching.gpus:
        amounts[launching.gpu_type] = str(launching.gpus)
    return {"requests": amounts, "limits": amounts}


def _patch(launching: Launching) -> Manifest:
    volumes = {
        "tmp": ("/tmp", {"sizeLimit": launching.temporary}),  # noqa: S108
        # What processes of one pod hand each other is larger than the 64 MiB of a container's own.
        "shared-memory": ("/dev/shm", {"medium": "Memory", "sizeLimit": launching.shared_memory}),  # noqa: S108
    }
    container = {
        "name": NODE,
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [{"name": name, "mountPath": path} for name, (path, _) in volumes.items()],
    }
    pod = {
        "containers": [container],
        "volumes": [{"name": name, "emptyDir": how} for name, (_, how) in volumes.items()],
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": _USER,
            "runAsGroup": _GROUP,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "nodeSelector": launching.nodes,
        "tolerations": list(launching.tolerations),
    }
    jobs = [{"name": NODE, "template": {"spec": {"template": {"spec": pod}}}}]
    return {"template": {"spec": {"replicatedJobs": jobs}}}
