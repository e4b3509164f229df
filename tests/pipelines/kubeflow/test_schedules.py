"""A recurring run is there once, as it was last asked for."""

import pytest

from components.errors import InputError
from pipelines.kubeflow import schedules
from pipelines.kubeflow.package import Package
from pipelines.kubeflow.place import open_place, upload
from pipelines.kubeflow.running import runtime
from pipelines.kubeflow.submission import retrain_run

NAME = "retrain-clinic"


@pytest.fixture
def place(connection, settings):
    return open_place(connection, settings)


@pytest.fixture
def put(connection, settings, place, compiled):
    version = upload(connection, place, Package.read(compiled["retrain"]))

    def make(trigger="1h", watched="s3://cultures/incoming", name=NAME):
        arguments = retrain_run(settings, watched, "", f"schedule {name}")
        return schedules.put(connection, place, name, schedules.every(trigger), runtime(arguments, version, "steps"))

    return make


def test_the_same_again_changes_nothing(kubeflow, put):
    first, second = put(), put()
    assert (first.outcome, second.outcome) == ("created", "unchanged")
    assert first.schedule["recurring_run_id"] == second.schedule["recurring_run_id"]
    (kept,) = kubeflow.kept["recurring"].values()
    assert (kept["max_concurrency"], kept["no_catchup"], kept["mode"]) == ("1", True, "ENABLE")
    assert kept["trigger"] == {"periodic_schedule": {"interval_second": "3600"}}
    assert kept["runtime_config"]["parameters"]["watched"] == "s3://cultures/incoming"


@pytest.mark.parametrize("change", [{"trigger": "2h"}, {"watched": "s3://cultures/other"}])
def test_what_is_asked_otherwise_takes_the_place_of_what_was(kubeflow, put, change):
    first, second = put(), put(**change)
    assert second.outcome == "replaced"
    assert set(kubeflow.kept["recurring"]) == {second.schedule["recurring_run_id"]}
    assert first.schedule["recurring_run_id"] not in kubeflow.kept["recurring"]


def test_a_paused_one_stays_paused_when_it_is_replaced(connection, put):
    schedules.pause(connection, put().schedule["recurring_run_id"])
    assert schedules.is_paused(put(trigger="2h").schedule)


@pytest.mark.parametrize("fault", [500, "cut", "lost"])
def test_it_is_made_once_though_a_request_or_its_answer_is_lost(kubeflow, put, fault):
    kubeflow.faults["recurring_run_service_create_recurring_run"] = [fault]
    put()
    assert len(kubeflow.kept["recurring"]) == 1


def test_never_is_there_none_and_what_a_killed_call_left_is_deleted(kubeflow, put):
    put()
    kubeflow.faults["recurring_run_service_delete_recurring_run"] = [403]
    with pytest.raises(InputError, match="does not allow"):
        put(trigger="2h")
    assert len(kubeflow.kept["recurring"]) == 2
    kept = put(trigger="2h")
    assert kept.outcome == "unchanged"
    assert set(kubeflow.kept["recurring"]) == {kept.schedule["recurring_run_id"]}


def test_all_are_listed_however_many_pages_that_takes(connection, place, put):
    names = [f"retrain-{number}" for number in range(5)]
    for name in names:
        put(name=name)
    assert [each["display_name"] for each in schedules.all_in(connection, place)] == names


def test_pausing_resuming_and_deleting_may_be_asked_for_twice(connection, place, put):
    identity = put().schedule["recurring_run_id"]
    for change, paused in ((schedules.pause, True), (schedules.resume, False)):
        for _ in range(2):
            change(connection, identity)
            assert [schedules.is_paused(each) for each in schedules.named(connection, place, NAME)] == [paused]
    for _ in range(2):
        schedules.remove(connection, identity)
        assert schedules.named(connection, place, NAME) == []


@pytest.mark.parametrize(
    ("text", "said"),
    [("0 3 * * *", "0 0 3 * * *"), ("30 0 3 * * 1-5", "30 0 3 * * 1-5"), ("*/5 * * * *", "0 */5 * * * *")],
)
def test_five_fields_of_cron_mean_second_0(text, said):
    assert schedules.cron(text) == {"cron_schedule": {"cron": said}}


@pytest.mark.parametrize("text", ["45s", "90m", "6h", "3d"])
def test_an_interval_is_told_as_it_was_given(text):
    assert schedules.told({"trigger": schedules.every(text)}) == f"every {text}"


@pytest.mark.parametrize("text", ["", "* * * *", "hourly now please x y z w", "0 3 * * ;"])
def test_what_is_no_cron_expression_is_refused(text):
    with pytest.raises(InputError, match="is no cron expression"):
        schedules.cron(text)


@pytest.mark.parametrize("text", ["", "15", "0m", "m", "1.5h", "-1h"])
def test_what_is_no_interval_is_refused(text):
    with pytest.raises(InputError, match="is no interval"):
        schedules.every(text)
