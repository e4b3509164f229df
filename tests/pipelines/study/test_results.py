import os

import pytest

from components.errors import StorageError
from pipelines.study.results import path_of, read_result, write_result


def test_a_result_comes_back_as_it_was(tmp_path, make_cell, make_result):
    result = make_result(make_cell(), "1")
    path = path_of(tmp_path, result.cell, result.fold, result.key)
    write_result(path, result)
    assert read_result(path, result.key) == result
    truth, logits = result.answers.arrays
    assert (truth.shape, logits.shape) == ((20,), (20, 4))


def test_what_is_not_whole_or_of_another_key_is_made_again(tmp_path, make_cell, make_result):
    result = make_result(make_cell(), "1")
    path = path_of(tmp_path, result.cell, result.fold, result.key)
    assert read_result(path, result.key) is None
    write_result(path, result)
    assert read_result(path, "c" * 64) is None
    path.write_bytes(path.read_bytes()[:-40])
    assert read_result(path, result.key) is None


def test_names_of_folds_cannot_leave_the_folder(tmp_path, make_cell):
    path = path_of(tmp_path, make_cell(), "../../etc/pass wd", "a" * 64)
    assert path.parent == tmp_path / "folds" / "single_stack-resnet50-grouped"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_is_named(tmp_path, make_cell, make_result):
    tmp_path.chmod(0o500)
    with pytest.raises(StorageError, match="cannot be written"):
        write_result(tmp_path / "folds" / "x.json", make_result(make_cell(), "1"))


def test_a_full_disk_leaves_nothing_half_written(tmp_path, make_cell, make_result):
    (tmp_path / "folds").write_text("a file where a folder should be")
    with pytest.raises(StorageError, match="cannot be written"):
        write_result(tmp_path / "folds" / "x.json", make_result(make_cell(), "1"))
    assert [path.name for path in tmp_path.iterdir()] == ["folds"]


def test_cells_have_names_of_their_own(make_cell):
    names = {
        make_cell().name,
        make_cell(protocol="published").name,
        make_cell(equalisation="clahe").name,
        make_cell(clumps="masked").name,
        make_cell(task="abnormal_cells").name,
    }
    assert len(names) == 5
