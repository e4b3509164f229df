import os
from pathlib import Path

import pytest

from components.culture import Modality
from components.datasets.importers import find_images, layout_names
from components.errors import DataError, StorageError
from components.storage import open_store


def test_no_such_path(tmp_path):
    with pytest.raises(StorageError, match="missing"):
        find_images(open_store(tmp_path / "missing", must_exist=True))


def test_no_images(tree):
    tree.add("notes.txt", "1/readme.md")
    with pytest.raises(DataError, match=r"holds no images \(\.bmp, \.jpeg, \.jpg, \.png, \.tif, \.tiff\)"):
        tree.find()


def test_a_layout_may_be_named(tree):
    tree.add("1/a.png").add("labels.csv", content="file,class\n1/a.png,2\n")
    assert tree.fields()["1/a.png"]["confluence_class"] == 2
    assert tree.fields(layout="folders")["1/a.png"]["confluence_class"] == 1
    with pytest.raises(DataError, match="layout 'coco' is not one of labels, study, folders, voc, retinanet"):
        tree.find(layout="coco")
    assert len(layout_names()) == 5


@pytest.mark.parametrize("layout", ["labels", "retinanet"])
def test_a_named_layout_that_does_not_fit(tree, layout):
    tree.add("1/a.png")
    with pytest.raises(DataError):
        tree.find(layout=layout)


def test_images_ascend_and_can_be_gone_through_twice(tree):
    names = [f"{n % 4 + 1}/{n:03}.png" for n in range(50)] + ["1/a b.png", "1/é.png"]
    found = tree.add(*reversed(names)).find()
    assert [image.key for image in found] == sorted(names) == [image.key for image in found]


def test_fingerprint_and_size_come_from_the_store(tree):
    (image,) = tree.add("1/a.png", content=b"12345").find()
    assert image.info == open_store(tree.folder).stat("1/a.png")
    assert image.info.size == 5


def test_s3_is_read_like_a_folder(s3_uri):
    store = open_store(f"{s3_uri}/plant/batch 1")
    store.write("images/ä 1.png", b"image")
    store.write("images/b.png", b"image")
    store.write("labels.csv", "file,class,vessel\nimages/ä 1.png,2,v1\nimages/b.png,,\n".encode())
    store.write("boxes.csv", "file,x1,y1,x2,y2,class\nimages/ä 1.png,1,2,3,4,cell\n".encode())
    found = find_images(store)
    (image,) = found
    assert (image.key, image.metadata["vessel"], len(image.metadata["boxes"])) == ("images/ä 1.png", "v1", 1)
    assert found.left_out == {"without a confluence class": 1}


needs_real_data = pytest.mark.skipif("MSCFLOW_REAL_DATA" not in os.environ, reason="MSCFLOW_REAL_DATA is not set")


@needs_real_data
def test_the_real_images():
    source = open_store(Path(os.environ["MSCFLOW_REAL_DATA"]))
    labelled = find_images(source, modality=Modality.SINGLE_STACK)
    assert labelled.left_out == {"without a confluence class": 320}
    images = list(labelled)
    counts = [sum(image.metadata["confluence_class"] == label for image in images) for label in (1, 2, 3, 4)]
    assert counts == [71, 46, 29, 33]
    assert len({image.metadata["group"] for image in images}) == 58
    everything = list(find_images(source, unlabelled=True))
    assert len(everything) == 499
    assert sum(len(image.metadata["boxes"] or ()) for image in everything) == 4813
