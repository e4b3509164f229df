from pathlib import Path

import pytest

from components.errors import SettingsError
from components.settings import GEOMETRIC, PHOTOMETRIC, PRESETS, Preset, load_settings


@pytest.fixture(autouse=True)
def _no_layers_from_outside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("MSCFLOW_HOME", "MSCFLOW_CONFIG", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)


def test_each_layer_overrides_the_one_below(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    default = load_settings().training.epochs
    assert load_settings(preset="paper").training.epochs == PRESETS[Preset.PAPER]["training"]["epochs"] != default

    (tmp_path / "mscflow.toml").write_text('preset = "paper"\n[training]\nepochs = 11\n')
    assert load_settings().training.epochs == 11
    assert load_settings().training.patience == 100, "what the file leaves out comes from its preset"

    monkeypatch.setenv("MSCFLOW_TRAINING__EPOCHS", "12")
    assert load_settings().training.epochs == 12
    assert load_settings(training={"epochs": 13}).training.epochs == 13
    assert load_settings(training={"epochs": None}).training.epochs == 12, "None on the command line means not given"


def test_the_preset_may_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MSCFLOW_PRESET", "paper")
    assert load_settings().search.sampler == "random"


@pytest.mark.parametrize("preset", list(Preset))
def test_every_preset_is_valid_and_searches_the_range_of_the_study(preset: Preset) -> None:
    search = load_settings(preset=preset).search
    assert (search.low, search.high) == (1e-8, 1e-2)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ({"preset": "swift"}, "'preset' is 'swift'"),
        ({"modality": "multi"}, "'modality' is 'multi'"),
        ({"training": {"epochs": 0}}, "'training.epochs' is 0"),
        ({"training": {"epochz": 3}}, "'training.epochz' is not a setting"),
        ({"serving": {"port": 70000}}, "'serving.port' is 70000"),
        ({"split": {"test_fraction": 0.7, "validation_fraction": 0.5}}, "must lie between 0 and 1"),
        ({"search": {"low": 1e-2, "high": 1e-4}}, "must be below search.high"),
    ],
)
def test_an_error_names_the_setting_and_its_value(overrides: dict[str, object], said: str) -> None:
    with pytest.raises(SettingsError, match=said.replace("(", r"\(")):
        load_settings(**overrides)


@pytest.mark.parametrize("written", ["rotation, blur", '["rotation", "blur"]'])
def test_augmentations_are_chosen_by_name(written: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MSCFLOW_TRAINING__PLANES", "rgb")
    monkeypatch.setenv("MSCFLOW_TRAINING__AUGMENTATIONS", written)
    assert load_settings().training.chosen_augmentations == ("rotation", "blur")
    assert load_settings(training={"augmentations": ""}).training.chosen_augmentations == ()
    monkeypatch.delenv("MSCFLOW_TRAINING__AUGMENTATIONS")
    (tmp_path / "mscflow.toml").write_text('[training]\naugmentations = ["blur"]\n')
    assert load_settings().training.chosen_augmentations == ("blur",)


def test_the_paper_preset_has_the_seven_augmentations_of_the_study() -> None:
    chosen = load_settings(preset="paper").training.chosen_augmentations
    assert len(chosen) == 7
    assert set(GEOMETRIC + PHOTOMETRIC) - set(chosen) == {"quarter_turn"}


def test_planes_that_measure_contrast_are_not_recoloured() -> None:
    assert load_settings().training.chosen_augmentations == GEOMETRIC
    assert load_settings(training={"planes": "rgb"}).training.chosen_augmentations == (*GEOMETRIC, "colour_jitter")
    with pytest.raises(SettingsError, match="augmentations 'blur' would change what planes 'texture' measure"):
        load_settings(training={"augmentations": "rotation,blur"})


def test_a_variable_that_sets_nothing_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MSCFLOW_TRAINNG__EPOCHS", "3")
    with pytest.raises(SettingsError, match="MSCFLOW_TRAINNG__EPOCHS"):
        load_settings()


def test_broken_toml_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "mscflow.toml").write_text("preset = ")
    with pytest.raises(SettingsError, match="not valid TOML"):
        load_settings()


def test_a_named_config_file_must_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MSCFLOW_CONFIG", "missing.toml")
    with pytest.raises(SettingsError, match=r"missing\.toml"):
        load_settings()


def test_state_lies_under_the_home(tmp_path: Path) -> None:
    settings = load_settings(home=tmp_path / "h")
    assert settings.store_uri == str(tmp_path / "h" / "store")
    assert settings.mlflow_uri == f"sqlite:///{tmp_path}/h/mlflow.db"
    assert load_settings().home.is_absolute()


def test_the_tracking_server_of_mlflow_s_own_variable_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    assert load_settings().mlflow_uri == "http://127.0.0.1:1"
    assert load_settings(tracking_uri="http://127.0.0.1:2").mlflow_uri == "http://127.0.0.1:2"


def test_the_quick_preset_maps_the_cover_where_no_other_layers_veil_it() -> None:
    assert load_settings().training.backbone == "cover_net"
    assert load_settings(modality="multi_stack").training.backbone == "efficientnet_lite0"
    assert load_settings(task="abnormal_cells").training.backbone == "efficientnet_lite0"
    assert load_settings(training={"backbone": "vit"}).training.backbone == "vit"
