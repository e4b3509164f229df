"""Rollouts to an InferenceService: a real API server and real endpoints; what KServe's controller does is played."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from kubernetes.client import CustomObjectsApi
from urllib3.exceptions import ProtocolError

from components.bundle import KnownAnswer
from components.deployment.manifest import release_of
from components.deployment.standing import Standings
from components.deployment.trial import Trial
from components.deployment.ways import Way
from components.endpoint.files import WantedModel
from components.errors import DeploymentError, RolloutLost, StorageError
from components.patience import RUN_VARIABLE
from tests.components.deployment import clusters
from tests.components.deployment.clusters import CELLS, MODEL, Everything, Made, Slow, answering
from tests.components.deployment.controller import Servers
from tests.kubernetes import CrdServer


class Killed(BaseException):
    """Stands for a process that ends at once."""


def killed(*_: object) -> None:
    raise Killed


pytestmark = [pytest.mark.cluster, pytest.mark.timeout(200)]


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    started = Servers(tmp_path_factory.mktemp("servers"))
    yield started
    started.stop()


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("shelf")


@pytest.fixture(scope="module")
def versions(shelf: Path, make_bundle: Callable[..., str], make_detector: Callable[..., str]) -> dict[str, WantedModel]:
    """Two good versions, one that does not answer as it should and so never serves, and a detector."""
    wrong = KnownAnswer(probabilities=(0.7, 0.1, 0.1, 0.1))
    made = {
        "1": make_bundle(shelf / "1", favour=1),
        "2": make_bundle(shelf / "2", favour=2),
        "unfit": make_bundle(shelf / "unfit", favour=3, known=wrong),
        "cells": make_detector(shelf / "cells"),
    }
    return {name: WantedModel(str(shelf / name), name, digest) for name, digest in made.items()}


@pytest.fixture
def cluster(crd_server: CrdServer, servers: Servers, shelf: Path) -> Iterator[Callable[..., Made]]:
    """Gives clusters that behave as they are told to."""
    with ExitStack() as stack:
        yield lambda **behaviour: stack.enter_context(
            clusters.cluster(crd_server, servers, shelf / "store", **behaviour)
        )


def test_by_knative_a_new_release_gets_more_of_the_requests_step_by_step(
    cluster: Callable[..., Made], versions: dict[str, WantedModel], png: Callable[..., bytes]
) -> None:
    made = cluster()
    first = made.roll_out(versions["1"])
    assert (first.started, first.previous, first.about["mode"]) == (True, {}, "Knative")
    assert answering(first.about["url"], png()) == "1"

    second = made.roll_out(versions["2"])
    assert (second.started, second.previous[MODEL].version) == (False, "1")
    assert made.percents() == [None, 20, 50, None]
    assert made.specified() == (second.about["release"], None)
    assert made.controller.share() == {second.about["release"]: 100}
    assert answering(second.about["url"], png()) == "2"

    both = made.roll_out(versions["cells"], CELLS, canary=())
    assert answering(both.about["url"], png()) == "2"
    assert answering(both.about["url"], png(), CELLS) == "cells"
    assert {name: each.version for name, each in made.endpoint().served().items()} == {MODEL: "2", CELLS: "cells"}


def test_as_a_deployment_it_is_asked_beside_what_serves_and_then_takes_its_place(
    cluster: Callable[..., Made], versions: dict[str, WantedModel], png: Callable[..., bytes]
) -> None:
    made = cluster(knative=False)
    first = made.roll_out(versions["1"])
    second = made.roll_out(versions["2"])
    written = [(name, release) for name, release, _ in made.controller.seen]
    assert list(dict.fromkeys(written)) == [
        ("mscflow", first.about["release"]),
        ("mscflow-trial", second.about["release"]),
        ("mscflow", second.about["release"]),
    ]
    assert set(made.percents()) == {None}
    assert made.services.read("mscflow-trial") is None
    assert made.controller.share() == {second.about["release"]: 100}
    assert answering(second.about["url"], png()) == "2"
    again = made.roll_out(versions["2"])
    assert again.about["release"] == second.about["release"]


@pytest.mark.parametrize("knative", [True, False])
def test_a_crash_loop_is_told_and_what_served_serves_on(
    cluster: Callable[..., Made], versions: dict[str, WantedModel], png: Callable[..., bytes], knative: bool
) -> None:
    made = cluster(knative=knative)
    first = made.roll_out(versions["1"])
    made.behaviour.crash = Everything(except_for=first.about["release"])
    with pytest.raises(DeploymentError, match="does not come up: ModelLoadFailed, exit code 1: its digest is another"):
        made.roll_out(versions["2"])
    assert made.specified() == (first.about["release"], None)
    assert answering(first.about["url"], png()) == "1"
    assert made.services.read("mscflow-trial") is None
    assert made.endpoint().served()[MODEL].version == "1"


def test_a_deployment_whose_new_pods_crash_is_not_waited_for_to_the_end(
    cluster: Callable[..., Made], versions: dict[str, WantedModel], png: Callable[..., bytes]
) -> None:
    made = cluster(knative=False)
    first = made.roll_out(versions["1"])
    made.behaviour.crash = Everything(except_for=first.about["release"])
    with pytest.raises(DeploymentError, match="does not come up"):
        made.roll_out(versions["2"], canary=())
    assert made.specified() == (first.about["release"], None)
    assert answering(first.about["url"], png()) == "1"


def test_a_model_that_never_gets_ready_is_waited_for_only_so_long(
    cluster: Callable[..., Made], versions: dict[str, WantedModel], png: Callable[..., bytes]
) -> None:
    made = cluster()
    first = made.roll_out(versions["1"])
    with pytest.raises(DeploymentError, match=r"was not ready within 4 s: Ready: PredictorNotReady"):
        made.roll_out(versions["unfit"], timeout=4.0)
    assert made.specified() == (first.about["release"], None)
    assert answering(first.about["url"], png()) == "1"


def test_a_first_release_that_no_controller_takes_up_is_taken_away(
    cluster: Callable[..., Made], versions: dict[str, WantedModel]
) -> None:
    made = cluster(silent=True)
    with pytest.raises(DeploymentError, match="does KServe's controller run"):
        made.roll_out(versions["1"], timeout=1.0)
    assert made.found() is None
    assert made.endpoint().served() == {}


def test_a_canary_that_fails_requests_loses_them_all_at_once(
    cluster: Callable[..., Made], versions: dict[str, WantedModel], png: Callable[..., bytes]
) -> None:
    made = cluster()
    first = made.roll_out(versions["1"])
    made.behaviour.broken = Everything(except_for=first.about["release"])
    with pytest.raises(DeploymentError, match=r"1 of \d+ requests failed, such as: .*a pod of this release fails"):
        made.roll_out(versions["2"])
    assert made.percents()[:3] == [None, 20, 0]
    assert made.specified() == (first.about["release"], None)
    assert answering(first.about["url"], png()) == "1"


@pytest.mark.parametrize("knative", [True, False])
def test_a_release_whose_answers_come_late_is_not_taken(
    cluster: Callable[..., Made], versions: dict[str, WantedModel], knative: bool
) -> None:
    made = cluster(knative=knative)
    first = made.roll_out(versions["1"])
    made.behaviour.slow = Slow(except_for=first.about["release"], seconds=1.0)
    # Deployments do not answer in turn with what serves, so that only the limit itself holds there.
    with pytest.raises(DeploymentError, match="max_slowdown is 3" if knative else "max_latency is 0.5 s"):
        made.roll_out(versions["2"], max_latency=10.0 if knative else 0.5)
    assert made.specified() == (first.about["release"], None)


def test_a_share_that_is_told_but_not_kept_is_not_believed(
    cluster: Callable[..., Made], versions: dict[str, WantedModel]
) -> None:
    made = cluster(whole=True)
    first = made.roll_out(versions["1"])
    with pytest.raises(DeploymentError, match=r"all of \d+ requests were answered by the new release.* 20 %"):
        made.roll_out(versions["2"], samples=12)
    assert made.specified() == (first.about["release"], None)


@pytest.mark.parametrize("good", [True, False])
def test_what_a_killed_rollout_left_is_finished_or_undone_by_its_next_attempt(
    cluster: Callable[..., Made],
    versions: dict[str, WantedModel],
    png: Callable[..., bytes],
    monkeypatch: pytest.MonkeyPatch,
    good: bool,
) -> None:
    monkeypatch.setenv(RUN_VARIABLE, "retrain-7")
    made = cluster()
    first = made.roll_out(versions["1"])
    with monkeypatch.context() as patch:
        patch.setattr(Trial, "step", killed)
        patch.setattr(Way, "_undo", lambda *_: None)
        patch.setattr(Standings, "end_turn", lambda *_: None)
        with pytest.raises(Killed):
            made.roll_out(versions["2"])
    assert made.specified()[1] == 20
    if good:
        second = made.roll_out(versions["2"])
        assert (second.previous[MODEL].version, answering(second.about["url"], png())) == ("1", "2")
        assert made.specified() == (second.about["release"], None)
    else:
        made.behaviour.broken = Everything(except_for=first.about["release"])
        with pytest.raises(DeploymentError, match="requests failed"):
            made.roll_out(versions["2"])
        assert made.specified() == (first.about["release"], None)
        assert answering(first.about["url"], png()) == "1"


def test_a_rollout_that_is_killed_with_all_requests_is_finished_by_its_next_attempt(
    cluster: Callable[..., Made],
    versions: dict[str, WantedModel],
    png: Callable[..., bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(RUN_VARIABLE, "retrain-7")
    made = cluster()
    made.roll_out(versions["1"])
    with monkeypatch.context() as patch:
        patch.setattr(Way, "_answers_alone", killed)
        patch.setattr(Way, "_undo", lambda *_: None)
        patch.setattr(Standings, "end_turn", lambda *_: None)
        with pytest.raises(Killed):
            made.roll_out(versions["2"])
    second = made.roll_out(versions["2"], timeout=10.0)
    assert (second.previous[MODEL].version, answering(second.about["url"], png())) == ("1", "2")
    assert made.specified() == (second.about["release"], None)
    assert made.endpoint().served()[MODEL].version == "2"


@pytest.mark.parametrize("knative", [True, False])
def test_a_write_whose_answer_is_lost_is_not_taken_for_another_writers(
    cluster: Callable[..., Made], versions: dict[str, WantedModel], monkeypatch: pytest.MonkeyPatch, knative: bool
) -> None:
    made = cluster(knative=knative)
    lost: list[str] = []

    def losing(name: str) -> Callable[..., Any]:
        real = getattr(CustomObjectsApi, name)

        def call(*arguments: Any, **options: Any) -> None:
            real(*arguments, **options)
            lost.append(name)
            raise ProtocolError("connection aborted")

        return call

    for name in ("create_namespaced_custom_object", "replace_namespaced_custom_object"):
        monkeypatch.setattr(CustomObjectsApi, name, losing(name))
    made.roll_out(versions["1"])
    second = made.roll_out(versions["2"])
    assert made.specified() == (second.about["release"], None)
    assert len(set(lost)) == 2


def test_the_other_models_come_back_after_the_inferenceservice_was_deleted(
    cluster: Callable[..., Made], versions: dict[str, WantedModel], png: Callable[..., bytes]
) -> None:
    made = cluster()
    made.roll_out(versions["1"])
    made.roll_out(versions["cells"], CELLS)
    made.services.remove("mscflow")
    again = made.roll_out(versions["2"])
    assert (again.started, again.previous[MODEL].version) == (True, "1")
    assert answering(again.about["url"], png(), CELLS) == "cells"
    assert {name: each.version for name, each in made.endpoint().served().items()} == {MODEL: "2", CELLS: "cells"}


@pytest.mark.parametrize("knative", [True, False])
def test_what_served_serves_on_in_its_own_image_where_the_new_one_is_bad(
    cluster: Callable[..., Made], versions: dict[str, WantedModel], knative: bool
) -> None:
    made = cluster(knative=knative)
    first = made.roll_out(versions["1"])
    served = (made.found() or {})["spec"]
    made.behaviour.crash = Everything(except_for=first.about["release"])
    with pytest.raises(DeploymentError, match="does not come up"):
        made.roll_out(versions["2"], canary=(20,) if knative else (), image="mscflow/none:1", cpu="3")
    assert (made.found() or {})["spec"] == served


def test_a_turn_ends_where_the_store_fails_and_what_stood_stands(
    cluster: Callable[..., Made], versions: dict[str, WantedModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = cluster()
    made.roll_out(versions["1"])

    def failing(_: Standings) -> None:
        raise StorageError("the store is away")

    with monkeypatch.context() as patch:
        patch.setattr(Standings, "read", failing)
        with pytest.raises(StorageError):
            made.roll_out(versions["2"])
    assert made.endpoint().served()[MODEL].version == "1"
    assert made.roll_out(versions["2"], timeout=10.0).previous[MODEL].version == "1"


def test_another_writer_is_told_and_left_alone(cluster: Callable[..., Made], versions: dict[str, WantedModel]) -> None:
    made = cluster()
    made.roll_out(versions["1"])

    def meddle(found: dict[str, Any]) -> None:
        if found["spec"]["predictor"].get("canaryTrafficPercent") == 20:
            found["spec"]["predictor"]["containers"][0]["image"] = "another/image:1"
            made.services.replace(found)

    made.controller.before_each = meddle
    with pytest.raises(RolloutLost, match=r"containers\[0\]\.image of .* was changed by another writer"):
        made.roll_out(versions["2"], samples=400)
    found = made.found() or {}
    assert found["spec"]["predictor"]["containers"][0]["image"] == "another/image:1"
    assert found["spec"]["predictor"]["canaryTrafficPercent"] == 20


@pytest.mark.parametrize("knative", [True, False])
def test_what_is_deleted_meanwhile_is_not_made_again(
    cluster: Callable[..., Made], versions: dict[str, WantedModel], knative: bool
) -> None:
    made = cluster(knative=knative)
    first = made.roll_out(versions["1"])

    def delete(found: dict[str, Any]) -> None:
        name = found["metadata"]["name"]
        if release_of(found) != first.about["release"]:
            made.controller.before_each = lambda _: None
            made.services.remove(name)

    made.controller.before_each = delete
    with pytest.raises(RolloutLost, match="was deleted while it was rolled out to"):
        made.roll_out(versions["2"], samples=400)
    assert (made.found() is None) == knative
    assert made.services.read("mscflow-trial") is None


def test_a_mode_that_the_cluster_does_not_run_is_refused(
    cluster: Callable[..., Made], versions: dict[str, WantedModel]
) -> None:
    made = cluster(knative=False)
    with pytest.raises(DeploymentError, match="was to run in mode Knative and runs in mode Standard"):
        made.roll_out(versions["1"], mode="knative")
    assert made.found() is None
    first = made.roll_out(versions["1"], mode="auto")
    assert first.about["mode"] == "Standard"
    with pytest.raises(DeploymentError, match="which KServe never changes"):
        made.roll_out(versions["2"], mode="knative")
    assert made.specified() == (first.about["release"], None)
