"""One typed settings object, from defaults < preset < mscflow.toml < MSCFLOW_* environment < command line.

``MSCFLOW_TRAINING__EPOCHS=5`` sets ``training.epochs``; the same in ``mscflow.toml`` is::

    [training]
    epochs = 5

Each pipeline step receives its own section alone, so that a change of one section leaves the cached
results of the other steps valid.
"""

import os
import tomllib
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)
from pydantic_settings.exceptions import SettingsError as PydanticSettingsError

from components.cluster import ClusterSettings
from components.culture import ABNORMAL_LABEL, Modality, Task
from components.errors import SettingsError
from components.formats import Clumps, Equalisation, Planes
from components.kubeflow import KubeflowSettings
from components.rollout import RolloutSettings
from components.section import Section
from components.trainer import TrainerSettings

LEARNING_RATE_RANGE = (1e-8, 1e-2)
# Share of the images like its own on which a model may abstain because they look foreign.
FALSE_ABSTAIN = 0.02

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
# What moves an image, and its boxes with it; and what changes its look (components/training/augmentation.py).
Geometric = Literal["rotation", "quarter_turn", "horizontal_flip", "vertical_flip"]
Photometric = Literal["colour_jitter", "blur", "sharpness", "contrast"]
Augmentation = Geometric | Photometric
GEOMETRIC: tuple[Geometric, ...] = get_args(Geometric)
PHOTOMETRIC: tuple[Photometric, ...] = get_args(Photometric)
Port = Annotated[int, Field(ge=0, le=65535)]  # 0 lets the system pick a free one


class Preset(StrEnum):
    """How much work a run puts into its model."""

    QUICK = "quick"
    STANDARD = "standard"
    PAPER = "paper"


class DataSettings(Section):
    """What is read from a source, and which images are fit for use."""

    ref: str | None = Field(None, description="lineage that the snapshot extends; default: the source's name")
    unlabelled: bool = Field(False, description="keep images without a confluence class")
    min_side: int = Field(32, ge=1, description="images with a shorter side, in pixels, are quarantined")
    max_pixels: int = Field(200_000_000, ge=1, description="larger images are refused before decoding")
    min_contrast: float = Field(
        2.0, ge=0, description="standard deviation of grey levels below which an image is blank"
    )
    max_clipped: Fraction = Field(0.5, description="share of nearly black (or white) pixels that an image may have")
    min_sharpness: float = Field(0.005, ge=0, description="fine detail over contrast below which an image is blurred")


class SplitSettings(Section):
    """How the images are divided; groups (vessels) stay whole."""

    test_fraction: Fraction = 0.2
    validation_fraction: Fraction = 0.2
    seed: int = 0

    @model_validator(mode="after")
    def _something_is_left_to_train_on(self) -> Self:
        if not 0 < self.test_fraction + self.validation_fraction < 1:
            raise ValueError("test_fraction + validation_fraction must lie between 0 and 1")
        if min(self.test_fraction, self.validation_fraction) <= 0:
            raise ValueError("test_fraction and validation_fraction must be above 0")
        return self


def _names(value: object) -> object:
    """Let a list of names be written with commas, as the command line and the environment have it."""
    return [name.strip() for name in value.split(",") if name.strip()] if isinstance(value, str) else value


class TrainingSettings(Section):
    """How one model is fitted (Adam with AMSGrad and L2; cross-entropy with balanced class weights)."""

    backbone: str = "efficientnet_lite0"
    weights: str = Field(
        "auto", description="none, auto (pretrained where they are at hand), torchvision (fetched) or a local file"
    )
    planes: Planes = Field("texture", description="what the network sees: rgb, or texture (local contrast)")
    clumps: Clumps = Field("kept", description="dark clumps of multi-layer flasks: kept or masked out")
    equalisation: Equalisation = Field("none", description="of the histogram: none, equalise or clahe (tile by tile)")
    image_size: int = Field(128, ge=32, le=1024, description="side, in pixels, that images are resized to")
    epochs: int = Field(16, ge=1)
    patience: int = Field(16, ge=1, description="epochs without a better validation loss before stopping")
    batch_size: int = Field(16, ge=2)
    micro_batch: int | None = Field(
        None, ge=2, description="images of a batch that a process computes at once; default: all of its share"
    )
    learning_rate: float | None = Field(None, gt=0, description="fixed rate; None takes the search's best")
    backbone_rate: float = Field(1.0, gt=0, le=1, description="the backbone's share of the learning rate")
    schedule: Literal["cosine", "constant"] = Field("cosine", description="course of the learning rate")
    weight_decay: float = Field(1e-5, ge=0, description="L2 coefficient")
    dropout: Fraction = 0.5
    gradient_clip: float = Field(1.0, gt=0, description="largest gradient norm")
    augmentations: Annotated[tuple[Augmentation, ...], BeforeValidator(_names)] | None = Field(
        None, description="names with commas between them, '' for none; default: those that keep fine detail"
    )
    processes: int = Field(1, ge=1, description="training processes; above 1 it runs under torchrun")
    seed: int = 0

    @property
    def chosen_augmentations(self) -> tuple[Augmentation, ...]:
        """What is done to training images; see decision 55 for what is done where nothing is said."""
        if self.augmentations is not None:
            return self.augmentations
        return GEOMETRIC if self.planes == "texture" else (*GEOMETRIC, "colour_jitter")

    @model_validator(mode="after")
    def _planes_bear_the_augmentations(self) -> Self:
        alien = [name for name in self.augmentations or () if self.planes == "texture" and name in PHOTOMETRIC]
        if alien:
            raise ValueError(
                f"augmentations '{alien[0]}' would change what planes 'texture' measure; leave it out, or set planes "
                "to rgb"
            )
        return self


class DetectionSettings(Section):
    """How abnormal cells are found in an image; how the network is fitted is in the section training."""

    positive: Annotated[tuple[str, ...], BeforeValidator(_names), Field(min_length=1)] = Field(
        (ABNORMAL_LABEL,), description="labels of the boxes that are abnormal cells, with commas between them"
    )
    width: int = Field(96, ge=8, le=1024, description="channels of the feature pyramid and of the two heads")
    depth: int = Field(2, ge=1, le=8, description="convolutions of each head before its last")
    finest: Literal[2, 3] = Field(3, description="finest level of the pyramid: one cell for 4 (2) or 8 (3) pixels")
    iou: float = Field(0.5, gt=0, lt=1, description="overlap from which on a found box counts as the true one")
    suppression: float = Field(0.4, gt=0, lt=1, description="of two boxes that overlap more, the weaker is dropped")
    min_score: float = Field(0.02, gt=0, lt=1, description="boxes with a lower score are never given")
    max_boxes: int = Field(100, ge=1, le=1000, description="most boxes found in one image")


class SearchSettings(Section):
    """How the learning rate is searched."""

    trials: int = Field(5, ge=1)
    epochs: int = Field(5, ge=1, description="epochs of one trial")
    sampler: Literal["tpe", "random"] = "tpe"
    scale: Literal["log", "linear"] = "log"
    low: float = Field(LEARNING_RATE_RANGE[0], gt=0)
    high: float = Field(LEARNING_RATE_RANGE[1], gt=0)
    prune: bool = True
    seed: int = 0
    storage: str | None = Field(None, description="Optuna storage URL; default: a journal file under the home")

    @model_validator(mode="after")
    def _range_ascends(self) -> Self:
        if self.low >= self.high:
            raise ValueError(f"search.low {self.low} must be below search.high {self.high}")
        return self


class EvaluationSettings(Section):
    """What a model is given to know its limits by, on validation images."""

    false_abstain: float = Field(
        FALSE_ABSTAIN, gt=0, lt=0.5, description="share of images like the training's that may be held to be foreign"
    )


class GateSettings(Section):
    """The floors that a model must reach, and what it may lose against the champion."""

    policy: Literal["auto", "approval"] = Field(
        "auto", description="auto: what passes is released; approval: it waits for 'mscflow models approve'"
    )
    min_accuracy: Fraction = 0.5
    min_within_one_class: Fraction = 0.85
    max_missed_overgrowth: Fraction = Field(0.34, description="share of class 4 called 1 or 2")
    min_class_recall: Fraction = Field(0.25, description="share of each class that must be called by its name")
    max_calibration_error: Fraction = Field(0.2, description="mean gap between confidence and accuracy")
    beat_majority: bool = Field(True, description="accuracy must exceed that of always naming the commonest class")
    margin: Fraction = Field(
        0.05, description="accuracy (a detector: F1) that a challenger may at most have lost against the champion"
    )
    confidence: float = Field(0.9, ge=0.5, lt=1, description="with which it is shown to have lost no more")
    max_loss: Fraction = Field(0.0, description="of that, what it may have lost on the test images themselves")
    slice_margin: Fraction = Field(0.1, description="the same within one class, or one value of a field")
    slice_images: int = Field(40, ge=1, description="test images from which on a slice is held to that margin")
    slice_groups: int = Field(10, ge=2, description="groups (vessels) from which on it is")
    max_latency: float = Field(1.0, gt=0, description="seconds that one image may take on one thread")
    max_slowdown: float = Field(3.0, gt=0, description="times the champion's latency, measured here in turn with it")
    max_size: float = Field(500.0, gt=0, description="MB of the exported network")
    min_recall: Fraction = Field(0.5, description="share of the abnormal cells that must be found")
    max_false_discovery: Fraction = Field(0.5, description="share of the found boxes that may be false")
    min_average_precision: Fraction = Field(0.4, description="average precision at the overlap detection.iou")
    bootstrap: int = Field(2000, ge=100, description="resamplings of the paired interval")
    seed: int = 0


class WatchSettings(Section):
    """How new batches are looked for."""

    interval: float = Field(60.0, gt=0, description="seconds between two looks")
    lease: float = Field(60.0, ge=5, description="seconds after which the batch of a watcher that died is taken over")
    attempts: int = Field(3, ge=1, description="runs that one batch may take before it is left to a person")


class ScreeningSettings(Section):
    """What a new batch must be like before anything is learnt from it."""

    false_stop: float = Field(
        0.01, gt=0, lt=0.5, description="share of rightly labelled batches that may be stopped for their labels"
    )
    margin: Fraction = Field(
        0.05, description="disagreement with the champion, beyond its known error, that is not held against the labels"
    )
    similarity: float = Field(
        0.9, gt=0.5, le=1, description="likeness from which on an image is a copy of another, encoded or sized anew"
    )
    max_class_shift: Fraction | None = Field(
        None, description="change of the classes' shares above which a batch is stopped; default: it is told"
    )
    max_statistics_shift: float | None = Field(
        None, gt=0, description="change of the images' statistics, in SD, above which a batch is stopped; default: told"
    )
    seed: int = 0


class DriftSettings(Section):
    """When a new batch is said to look different from those before it."""

    false_alarm: float = Field(0.05, gt=0, lt=0.5, description="share of batches like those before that may be called")
    permutations: int = Field(2000, ge=200, description="of the groups, for each test")
    seed: int = 0


class RetrainSettings(Section):
    """How a new model is learnt once a batch is admitted."""

    start: Literal["both", "champion", "scratch"] = Field(
        "both", description="first weights; both: whichever does better on validation images"
    )
    rate: float = Field(
        0.3, gt=0, le=1, description="share of the learning rate at which the champion's weights are trained on"
    )
    trials: int = Field(2, ge=1, description="trials of the search, where the champion's has taught something")


class StudySettings(Section):
    """How a cross-validation over backbones and modalities is run."""

    folds: int = Field(5, ge=2, le=20)
    processes: int | None = Field(
        None, ge=1, description="folds made at a time; default: one a GPU, or without any one a core"
    )


def _absolute(path: Path) -> Path:
    return path.expanduser().absolute()


OwnFile = Annotated[Path, AfterValidator(_absolute)]


class ServingSettings(Section):
    """Where the endpoint listens, how much it takes at once, and whom it asks who they are."""

    host: str = Field("127.0.0.1", description="address to listen on")
    port: Port = Field(8080, description="port of REST; 0 takes a free one")
    grpc_port: Port = Field(8081, description="port of gRPC; 0 takes a free one")
    threads: int = Field(2, ge=1, description="requests that are decoded and inferred at once")
    inference_threads: int = Field(1, ge=1, description="threads that share the inference of one request")
    queue: int = Field(16, ge=1, description="requests that may wait; more are answered 503")
    max_image_bytes: int = Field(50_000_000, ge=1, description="bytes of one encoded image")
    max_pixels: int = Field(100_000_000, ge=1, description="pixels of one image, checked before it is decoded")
    max_images: int = Field(32, ge=1, description="images that one request may hold")
    max_connections: int = Field(1000, ge=1, description="REST connections; the idlest makes room for one more")
    body_memory: int = Field(
        268_435_456, ge=1, description="bytes of REST bodies in flight; the one that takes longest makes room"
    )
    min_rate: int = Field(32_000, ge=1, description="bytes a second that the body of a REST request must bring")
    drain: float = Field(
        0.2, ge=0, description="seconds that it still takes requests when it stops, and tells clients to go elsewhere"
    )
    token_file: OwnFile | None = Field(None, description="file of bearer tokens, of which a request must bring one")
    tls_certificate: OwnFile | None = Field(None, description="PEM file of the server's certificate; turns TLS on")
    tls_key: OwnFile | None = Field(None, description="PEM file of the certificate's key")
    tls_client_ca: OwnFile | None = Field(
        None, description="PEM file of authorities; clients must show a certificate of theirs"
    )
    start_timeout: float = Field(120.0, gt=0, description="seconds that the endpoint may take to get ready")
    feedback_rate: Fraction = Field(0.0, description="share of the answered requests that is kept for retraining")
    feedback_store: str = Field(
        "", validate_default=True, description="object store that keeps them: a folder or s3://bucket/prefix"
    )
    feedback_keep_days: int = Field(90, ge=1, description="days after which they are deleted")
    feedback_queue: int = Field(64, ge=1, description="of them, those that may wait to be written; more are dropped")

    @field_validator("feedback_store")
    @classmethod
    def _feedback_goes_somewhere(cls, store: str, given: ValidationInfo) -> str:
        if given.data.get("feedback_rate") and not store:
            raise ValueError("give a folder or s3://bucket/prefix, as feedback_rate is above 0")
        return store

    @model_validator(mode="after")
    def _files_go_together(self) -> Self:
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("tls_certificate and tls_key must be given together")
        if self.tls_client_ca is not None and self.tls_certificate is None:
            raise ValueError("tls_client_ca needs tls_certificate and tls_key")
        return self


class Settings(BaseSettings):
    """Everything that can be set; one object a run."""

    model_config = SettingsConfigDict(
        env_prefix="MSCFLOW_", env_nested_delimiter="__", frozen=True, extra="forbid", validate_default=True
    )

    home: Annotated[Path, AfterValidator(_absolute)] = Field(Path(".mscflow"), description="where state lives")
    store: str | None = Field(None, description="object store, a folder or s3://bucket/prefix; default: home/store")
    tracking_uri: str | None = Field(None, description="MLflow; default: MLFLOW_TRACKING_URI, else sqlite in the home")
    preset: Preset = Preset.QUICK
    task: Task = Task.CONFLUENCE
    modality: Modality = Modality.SINGLE_STACK
    data: DataSettings = DataSettings()
    split: SplitSettings = SplitSettings()
    search: SearchSettings = SearchSettings()
    training: TrainingSettings = TrainingSettings()
    detection: DetectionSettings = DetectionSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    gate: GateSettings = GateSettings()
    watch: WatchSettings = WatchSettings()
    screening: ScreeningSettings = ScreeningSettings()
    drift: DriftSettings = DriftSettings()
    retrain: RetrainSettings = RetrainSettings()
    study: StudySettings = StudySettings()
    serving: ServingSettings = ServingSettings()
    cluster: ClusterSettings = ClusterSettings()
    kubeflow: KubeflowSettings = KubeflowSettings()
    trainer: TrainerSettings = TrainerSettings()
    rollout: RolloutSettings = RolloutSettings()

    @model_validator(mode="after")
    def _abnormal_cells_are_in_single_stacks(self) -> Self:
        if self.task == Task.ABNORMAL_CELLS and self.modality != Modality.SINGLE_STACK:
            raise ValueError(f"task {self.task} is for modality {Modality.SINGLE_STACK}, not {self.modality}")
        return self

    @property
    def store_uri(self) -> str:
        """URI of the object store."""
        return self.store or str(self.home / "store")

    @property
    def mlflow_uri(self) -> str:
        """URI of the MLflow tracking server and registry."""
        return self.tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or sqlite_uri(self.home / "mlflow.db")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Order the layers, the strongest first; see the module's docstring."""
        toml = TomlConfigSettingsSource(settings_cls, _toml_file())
        return init_settings, _Environment(settings_cls), toml, _Preset(settings_cls)


# What each preset changes in the defaults. `paper` is the study's protocol (PAPER: Method; the
# patience, batch size and weight decay are those of the authors' published script).
PRESETS: dict[Preset, dict[str, Any]] = {
    # What is learnt from simulated cultures holds in any laboratory: a fit may bend it, not wipe it out. It is for
    # single-stack images; where layers out of focus veil the floor, the defaults do better.
    Preset.QUICK: {"training": {"backbone": "cover_net", "backbone_rate": 0.5}},
    Preset.STANDARD: {
        "search": {"trials": 20, "epochs": 8},
        "training": {"backbone": "mobilenet_v3", "image_size": 300, "epochs": 100, "patience": 20},
    },
    Preset.PAPER: {
        "search": {"trials": 30, "epochs": 30, "sampler": "random", "scale": "linear", "prune": False},
        "training": {
            "backbone": "resnet50",
            "image_size": 300,
            "epochs": 1000,
            "patience": 100,
            "batch_size": 8,
            "planes": "rgb",
            "augmentations": ["rotation", "horizontal_flip", "vertical_flip", *PHOTOMETRIC],
            "schedule": "constant",
            "gradient_clip": 0.1,
        },
    },
}


# What the presets become where abnormal cells are looked for. Whatever the network sees has to be
# where it is in the picture, so that it sees the picture itself; images without a class are welcome. The
# paper's detector: the authors' script (PAPER: published code), its images squashed to their shorter side.
_DETECTION: dict[str, Any] = {
    "data": {"unlabelled": True},
    "training": {
        "augmentations": [*GEOMETRIC, *PHOTOMETRIC],
        "planes": "rgb",
        "image_size": 256,
        "epochs": 20,
        "patience": 20,
        "batch_size": 8,
        "learning_rate": 1e-3,
    },
}
DETECTION_PRESETS: dict[Preset, dict[str, Any]] = {
    Preset.QUICK: _DETECTION,
    Preset.STANDARD: {
        "data": {"unlabelled": True},
        "training": {**_DETECTION["training"], "image_size": 384, "epochs": 100, "patience": 30},
        "detection": {"width": 128, "depth": 3},
    },
    Preset.PAPER: {
        "data": {"unlabelled": True},
        "training": {**PRESETS[Preset.PAPER]["training"], "image_size": 608, "learning_rate": 1e-5},
        "detection": {"width": 256, "depth": 4},
    },
}


class _Environment(EnvSettingsSource):
    """The MSCFLOW_* environment; a variable that belongs to no setting is refused, not ignored."""

    # Read by other parts than the settings: a running step's event file and run, what the endpoint's clients show it.
    NOT_SETTINGS = frozenset(
        {"MSCFLOW_EVENTS", "MSCFLOW_RUN", "MSCFLOW_CONFIG", "MSCFLOW_REAL_DATA", "MSCFLOW_PYTHON"}
        | {"MSCFLOW_ACTOR", "MSCFLOW_PATIENCE", "MSCFLOW_TOKEN", "MSCFLOW_CA", "MSCFLOW_CERTIFICATE", "MSCFLOW_KEY"}
        | {"MSCFLOW_KUBEFLOW_TOKEN", "MSCFLOW_KUBEFLOW_COOKIE"}
        | {"MSCFLOW_TRAIN_IMAGE", "MSCFLOW_CONTROL_IMAGE", "MSCFLOW_PREDICT_IMAGE"}
    )

    def __call__(self) -> dict[str, Any]:
        fields = self.settings_cls.model_fields
        for name in os.environ:
            if not name.startswith("MSCFLOW_") or name in self.NOT_SETTINGS:
                continue
            if name.removeprefix("MSCFLOW_").split("__")[0].lower() not in fields:
                raise SettingsError(f"environment variable {name} is not a setting of mscflow; unset it")
        return super().__call__()


def sqlite_uri(path: Path) -> str:
    """Give the URI of a sqlite file; only what would end or alter the path is encoded, as MLflow half decodes it."""
    return "sqlite:///" + str(path).replace("%", "%25").replace("?", "%3F")


def _toml_file() -> Path:
    return Path(os.environ.get("MSCFLOW_CONFIG", "mscflow.toml"))


class _Preset(PydanticBaseSettingsSource):
    """What the chosen preset changes; it lies just above the defaults."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """Unused: the preset gives whole sections at once."""
        raise NotImplementedError

    def __call__(self) -> dict[str, Any]:
        chosen = str(self.current_state.get("preset", Preset.QUICK))
        presets = DETECTION_PRESETS if self.current_state.get("task") == Task.ABNORMAL_CELLS else PRESETS
        if presets is PRESETS and self.current_state.get("modality") == Modality.MULTI_STACK:
            presets = {**PRESETS, Preset.QUICK: {}}
        return presets[Preset(chosen)] if chosen in set(Preset) else {}


def load_settings(**overrides: Any) -> Settings:
    """Build the settings from all their layers.

    Args:
        overrides: What the command line gave; nested sections as dictionaries, None for 'not given'.

    Raises:
        SettingsError: naming the setting, its value and what it must be.
    """
    config = os.environ.get("MSCFLOW_CONFIG")
    if config and not Path(config).is_file():
        raise SettingsError(f"MSCFLOW_CONFIG '{config}' is not a file")
    try:
        return Settings(**_without_none(overrides))
    except ValidationError as error:
        raise SettingsError(_sentence(error)) from error
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{_toml_file()} is not valid TOML: {error}") from error
    except PydanticSettingsError as error:
        raise SettingsError(f"an MSCFLOW_* environment variable cannot be read: {error}") from error


def _without_none(tree: dict[str, Any]) -> dict[str, Any]:
    kept = {key: _without_none(value) if isinstance(value, dict) else value for key, value in tree.items()}
    return {key: value for key, value in kept.items() if value is not None and value != {}}


def _sentence(error: ValidationError) -> str:
    first = error.errors()[0]
    name = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        return f"'{name}' is not a setting of mscflow; see 'mscflow settings' for those that are"
    others = f" ({error.error_count() - 1} more)" if error.error_count() > 1 else ""
    message = first["msg"].removeprefix("Value error, ")
    return f"setting '{name}' is {first['input']!r}: {message}{others}" if name else f"settings: {message}{others}"
