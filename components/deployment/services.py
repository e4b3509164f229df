"""InferenceServices on a cluster's API server, and in which of its two modes KServe runs them there."""

import json
import time
from typing import NamedTuple, Self

from kubernetes.client import ApiException, V1DeleteOptions, V1Preconditions

from components.apiserver import ApiServer, Manifest
from components.errors import ClusterError, DeploymentError

VERSION, KIND, PLURAL = "serving.kserve.io/v1beta1", "InferenceService", "inferenceservices"
MODE_ANNOTATION = "serving.kserve.io/deploymentMode"
_CONFIGURATION = ("kserve", "inferenceservice-config")
_KNATIVE_GROUP = "serving.knative.dev"
# KServe 0.16 renamed its modes; a webhook refuses a change from one name to another.
_KNATIVE, _STANDARD = ("Knative", "Serverless"), ("Standard", "RawDeployment")


class Mode(NamedTuple):
    """How KServe runs an InferenceService.

    Attributes:
        knative: Whether by Knative, which splits requests between revisions; else by plain Deployments.
        spelling: What this KServe calls it.
    """

    knative: bool
    spelling: str

    @classmethod
    def of(cls, spelling: str) -> Self | None:
        """Read KServe's name of a mode; None for one that serves no models of ours."""
        return cls(spelling in _KNATIVE, spelling) if spelling in (*_KNATIVE, *_STANDARD) else None

    @classmethod
    def named(cls, knative: bool) -> Self:
        """Give a mode by the name that KServe has for it since 0.16."""
        return cls(knative, (_KNATIVE if knative else _STANDARD)[0])


class InferenceServices(ApiServer):
    """The InferenceServices of a namespace; every method raises ``ClusterError`` where the API server refuses."""

    def read(self, name: str) -> Manifest | None:
        """Give an InferenceService, None if there is none."""
        return self.get(PLURAL, VERSION, name)

    def replace(self, manifest: Manifest) -> Manifest | None:
        """Put another in the place of one; None if that was changed since its ``resourceVersion``, or deleted."""
        name, replace = manifest["metadata"]["name"], self._objects.replace_namespaced_custom_object
        where = {**self._place(PLURAL, VERSION), "name": name, "field_validation": "Strict"}
        return self._ask(f"replace {PLURAL}/{name}", lambda: replace(**where, body=manifest), {404, 409})

    def remove(self, name: str, seconds: float = 60.0) -> None:
        """Delete one, if it is there, and wait until it is gone: KServe may have to clear up first.

        Args:
            name: Of the InferenceService.
            seconds: That are waited.

        Raises:
            DeploymentError: if it is still there then.
        """
        deadline, asked = time.monotonic() + seconds, False
        while (found := self.read(name)) is not None:
            if not asked:
                self._delete(name, found["metadata"]["uid"])
                asked = True
                continue
            if time.monotonic() > deadline:
                raise DeploymentError(
                    f"{PLURAL}/{name} was deleted {seconds:g} s ago and is still there; see what its finalizers "
                    "wait for"
                )
            time.sleep(0.5)

    def _delete(self, name: str, uid: str) -> None:
        options = V1DeleteOptions(propagation_policy="Background", preconditions=V1Preconditions(uid=uid))
        delete, where = self._objects.delete_namespaced_custom_object, self._place(PLURAL, VERSION)
        self._ask(f"delete {PLURAL}/{name}", lambda: delete(**where, name=name, body=options), {404, 409})

    def mode(self, wished: str, found: Manifest | None) -> Mode:
        """Tell in which mode an InferenceService runs, or will.

        Args:
            wished: ``auto``, ``knative`` or ``standard``.
            found: The InferenceService, where there is one: KServe does not change its mode.

        Raises:
            DeploymentError: if it runs in another than what is wished.
        """
        status = (found or {}).get("status", {}).get("deploymentMode", "")
        runs = Mode.of(status)
        if found is not None and status and runs is None:
            raise DeploymentError(
                f"{PLURAL}/{found['metadata']['name']} runs in mode {status}, which runs no container; delete it"
            )
        if runs is None:
            return self._usual() if wished == "auto" else Mode.named(wished == "knative")
        if wished != "auto" and runs.knative != (wished == "knative"):
            raise DeploymentError(
                f"rollout.mode is {wished}, but the InferenceService runs in mode {runs.spelling}, which KServe never "
                "changes; set it to auto, or delete the InferenceService"
            )
        return runs

    def _usual(self) -> Mode:
        """Give the mode that KServe takes where none is named, if what it needs is there."""
        usual, knative = self._default(), self._has_knative()
        if usual is None:
            return Mode.named(knative)
        return usual if knative or not usual.knative else Mode.named(False)

    def _default(self) -> Mode | None:
        namespace, name = _CONFIGURATION
        try:
            found = self._ask(f"get {name}", lambda: self._core.read_namespaced_config_map(name, namespace), {404})
        except ClusterError:
            return None  # the account may not read it, and need not
        try:
            return Mode.of(json.loads(found.data["deploy"])["defaultDeploymentMode"]) if found else None
        except (KeyError, TypeError, ValueError):
            return None

    def _has_knative(self) -> bool:
        def asked() -> bool:
            try:
                self._api.call_api(
                    f"/apis/{_KNATIVE_GROUP}", "GET", auth_settings=["BearerToken"], response_type="object"
                )
            except ApiException as error:
                if error.status == 404:
                    return False
                raise
            return True

        return bool(self._ask(f"look for {_KNATIVE_GROUP}", asked, set()))
