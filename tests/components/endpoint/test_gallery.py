import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from components.endpoint.gallery import Gallery, owner
from components.endpoint.prediction import Prediction
from components.endpoint.sources import expand
from components.errors import ImageError, StorageError

PREDICTION = Prediction(
    confluence_class=1,
    name="seeding",
    probabilities={},
    confidence=1.0,
    decision="seeding",
    abstain=False,
    reason=None,
    model="m",
    model_version="1",
    data_version="d",
    digest="e",
)


@pytest.fixture
def images(tmp_path: Path) -> list[Path]:
    names = ("a/x.png", "b/x.png", "b/x.jpg", "b/deep/y.tif")
    return [picture(tmp_path / "images" / name) for name in names]


def picture(path: Path, size: tuple[int, int] = (50, 40)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (90, 90, 90)).save(path)
    return path


def names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_each_image_has_a_place_of_its_own_and_keeps_it(tmp_path: Path, images: list[Path]) -> None:
    out = tmp_path / "out"
    first = [Gallery(out, images).add(image, PREDICTION) for image in images]
    assert first[:2] == [out / "a/x.png", out / "b/x.png"]
    assert first[2].parent == out / "b"
    assert first[3] == out / "b/deep/y.png"
    assert len(names(out)) == 4
    again = [Gallery(out, images).add(image, PREDICTION) for image in reversed(images)]
    assert again == first[::-1]
    assert len(names(out)) == 4


def test_images_of_one_name_have_places_of_their_own_though_drawn_at_once(tmp_path: Path) -> None:
    images = [picture(tmp_path / f"x.{suffix}") for suffix in ("png", "jpg", "tif", "bmp")]
    gallery = Gallery(tmp_path / "out", images)
    with ThreadPoolExecutor(4) as threads:
        places = list(threads.map(lambda image: gallery.add(image, PREDICTION), images))
    assert len(set(places)) == 4
    assert len(names(tmp_path / "out")) == 4


def test_runs_on_other_images_do_not_take_each_others_places(tmp_path: Path, images: list[Path]) -> None:
    out = tmp_path / "out"
    places = {Gallery(out, [image]).add(image, PREDICTION) for image in images[:2]}
    assert len(places) == 2
    assert out / "x.png" in places


def test_an_image_is_never_written_over(tmp_path: Path, images: list[Path]) -> None:
    before = images[0].read_bytes()
    place = Gallery(images[0].parent, images[:1]).add(images[0], PREDICTION)
    assert images[0].read_bytes() == before
    assert place.parent == images[0].parent
    assert expand([images[0].parent]) == [images[0]]
    assert expand([place]) == [place]
    assert owner(place) is not None
    assert owner(images[0]) is None


def test_a_file_in_the_only_place_left_is_kept(tmp_path: Path, images: list[Path]) -> None:
    place = Gallery(images[0].parent, images[:1]).add(images[0], PREDICTION)
    place.write_text("mine")
    with pytest.raises(StorageError, match="give another folder with --overlays"):
        Gallery(images[0].parent, images[:1]).add(images[0], PREDICTION)
    assert place.read_text() == "mine"


def test_dots_in_a_path_do_not_lead_out_of_the_folder(
    tmp_path: Path, images: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(images[0].parent)
    given = [Path("x.png"), Path("../b/x.png")]
    gallery = Gallery(Path("out"), given)
    assert [gallery.add(image, PREDICTION) for image in given] == [Path("out/a/x.png"), Path("out/b/x.png")]


def test_the_picture_is_upright(tmp_path: Path) -> None:
    path = tmp_path / "turned.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    image = np.zeros((600, 900, 3), np.uint8)
    image[:, :450] = 255
    Image.fromarray(image).save(path, exif=exif, quality=95)
    shown = Image.open(Gallery(tmp_path / "out", [path]).add(path, PREDICTION))
    upright = np.asarray(ImageOps.exif_transpose(Image.open(path)))
    assert shown.width == 600
    assert np.abs(np.asarray(shown)[:900].astype(int) - upright).max() < 2


@pytest.mark.parametrize("mode", ["I;16", "L", "P", "RGBA", "CMYK", "F"])
def test_whatever_the_endpoint_reads_can_be_drawn(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "image.tif"
    Image.new("L", (60, 50), 120).convert("P" if mode == "P" else mode).save(path)
    with Image.open(Gallery(tmp_path / "out", [path]).add(path, PREDICTION)) as shown:
        assert shown.mode == "RGB"


def test_what_stops_it_leaves_no_part_of_a_file(
    tmp_path: Path, images: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(self, file, *_args, **_options):
        Path(file).write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(Image.Image, "save", interrupted)
    with pytest.raises(KeyboardInterrupt):
        Gallery(tmp_path / "out", images).add(images[0], PREDICTION)
    assert names(tmp_path / "out") == []


def test_an_image_that_has_gone_is_named(tmp_path: Path, images: list[Path]) -> None:
    gallery = Gallery(tmp_path / "out", images)
    images[0].unlink()
    with pytest.raises(ImageError, match=r"x\.png: the file cannot be read \(No such file"):
        gallery.add(images[0], PREDICTION)


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path, images: list[Path]) -> None:
    with pytest.raises(StorageError, match=r"x\.png' cannot be made \(File exists\); give another --overlays"):
        Gallery(images[0], images)


def test_a_full_disk_is_told_and_leaves_nothing(small_disk: Path, tmp_path: Path) -> None:
    path = tmp_path / "noise.png"
    Image.frombytes("RGB", (600, 600), os.urandom(600 * 600 * 3)).save(path)
    with pytest.raises(StorageError, match=r"cannot be written .*; make room"):
        Gallery(small_disk / "out", [path]).add(path, PREDICTION)
    assert names(small_disk) == []


def test_its_end_waits_for_what_is_being_drawn(
    tmp_path: Path, images: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, save = threading.Event(), Image.Image.save

    def slowly(self, *given, **options):
        begun.set()
        time.sleep(0.1)
        save(self, *given, **options)

    monkeypatch.setattr(Image.Image, "save", slowly)
    with Gallery(tmp_path / "out", images) as gallery:
        threading.Thread(target=gallery.add, args=(images[0], PREDICTION), daemon=True).start()
        begun.wait(10)
    assert names(tmp_path / "out") == ["a/x.png"]
