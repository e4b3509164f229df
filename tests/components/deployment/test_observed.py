from typing import Any

from components.deployment.observed import differences, observe


def status(**predictor: Any) -> dict[str, Any]:
    return {"status": {"components": {"predictor": predictor}}}


def test_an_inferenceservice_that_no_controller_saw_tells_nothing() -> None:
    found = observe({"spec": {}})
    assert (found.ready, found.problem, found.failure, found.inside, found.percent) == (False, None, None, None, None)


def test_the_share_is_that_of_the_newest_revision_once_it_is_ready() -> None:
    traffic = [
        {"latestRevision": True, "percent": 20, "revisionName": "r2"},
        {"latestRevision": False, "percent": 80, "revisionName": "r1"},
    ]
    assert observe(status(latestCreatedRevision="r2", latestReadyRevision="r2", traffic=traffic)).percent == 20
    assert observe(status(latestCreatedRevision="r3", latestReadyRevision="r2", traffic=traffic)).percent is None


def test_what_is_not_ready_is_told_with_its_reason() -> None:
    conditions = [
        {"type": "Ready", "status": "False", "reason": "PredictorNotReady"},
        {"type": "PredictorReady", "status": "False", "reason": "RevisionFailed", "message": "no node\n has room"},
        {"type": "IngressReady", "status": "True"},
    ]
    found = observe({"status": {"conditions": conditions}})
    assert not found.ready
    assert found.problem == "PredictorReady: RevisionFailed (no node has room); Ready: PredictorNotReady"


def test_a_failed_load_is_told_with_the_containers_last_words() -> None:
    info = {"reason": "ModelLoadFailed", "exitCode": 2, "message": "names no release"}
    model = {"transitionStatus": "BlockedByFailedLoad", "lastFailureInfo": info}
    assert observe({"status": {"modelStatus": model}}).failure == "ModelLoadFailed, exit code 2: names no release"
    assert observe({"status": {"modelStatus": {**model, "transitionStatus": "UpToDate"}}}).failure is None


def test_what_a_webhook_adds_is_no_difference_and_what_it_drops_or_changes_is() -> None:
    wanted = {"predictor": {"minReplicas": 2, "containers": [{"name": "a", "args": ["x"]}]}}
    kept = {"predictor": {"minReplicas": 2, "containers": [{"name": "a", "args": ["x"], "image": "b"}], "model": None}}
    assert differences(wanted, kept, "spec") == []
    assert differences(wanted, {"predictor": {"containers": kept["predictor"]["containers"]}}, "spec") == [
        "spec.predictor.minReplicas"
    ]
    other = {"predictor": {"minReplicas": 2, "containers": [{"name": "a", "args": ["y"]}]}}
    assert differences(wanted, other) == ["predictor.containers[0].args[0]"]
    assert differences(wanted, {"predictor": {"minReplicas": 2, "containers": []}}) == ["predictor.containers"]
