import psutil
import pytest

from components.culture import Modality
from components.datasets.folds import Fold
from components.settings import DetectionSettings, SearchSettings, TrainingSettings
from pipelines.study.job import Job
from pipelines.study.plan import Unit
from pipelines.study.pool import Failed, Pool


@pytest.fixture
def job(tmp_path, make_cell):
    unit = Unit(
        key="a" * 64,
        cell=make_cell("shufflenet_v2"),
        fold=Fold("1", (0,), (1,), (2,)),
        training=TrainingSettings(backbone="shufflenet_v2", learning_rate=1e-3).model_dump(mode="json"),
        search=SearchSettings().model_dump(mode="json"),
        detection=DetectionSettings().model_dump(mode="json"),
    )
    return Job(
        unit=unit,
        store_uri=str(tmp_path / "missing"),
        versions=("d" * 64,),
        stray=Modality.SINGLE_STACK,
        home=str(tmp_path / "home"),
        out=str(tmp_path),
    )


@pytest.fixture
def workers():
    """Gives the processes begun since; servers that other tests share are children too."""
    before = set(psutil.Process().children())
    return lambda: [child for child in psutil.Process().children() if child not in before]


def run(job, tmp_path, observe, tick=lambda: None):
    return Pool(1, [], tmp_path / "log.txt").run([job], observe, tick)


def test_what_every_fold_would_fail_by_ends_the_study_with_its_own_words_and_code(job, tmp_path, workers):
    events = []
    with pytest.raises(Failed, match=r"single_stack-shufflenet_v2-grouped, fold 1: .*missing") as caught:
        run(job, tmp_path, events.append)
    assert caught.value.exit_code == 2
    assert [event["event"] for event in events] == ["begun"]
    assert not workers()


def test_a_worker_that_is_killed_is_told_and_none_is_left(job, tmp_path, workers):
    def kill():
        # The first tick comes while the worker still loads its libraries.
        workers()[0].kill()

    with pytest.raises(Failed, match=r"was killed by signal 9 \(out of memory\?\); what it finished is kept") as caught:
        run(job, tmp_path, lambda _: None, kill)
    assert caught.value.exit_code == 1
    assert not workers()


def test_workers_share_the_gpus_in_turn_and_have_a_thread_each_without_any(tmp_path):
    with_gpus = Pool(3, ["0", "1"], tmp_path / "log.txt")
    assert [with_gpus._environment(number, 3)["CUDA_VISIBLE_DEVICES"] for number in range(3)] == ["0", "1", "0"]
    without = Pool(2, [], tmp_path / "log.txt")
    assert without._environment(0, 2)["OMP_NUM_THREADS"] == "1"
