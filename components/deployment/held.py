"""An InferenceService while a rollout changes it: written only as it was read, and read back after each write."""

from components.apiserver import Manifest
from components.deployment.manifest import release_of
from components.deployment.observed import Observed, differences, observe
from components.deployment.services import PLURAL, InferenceServices
from components.errors import DeploymentError, RolloutLost

_ATTEMPTS = 20
_MERGED = ("labels", "annotations")  # others write into these, too


class Held:
    """One InferenceService, of which a rollout knows what it wrote last.

    Args:
        services: The API server.
        name: Of the InferenceService.
        found: As it was read before the first change; None where there was none.

    Attributes:
        before: What it said of itself then.
        existed: Whether there was one.
        release: URI of the release that it then was to serve; None where there was none.
        share: Percent of the requests that this release then was to get; None for all.
        written: Whether anything was written since.
    """

    def __init__(self, services: InferenceServices, name: str, found: Manifest | None) -> None:
        self._services = services
        self._found = found
        self.name = name
        self.before = observe(found or {})
        self.written = False
        self.existed = found is not None
        self.release = release_of(found or {})
        self.share = _share(found or {})
        # What it must still be, for this rollout to go on.
        self._expected: Manifest | None = found and {"spec": found["spec"]}

    def put(self, manifest: Manifest) -> None:
        """Create it, or put this in its place; what others wrote into its metadata stays.

        Raises:
            ClusterError: if the API server refuses.
            DeploymentError: if the API server did not keep a field as it was written.
            RolloutLost: if somebody else changed or deleted it since.
        """
        self.written = True
        kept = self._create(manifest) if self._expected is None else self._replace(manifest)
        if kept is None:
            raise RolloutLost(f"{PLURAL}/{self.name} was created by somebody else just now; look at it, then try again")
        lost = differences(manifest["spec"], kept["spec"], "spec")
        if lost:
            raise DeploymentError(
                f"the API server did not keep {lost[0]} of {PLURAL}/{self.name} as it was written; install a KServe "
                "that knows it"
            )
        self._expected = manifest

    def as_found(self, percent: int | None) -> Manifest | None:
        """Give it as it was before the first change, but for its share of the requests; None where there was none."""
        if self._found is None:
            return None
        metadata, predictor = self._found["metadata"], dict(self._found["spec"]["predictor"])
        predictor.pop("canaryTrafficPercent", None)
        if percent is not None:
            predictor["canaryTrafficPercent"] = percent
        return {
            "apiVersion": self._found["apiVersion"],
            "kind": self._found["kind"],
            "metadata": {"name": self.name, **{key: metadata.get(key) or {} for key in _MERGED}},
            "spec": {**self._found["spec"], "predictor": predictor},
        }

    def look(self) -> Observed:
        """Read it.

        Raises:
            RolloutLost: if somebody else changed or deleted it since it was written.
        """
        return observe(self._read())

    def delete(self) -> None:
        """Delete it, if it is there."""
        self._services.remove(self.name)
        self._expected = None

    def _create(self, manifest: Manifest) -> Manifest | None:
        kept = self._services.create(PLURAL, manifest)
        return self._own(manifest) if kept is None else kept

    def _own(self, manifest: Manifest) -> Manifest | None:
        """Give what is there if it is what was written: the answer to a write may have been lost, not the write."""
        found = self._services.read(self.name)
        if found is None or found["metadata"].get("deletionTimestamp") or _share(found) != _share(manifest):
            return None
        metadata = {key: manifest["metadata"][key] for key in _MERGED}
        same = not differences(manifest["spec"], found["spec"]) and not differences(metadata, found["metadata"])
        return found if same else None

    def _replace(self, manifest: Manifest) -> Manifest | None:
        for _ in range(_ATTEMPTS):
            found = self._read()
            metadata, own = found["metadata"], manifest["metadata"]
            merged = {key: {**metadata.get(key, {}), **own[key]} for key in _MERGED}
            kept = self._services.replace({**manifest, "metadata": {**metadata, **merged}})
            kept = self._own(manifest) if kept is None else kept
            if kept is not None:
                return kept
            # Its status was written meanwhile, or it was changed or deleted, which the next reading tells.
        raise RolloutLost(
            f"{PLURAL}/{self.name} is changed by somebody all the time; see which controllers write to it"
        )

    def _read(self) -> Manifest:
        found = self._services.read(self.name)
        if found is None or found["metadata"].get("deletionTimestamp"):
            raise RolloutLost(f"{PLURAL}/{self.name} was deleted while it was rolled out to; roll out again to make it")
        expected = self._expected or {}
        changed = differences(expected.get("spec", {}), found["spec"], "spec")
        if not changed and _share(expected) != _share(found):
            changed = ["spec.predictor.canaryTrafficPercent"]
        if changed:
            raise RolloutLost(
                f"{changed[0]} of {PLURAL}/{self.name} was changed by another writer{_whose(found)} while it was "
                "rolled out to; agree on who deploys, then roll out again"
            )
        return found


def _share(manifest: Manifest) -> int | None:
    share: int | None = manifest.get("spec", {}).get("predictor", {}).get("canaryTrafficPercent")
    return share


def _whose(found: Manifest) -> str:
    """Say who changed the specification last, as far as the API server tells."""
    told = [each for each in found["metadata"].get("managedFields", []) if "f:spec" in each.get("fieldsV1", {})]
    last = max(told, key=lambda each: str(each.get("time", "")), default=None)
    return f" ('{last['manager']}')" if last else ""
