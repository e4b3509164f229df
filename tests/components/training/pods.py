"""The part of Kubeflow Trainer on the small cluster: it makes a TrainJob's pods and writes what becomes of them.

Trainer leaves pods to JobSet, which gives each a name in the cluster's DNS. Here there is neither: each pod is a Job of
its own, and is told the address of the first.
"""

import copy
import tarfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import yaml
from kubernetes import client
from kubernetes.client import ApiClient, ApiException

from tests.components.training.conductor import until
from tests.containers import ROOT, TOOLS
from tests.kubernetes import SmallCluster

GROUP, VERSION, PLURAL = "trainer.kubeflow.org", "v1alpha1", "trainjobs"
PORT = 29500
RUNTIME = Path(ROOT, "infra/kubernetes/components/trainer/runtime.yaml")

Manifest = dict[str, Any]


@contextmanager
def installed(cluster: SmallCluster) -> Iterator[None]:
    """Have the cluster know TrainJobs; it forgets them if it did not know them before."""
    name = f"crd/{PLURAL}.{GROUP}"
    with tarfile.open(TOOLS / "crds.tar.xz") as archive:
        (member,) = [each for each in archive if each.name.endswith(f"{PLURAL}.yaml")]
        file = archive.extractfile(member)
        assert file is not None
        definition = file.read().decode()
    known = name.split("/")[1] in cluster.kubectl("get", "crd", "--output=name")
    try:
        if not known:
            # This old server does not know the rules that the definition holds beside its schema, and leaves them out.
            cluster.kubectl("create", "--validate=false", "--filename=-", given=definition)
        asked = "--output=jsonpath={.status.conditions[?(@.type=='Established')].status}"
        # Until there is a first condition, kubectl fails at looking for one.
        until(lambda: cluster.kubectl("get", name, asked, check=False) == "True")
        yield
    finally:
        if not known:
            cluster.kubectl("delete", name, check=False)


class Pods(threading.Thread):
    """Runs the pods of each TrainJob of a namespace.

    Args:
        api: Of the small cluster.
        namespace: Of the TrainJobs.
    """

    def __init__(self, api: ApiClient, namespace: str) -> None:
        super().__init__(daemon=True)
        self.namespace = namespace
        self._custom = client.CustomObjectsApi(api)
        self._batch, self._core = client.BatchV1Api(api), client.CoreV1Api(api)
        self._over, self._begun = threading.Event(), set[str]()

    def __enter__(self) -> "Pods":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self.join(timeout=60)

    def run(self) -> None:
        while not self._over.wait(0.3):
            # What is deleted goes between a look and a deed; the next look tells.
            with suppress(ApiException):
                for job in self.jobs():
                    if "deletionTimestamp" not in job["metadata"]:
                        self._see(job)

    def jobs(self) -> list[Manifest]:
        """Give the TrainJobs."""
        found = self._custom.list_namespaced_custom_object(GROUP, VERSION, self.namespace, PLURAL)
        return list(found["items"])

    def names(self) -> list[str]:
        """Give the names of the pods."""
        return [pod.metadata.name for pod in self._core.list_namespaced_pod(self.namespace).items]

    def delete(self, index: int) -> None:
        """Take a pod away at once, as where its node is lost."""
        (pod,) = self._of(index)
        self._core.delete_namespaced_pod(pod.metadata.name, self.namespace, grace_period_seconds=0)

    def _of(self, index: int) -> list[Any]:
        labels = f"batch.kubernetes.io/job-completion-index={index}"
        return list(self._core.list_namespaced_pod(self.namespace, label_selector=labels).items)

    def _see(self, job: Manifest) -> None:
        if job["metadata"]["uid"] not in self._begun:
            self._begun.add(job["metadata"]["uid"])
            self._start(job, 0, "")
            first = self._address()
            for index in range(1, job["spec"]["trainer"]["numNodes"]):
                self._start(job, index, first)
        else:
            self._tell(job)

    def _address(self) -> str:
        while not self._over.wait(0.2):
            if (pods := self._of(0)) and pods[0].status.pod_ip:
                return str(pods[0].status.pod_ip)
        return ""

    def _start(self, job: Manifest, index: int, first: str) -> None:
        name = job["metadata"]["name"]
        labels = {
            "jobset.sigs.k8s.io/jobset-name": name,
            "jobset.sigs.k8s.io/replicatedjob-name": "node",
            "batch.kubernetes.io/job-completion-index": str(index),
        }
        owner = {"apiVersion": f"{GROUP}/{VERSION}", "kind": "TrainJob", "name": name, "uid": job["metadata"]["uid"]}
        template = {"metadata": {"labels": labels}, "spec": _pod(job, index, first)}
        made = {
            "metadata": {"name": _host(job, index), "ownerReferences": [{**owner, "blockOwnerDeletion": True}]},
            "spec": {"backoffLimit": _runtime()["backoffLimit"], "template": template},
        }
        self._batch.create_namespaced_job(self.namespace, made)

    def _tell(self, job: Manifest) -> None:
        count, name = job["spec"]["trainer"]["numNodes"], job["metadata"]["name"]
        jobs = [self._batch.read_namespaced_job(_host(job, index), self.namespace).status for index in range(count)]
        ended = [condition.type for status in jobs for condition in status.conditions or ()]
        succeeded, failed = ended.count("Complete"), ended.count("Failed")
        ready = sum(pod.status.phase == "Running" for index in range(count) for pod in self._of(index))
        counts = {"active": count - succeeded, "ready": ready, "succeeded": succeeded, "failed": failed, "suspended": 0}
        status: Manifest = {"jobsStatus": [{"name": "node", **counts}]}
        if failed or succeeded == count:
            kind = "Failed" if failed else "Complete"
            now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
            told = {"type": kind, "status": "True", "reason": "JobsEnded", "message": "", "lastTransitionTime": now}
            status["conditions"] = [told]
        self._custom.patch_namespaced_custom_object_status(
            GROUP, VERSION, self.namespace, PLURAL, name, {"status": status}
        )


def _host(job: Manifest, index: int) -> str:
    return f"{job['metadata']['name']}-node-0-{index}"


def _pod(job: Manifest, index: int, first: str) -> Manifest:
    """Give a pod as the TrainJob's trainer and patches say it."""
    trainer, (patch,) = job["spec"]["trainer"], job["spec"]["runtimePatches"]
    (of_nodes,) = patch["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"]
    pod: Manifest = copy.deepcopy(of_nodes["template"]["spec"]["template"]["spec"])
    place = {
        "PET_NNODES": trainer["numNodes"],
        "PET_NPROC_PER_NODE": trainer["numProcPerNode"],
        "PET_NODE_RANK": index,
        "PET_MASTER_ADDR": _host(job, 0),
        "PET_MASTER_PORT": PORT,
    }
    given = [{"name": name, "value": str(value)} for name, value in place.items()]
    pod["containers"][0] |= {
        "image": trainer["image"],
        "imagePullPolicy": "IfNotPresent",
        "command": trainer["command"],
        "args": trainer["args"],
        "env": given + trainer["env"],
        # Little is asked for, as pods of other tests, which are still ending, count.
        "resources": {"limits": trainer["resourcesPerNode"]["limits"], "requests": {"cpu": "100m"}},
    }
    names = [{"ip": first, "hostnames": [_host(job, 0)]}] if first else []
    policy = _runtime()["template"]["spec"]["restartPolicy"]
    return {**pod, "hostname": _host(job, index), "hostAliases": names, "restartPolicy": policy}


def _runtime() -> Manifest:
    """Give what our own runtime says of each Job."""
    (of_nodes,) = yaml.safe_load(RUNTIME.read_text())["spec"]["template"]["spec"]["replicatedJobs"]
    said: Manifest = of_nodes["template"]["spec"]
    return said


def manifests(variables: dict[str, str]) -> list[Manifest]:
    """Give the config map and the secret that a TrainJob refers to."""
    secret = {name: value for name, value in variables.items() if name.startswith("AWS_") and "KEY" in name}
    config = {name: variables[name] for name in ("AWS_ENDPOINT_URL", "AWS_DEFAULT_REGION")}
    config |= {"MSCFLOW_STORE": "s3://fits/store", "MSCFLOW_TRACKING_URI": "http://127.0.0.1:1"}
    text = f"""
apiVersion: v1
kind: ConfigMap
metadata: {{name: mscflow}}
data: {config}
---
apiVersion: v1
kind: Secret
metadata: {{name: mscflow-s3}}
stringData: {secret}
"""
    return list(yaml.safe_load_all(text))
