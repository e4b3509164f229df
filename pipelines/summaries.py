"""The one thing that a person wants to know of each finished step."""

from collections.abc import Callable, Mapping
from typing import Any

Result = Mapping[str, Any]


def summary(event: Mapping[str, Any]) -> str:
    """Say what came of a step, from the event that ended it; that of a step far away may be without a result."""
    say = _SUMMARIES.get(event["step"])
    return say(event["result"]) if say and event["result"] else ""


def _validated(result: Result) -> str:
    return f"{result['accepted']} fit for use, {sum(result['quarantined'].values())} quarantined"


def _divided(result: Result) -> str:
    return ", ".join(f"{part} {sum(counts.values())}" for part, counts in result["counts"].items())


def _searched(result: Result) -> str:
    earlier = f", after {result['earlier']} earlier ones" if result.get("earlier") else ""
    return f"{result['trials']} trials{earlier}, best learning rate {result['best_lr']:.2e}"


def _trained(result: Result) -> str:
    starts = result.get("starts", {})
    start = f", started from {result['start']}" if len(starts) > 1 else ""
    return f"{result['epochs']} epochs, best {result['best_epoch']}{start}"


def _evaluated(result: Result) -> str:
    if "recall" not in result:
        return f"test accuracy {result['accuracy']:.3f} on {result['n']} images"
    named = (("test recall", result["recall"]), ("false discoveries", result["false_discovery_rate"]))
    found = ", ".join(f"{name} {'-' if value is None else format(value, '.3f')}" for name, value in named)
    return f"{found} on {result['n']} images"


def _polled(result: Result) -> str:
    if result["found"]:
        return f"batch {result['batch']}, attempt {result['attempt']}"
    waiting = f", {len(result['waiting'])} not complete yet" if result["waiting"] else ""
    return f"nothing new{waiting}"


def _taken_in(result: Result) -> str:
    return f"{result['images']} images, {result['accepted']} fit for use, {result['unlabelled']} without a label"


def _screened(result: Result) -> str:
    drifted = (result.get("drift") or {}).get("drifted")
    told = "; it looks different from the images before" if drifted else ""
    reasons = "".join(f"; {reason}" for reason in result["reasons"])
    return f"{result['verdict']}{told}{reasons}"


def _led(result: Result) -> str:
    return f"version {result['version']}" if result["version"] else "none yet"


def _promoted(result: Result) -> str:
    return "passed the gate" if result["passed"] else "refused by the gate"


_SUMMARIES: dict[str, Callable[[Result], str]] = {
    "snapshot": lambda result: (
        f"{result['images']} images, {result['new_images']} new, version {result['data_version'][:12]}"
    ),
    "validate": _validated,
    "split": _divided,
    "search": _searched,
    "train": _trained,
    "evaluate": _evaluated,
    "register": lambda result: f"{result['name']} version {result['version']}",
    "promote": _promoted,
    "deploy": lambda result: str(result["url"]),
    "poll": _polled,
    "intake": _taken_in,
    "screen": _screened,
    "admit": lambda result: f"{result['new_images']} images more, {result['images']} in lineage {result['ref']}",
    "champion": _led,
    "conclude": lambda result: str(result["ended"]),
}
