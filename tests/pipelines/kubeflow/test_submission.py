"""A run is started once, whatever becomes of requests and answers."""

import pytest

from components.errors import InputError
from pipelines.kubeflow.connection import Connection
from pipelines.kubeflow.package import Package
from pipelines.kubeflow.submission import retrain_run, submit, train_run

SOURCE = "s3://cultures/2026"


@pytest.fixture
def start(connection, settings, train):
    return lambda: submit(connection, settings, train, train_run(settings, SOURCE))


def test_a_run_is_made_of_the_uploaded_pipeline_with_the_arguments(kubeflow, settings, start):
    submitted = start()
    run = kubeflow.kept["runs"][submitted.run_id]
    version = kubeflow.kept["versions"][run["pipeline_version_reference"]["pipeline_version_id"]]
    assert run["display_name"] == submitted.name
    assert run["service_account"] == "mscflow-pipeline"
    given = run["runtime_config"]["parameters"]
    assert (given["source"], given["store"], given["rolling"]["target"]) == (SOURCE, settings.store_uri, "kserve")
    assert version["pipeline_spec"]["platform_spec"]["platforms"]["kubernetes"]
    assert submitted.link == f"{kubeflow.url}/#/runs/details/{submitted.run_id}"
    assert submitted.steps[:3] == ("snapshot", "validate", "split")


def test_the_same_pipeline_is_uploaded_once_and_each_run_is_another(kubeflow, start):
    first, second = start(), start()
    assert first.run_id != second.run_id
    assert [len(kubeflow.kept[kind]) for kind in ("experiments", "pipelines", "versions", "runs")] == [1, 1, 1, 2]


def test_another_pipeline_of_the_name_is_another_version(kubeflow, connection, settings, start, compiled, tmp_path):
    start()
    (tmp_path / "train.yaml").write_bytes(compiled["train"].read_bytes() + b"\n")
    submit(connection, settings, Package.read(tmp_path / "train.yaml"), train_run(settings, SOURCE))
    assert (len(kubeflow.kept["pipelines"]), len(kubeflow.kept["versions"])) == (1, 2)


CREATIONS = {
    "experiments": "experiment_service_create_experiment",
    "pipelines": "pipeline_service_create_pipeline",
    "versions": "upload_pipeline_version",
    "runs": "run_service_create_run",
}


@pytest.mark.parametrize("fault", [500, 503, "cut", "lost"])
@pytest.mark.parametrize("kind", CREATIONS)
def test_each_thing_is_made_once_though_a_request_or_its_answer_is_lost(kubeflow, start, kind, fault):
    kubeflow.faults[CREATIONS[kind]] = [fault]
    submitted = start()
    assert [len(kubeflow.kept[each]) for each in CREATIONS] == [1, 1, 1, 1]
    assert kubeflow.kept["runs"][submitted.run_id]["display_name"] == submitted.name


def test_what_somebody_else_made_meanwhile_is_taken(kubeflow, start):
    made = kubeflow.do("pipeline_service_create_pipeline", {}, {"name": "train", "display_name": "train"})
    kubeflow.faults["pipeline_service_get_pipeline_by_name"] = [404]  # it was not there yet when it was looked for
    start()
    assert set(kubeflow.kept["pipelines"]) == {made["pipeline_id"]}
    assert kubeflow.asked.count("pipeline_service_create_pipeline") == 1


def test_where_there_are_several_users_all_is_in_the_namespace(kubeflow, settings, start):
    kubeflow.multi_user = True
    submitted = start()
    (experiment,) = kubeflow.kept["experiments"].values()
    (pipeline,) = kubeflow.kept["pipelines"].values()
    assert (experiment["namespace"], pipeline["namespace"]) == (settings.cluster.namespace,) * 2
    assert f"?ns={settings.cluster.namespace}#" in submitted.link


@pytest.mark.parametrize("change", ["missing", "unknown"])
def test_arguments_that_do_not_fit_are_named_before_anything_is_asked(kubeflow, connection, settings, train, change):
    arguments = train_run(settings, SOURCE)
    if change == "missing":
        del arguments["source"]
    else:
        arguments["sauce"] = SOURCE
    with pytest.raises(InputError, match=r"misses source" if change == "missing" else r"does not know sauce"):
        submit(connection, settings, train, arguments)
    assert kubeflow.asked == []


def test_what_lies_on_this_machine_is_refused(settings, tmp_path):
    with pytest.raises(InputError, match=r"--data '/.*' is on this machine"):
        train_run(settings, str(tmp_path))
    with pytest.raises(InputError, match="store '/home/store' is on this machine"):
        train_run(settings.model_copy(update={"store": "/home/store"}), SOURCE)


def test_a_retraining_claims_its_batch_for_as_long_as_runs_may_last(settings, compiled):
    arguments = retrain_run(settings, "", "s3://cultures/incoming/1", "operator-1")
    Package.read(compiled["retrain"]).check(arguments)
    assert arguments["lease"] == settings.cluster.lease
    assert (arguments["lineage"], arguments["owner"]) == ("clinic", "operator-1")


@pytest.mark.parametrize("text", ["", "a: 1", "[", "deploymentSpec: {}\nroot: {}\npipelineInfo: {name: x}"])
def test_a_file_that_is_no_compiled_pipeline_is_refused(tmp_path, text):
    (tmp_path / "x.yaml").write_text(text)
    with pytest.raises(InputError, match=r"x\.yaml' is not a compiled pipeline"):
        Package.read(tmp_path / "x.yaml")


def test_without_a_url_the_setting_is_named(settings):
    with pytest.raises(InputError, match=r"kubeflow\.url"):
        Connection(settings.kubeflow.model_copy(update={"url": ""}))
