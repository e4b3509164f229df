from pathlib import Path

import pytest
from click.testing import CliRunner

from components.errors import SettingsError
from components.models.backbones import BACKBONES
from components.settings import Settings, TrainingSettings
from pipelines.cli.main import mscflow
from pipelines.preflight import check_run


def test_images_too_small_for_the_backbone_are_refused_before_anything_is_read(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, training=TrainingSettings(backbone="inception_v3", image_size=64))
    with pytest.raises(SettingsError, match="image_size 64 is too small for backbone 'inception_v3', which needs 75"):
        check_run(settings, str(tmp_path / "no such folder"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", ["run", "demo"])
def test_the_help_names_the_networks(command: str) -> None:
    told = CliRunner().invoke(mscflow, [command, "--help"]).output
    assert [name for name in BACKBONES if name not in told] == []
