from pathlib import Path

import pytest

from components.deployment.standing import Standing, Standings
from components.errors import DeploymentError
from components.patience import RUN_VARIABLE
from components.storage import LocalStore


@pytest.fixture
def standings(tmp_path: Path) -> Standings:
    return Standings(LocalStore(tmp_path), "cultures", "mscflow")


def test_what_serves_is_noted_by_whoever_has_the_turn(standings: Standings) -> None:
    assert standings.read() == Standing()
    turn = standings.take_turn(60, patience=0)
    standings.end_turn(turn, "s3://a")
    assert standings.read() == Standing("s3://a")


def test_a_second_rollout_waits_for_the_first(standings: Standings) -> None:
    first = standings.take_turn(60, patience=0)
    with pytest.raises(DeploymentError, match=f"another rollout to it is under way \\({first.owner}\\)"):
        standings.take_turn(60, patience=0)
    standings.end_turn(first, None)
    assert standings.take_turn(60, patience=0).id != first.id


def test_one_that_was_held_for_dead_notes_nothing_more(standings: Standings) -> None:
    dead = standings.take_turn(-1, patience=0)
    living = standings.take_turn(60, patience=0)
    standings.end_turn(dead, "s3://of-the-dead")
    assert standings.read() == Standing(None, living)


def test_a_runs_next_attempt_need_not_wait_for_the_one_that_was_killed(
    standings: Standings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(RUN_VARIABLE, "retrain-7")
    killed = standings.take_turn(3600, patience=0)
    assert standings.take_turn(3600, patience=0).id != killed.id


def test_a_standing_that_nobody_wrote_is_refused(standings: Standings, tmp_path: Path) -> None:
    LocalStore(tmp_path).write("rollouts/cultures/mscflow.json", b'{"release": 3}')
    with pytest.raises(DeploymentError, match=r"mscflow\.json of .* cannot be read: .*; delete it"):
        standings.read()
