"""What an InferenceService's status says, and whether its specification is still what was written."""

from dataclasses import dataclass
from typing import Any

from components.apiserver import Manifest

_FAILED = ("BlockedByFailedLoad", "InvalidSpec")


@dataclass(frozen=True)
class Observed:
    """What the controller wrote last; it may be of an older specification.

    Attributes:
        mode: What KServe calls the mode that it runs in; None where it does not tell.
        ready: Whether all is ready.
        problem: What is not, in the controller's words; None where nothing is told.
        failure: Why the models cannot be loaded, or the container does not stay up; None where nothing is told.
        inside: URL within the cluster.
        outside: URL from outside.
        created: Newest revision, with Knative.
        rolled_out: Revision that got all requests last, with Knative.
        percent: Share of the requests that the newest revision gets, with Knative; None where it is not told.
    """

    mode: str | None
    ready: bool
    problem: str | None
    failure: str | None
    inside: str | None
    outside: str | None
    created: str | None
    rolled_out: str | None
    percent: int | None


def observe(manifest: Manifest) -> Observed:
    """Read the status of an InferenceService."""
    status = manifest.get("status") or {}
    predictor = (status.get("components") or {}).get("predictor") or {}
    conditions = {each["type"]: each for each in status.get("conditions") or []}
    newest = predictor.get("latestReadyRevision")
    return Observed(
        mode=status.get("deploymentMode") or None,
        ready=conditions.get("Ready", {}).get("status") == "True",
        problem=_problem(conditions),
        failure=_failure(status.get("modelStatus") or {}),
        inside=(status.get("address") or {}).get("url"),
        outside=status.get("url"),
        created=predictor.get("latestCreatedRevision"),
        rolled_out=predictor.get("latestRolledoutRevision"),
        percent=_percent(predictor.get("traffic") or [], newest)
        if newest == predictor.get("latestCreatedRevision")
        else None,
    )


def differences(wanted: Any, found: Any, place: str = "") -> list[str]:
    """Name the fields that are not as they were written; what was added to them, as a webhook does, is none."""
    if isinstance(wanted, dict) and isinstance(found, dict):
        return [
            each
            for key, value in wanted.items()
            for each in differences(value, found.get(key), f"{place}.{key}" if place else key)
        ]
    if isinstance(wanted, list) and isinstance(found, list) and len(wanted) == len(found):
        pairs = enumerate(zip(wanted, found, strict=True))
        return [each for index, pair in pairs for each in differences(*pair, f"{place}[{index}]")]
    return [] if wanted == found else [place]


def _problem(conditions: dict[str, Manifest]) -> str | None:
    told = [
        f"{name}: {each.get('reason') or 'no reason'}{_message(each)}"
        for name, each in sorted(conditions.items())
        if each.get("status") == "False" and each.get("severity") != "Info"
    ]
    return "; ".join(told) or None


def _message(condition: Manifest) -> str:
    message = " ".join(str(condition.get("message") or "").split())
    return f" ({message[:300]})" if message else ""


def _failure(model: Manifest) -> str | None:
    if model.get("transitionStatus") not in _FAILED:
        return None
    info = model.get("lastFailureInfo") or {}
    code = f", exit code {info['exitCode']}" if "exitCode" in info else ""
    message = " ".join(str(info.get("message") or "no message").split())[:300]
    return f"{info.get('reason') or model['transitionStatus']}{code}: {message}"


def _percent(traffic: list[Manifest], newest: str | None) -> int | None:
    """Sum what the newest revision gets; it stands twice where two tags name it."""
    own = [each.get("percent") or 0 for each in traffic if each.get("latestRevision") or each["revisionName"] == newest]
    return sum(own) if own else None
