from components.settings import load_settings
from components.trainer import Launching
from pipelines.arguments import pipeline_arguments


def test_a_step_that_trains_itself_is_told_nothing_of_trainjobs() -> None:
    # Else a change of those settings would train again what is cached.
    given = pipeline_arguments(load_settings(trainer={"workers": 3}), "source")
    assert given["launching"] == {"launcher": "local"}


def test_a_trainjob_is_told_what_holds_for_every_pod() -> None:
    trainer = {"launcher": "trainjob", "workers": 3, "gpus": 2}
    cluster = {"namespace": "lab", "storage_secret": "keys", "train_timeout": 60, "gpu_type": "amd.com/gpu"}
    told = Launching.model_validate(
        pipeline_arguments(load_settings(trainer=trainer, cluster=cluster), "source")["launching"]
    )
    assert (told.workers, told.gpus, told.gpu_type) == (3, 2, "amd.com/gpu")
    assert (told.namespace, told.storage_secret, told.train_timeout) == ("lab", "keys", 60)
    assert told.image.startswith("mscflow/train-python:")
