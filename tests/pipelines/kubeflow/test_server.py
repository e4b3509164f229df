"""The server that stands in for Kubeflow Pipelines is one: KFP's own client gets along with it, and it complains.

Not asked of KFP's client are its filters, which it spells otherwise than the description does.
"""

import kfp
import pytest

from pipelines.kubeflow.place import open_place
from pipelines.kubeflow.submission import find, submit, train_run


@pytest.fixture
def client(kubeflow, monkeypatch, tmp_path):
    monkeypatch.setattr(kfp.Client, "_LOCAL_KFP_CONTEXT", str(tmp_path / "none"))
    with pytest.warns(FutureWarning, match="only works with Kubeflow Pipeline"):
        return kfp.Client(host=kubeflow.url)


def test_kfps_own_client_reads_what_was_submitted(kubeflow, client, connection, settings, train):
    submitted = submit(connection, settings, train, train_run(settings, "s3://cultures/2026"))
    run = client.wait_for_run_completion(submitted.run_id, timeout=10, sleep_duration=0)
    assert (run.display_name, run.state) == (submitted.name, "SUCCEEDED")
    made_of = run.pipeline_version_reference
    (version,) = client.list_pipeline_versions(made_of.pipeline_id).pipeline_versions
    assert (version.pipeline_version_id, version.name) == (made_of.pipeline_version_id, train.version)
    (experiment,) = client.list_experiments().experiments
    assert (experiment.display_name, experiment.experiment_id) == ("mscflow", run.experiment_id)


def test_a_run_of_kfps_own_client_is_followed(kubeflow, client, connection, settings, compiled):
    arguments = train_run(settings, "s3://cultures/2026")
    place = open_place(connection, settings)
    pipeline = client.upload_pipeline(str(compiled["train"]), pipeline_name="train-by-hand")
    (version,) = client.list_pipeline_versions(pipeline.pipeline_id).pipeline_versions
    made_of = {"pipeline_id": pipeline.pipeline_id, "version_id": version.pipeline_version_id}
    run = client.run_pipeline(place.experiment_id, "by-hand", params=arguments, **made_of)
    found = find(connection, settings, run.run_id)
    assert (found.name, found.steps[0]) == ("by-hand", "snapshot")


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"display_nam": "x"}, "display_nam is unknown"),
        ({"display_name": 1}, "display_name is 1, not str"),
        ({"state": "DONE"}, "'DONE', not one of"),
        ({"created_at": "today"}, "not a time"),
    ],
)
def test_what_does_not_fit_the_description_is_refused_and_kept_as_a_complaint(kubeflow, connection, body, said):
    with pytest.raises(Exception, match=said):
        connection.make(lambda: None, "/runs", body)
    assert said in kubeflow.complaints.pop()
