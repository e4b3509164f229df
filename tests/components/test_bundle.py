from datetime import UTC, datetime
from pathlib import Path

import pytest

from components.bundle import KNOWN_IMAGE_FILE, MODEL_FILE, Bundle, KnownAnswer, file_digest, read_bundle, write_bundle
from components.culture import Modality
from components.errors import IntegrityError
from components.imaging import Preprocessing

FILES = (MODEL_FILE, KNOWN_IMAGE_FILE)


@pytest.fixture
def bundle(tmp_path: Path) -> tuple[Path, str]:
    for name in FILES:
        (tmp_path / name).write_bytes(b"content of " + name.encode())
    written = write_bundle(
        tmp_path,
        Bundle(
            model_name="confluence-single-stack",
            modality=Modality.SINGLE_STACK,
            backbone="tiny",
            classes=("seeding", "media change", "subculture", "overgrown"),
            preprocessing=Preprocessing(size=32),
            temperature=1.5,
            min_confidence=0.4,
            known=KnownAnswer(probabilities=(0.7, 0.1, 0.1, 0.1)),
            data_version="a" * 64,
            split_id="b" * 64,
            code_version="0.1.0",
            created=datetime(2026, 1, 1, tzinfo=UTC),
            metrics={"accuracy": 0.9},
            files={name: file_digest(tmp_path / name) for name in FILES},
        ),
    )
    return tmp_path, written


def test_a_bundle_is_read_as_it_was_written(bundle: tuple[Path, str]) -> None:
    folder, digest = bundle
    read, read_digest = read_bundle(folder, digest)
    assert read_digest == digest
    assert read.temperature == 1.5


def test_altered_weights_are_refused(bundle: tuple[Path, str]) -> None:
    folder, digest = bundle
    (folder / MODEL_FILE).write_bytes(b"other weights")
    with pytest.raises(IntegrityError, match=r"model\.onnx has digest"):
        read_bundle(folder, digest)


def test_missing_weights_are_refused(bundle: tuple[Path, str]) -> None:
    folder, digest = bundle
    (folder / MODEL_FILE).unlink()
    with pytest.raises(IntegrityError, match=r"model\.onnx is missing"):
        read_bundle(folder, digest)


def test_an_altered_description_is_refused_by_the_registry_s_digest(bundle: tuple[Path, str]) -> None:
    folder, digest = bundle
    path = folder / "bundle.json"
    path.write_text(path.read_text().replace("1.5", "9.5"))
    with pytest.raises(IntegrityError, match="the registry records"):
        read_bundle(folder, digest)


def test_an_empty_folder_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(IntegrityError, match="no model"):
        read_bundle(tmp_path)


def test_a_field_that_this_version_does_not_know_is_refused(bundle: tuple[Path, str]) -> None:
    folder, _ = bundle
    path = folder / "bundle.json"
    path.write_text(path.read_text().replace('"backbone"', '"spine"'))
    with pytest.raises(IntegrityError, match="not a bundle of this format"):
        read_bundle(folder)
