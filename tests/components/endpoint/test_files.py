from pathlib import Path

import pytest

from components.endpoint.files import DESIRED_FILE, Desired, WantedModel, read_desired, read_status, write_desired
from components.errors import DeploymentError


def test_what_is_asked_for_is_read_back_and_named_anew_each_time(tmp_path: Path) -> None:
    models = {"m": WantedModel("/bundle", "3", "e" * 64)}
    first, second = write_desired(tmp_path, models), write_desired(tmp_path, models)
    assert read_desired(tmp_path) == second
    assert second.models == models
    assert first.generation != second.generation
    assert [path.name for path in tmp_path.iterdir()] == [DESIRED_FILE]


def test_an_empty_folder_asks_for_nothing(tmp_path: Path) -> None:
    assert read_desired(tmp_path) == Desired()
    assert read_status(tmp_path) is None


@pytest.mark.parametrize("text", ["", "{", '{"models": {"m": {"path": 3}}}', '{"modles": {}}'])
def test_a_file_that_no_deployment_wrote_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / DESIRED_FILE).write_text(text)
    with pytest.raises(DeploymentError, match=r"desired\.json cannot be read: .*; deploy a model again"):
        read_desired(tmp_path)
