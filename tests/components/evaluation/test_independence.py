from components.datasets.splits import load_split, make_split
from components.datasets.versions import DataRepository
from components.evaluation.independence import champion_note, independent, learnt_images
from components.settings import SplitSettings
from components.storage import open_store


def test_a_model_is_judged_on_images_that_its_own_split_kept_from_it(world):
    repository = DataRepository(open_store(world.store))
    assert learnt_images(repository, world.split_id, world.split_id) == 0


def test_images_that_another_split_gave_it_are_counted(world):
    repository = DataRepository(open_store(world.store))
    other = make_split(repository, world.version, "elsewhere", SplitSettings(seed=3)).id
    mine, theirs = load_split(repository, other), load_split(repository, world.split_id)
    kept = {record.sha256 for record in mine["test"]}
    expected = sum(record.sha256 not in kept for record in theirs["test"])
    assert learnt_images(repository, other, world.split_id) == expected > 0


def test_of_a_split_that_is_not_here_nobody_knows(world):
    assert learnt_images(DataRepository(open_store(world.store)), "0" * 64, world.split_id) is None


def test_only_a_model_known_to_have_learnt_from_none_of_them_passes():
    assert independent(0).passed
    leak, unknown = independent(7), independent(None)
    assert leak.reason.startswith("The model learnt from 7 images that it is judged on;")
    assert unknown.reason.startswith("Test images it learnt from cannot be judged: the split that the model was made")
    assert not leak.passed and not unknown.passed


def test_what_the_champion_knows_is_told_where_it_matters():
    assert champion_note(0) == ""
    assert "learnt from 2 of the images" in champion_note(2)
    assert "not in this object store" in champion_note(None)
