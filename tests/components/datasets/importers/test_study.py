import pytest

from components.culture import Modality
from components.datasets.importers import find_images
from components.datasets.manifest import Box
from components.errors import DataError
from components.storage import open_store

SINGLE = "datasets/A_singlestack/training_data"
MULTI = "datasets/B_multistack/training_data"


@pytest.fixture
def study(tree):
    """A tree of the shape that the authors' published code reads."""
    for root in (SINGLE, MULTI):
        for label in (1, 2, 3, 4):
            tree.add(f"{root}/image_classification/train_all/{label}/a{label}.jpg")
        tree.add(f"{root}/image_classification/test/2/t.jpg")
    detection = f"{SINGLE}/object_detection"
    tree.add(f"{detection}/train_images/x.jpg", f"{detection}/train_images/y.jpg", f"{detection}/val_images/z.jpg")
    box = "<bndbox><xmin>3</xmin><ymin>4</ymin><xmax>50</xmax><ymax>60</ymax></bndbox>"
    tree.add(
        f"{detection}/train_annotations/x.xml",
        content=f"<annotation><object><name>Flatten</name>{box}</object></annotation>",
    )
    tree.add(f"{detection}/val_annotations/z.xml", content="<annotation></annotation>")
    return tree.add(f"{SINGLE}/microscope.xml", content="<settings/>")


def test_the_folder_tells_class_modality_and_subset(study):
    fields = study.fields()
    assert len(fields) == 10
    assert study.find().layout == "study"
    assert fields[f"{MULTI}/image_classification/test/2/t.jpg"] == {
        "modality": Modality.MULTI_STACK,
        "confluence_class": 2,
        "extra": {"subset": "test"},
    }
    assert fields[f"{SINGLE}/image_classification/train_all/4/a4.jpg"]["modality"] == Modality.SINGLE_STACK


def test_one_modality_is_taken_at_a_time(study):
    found = study.find(modality=Modality.MULTI_STACK)
    assert all("B_multistack" in image.key for image in found)
    assert (found.total, found.left_out) == (5, {"of modality single_stack": 8})


def test_detection_images_come_with_the_unlabelled(study):
    fields = study.fields(unlabelled=True, modality=Modality.SINGLE_STACK)
    boxes = {path.rpartition("/")[2]: known.get("boxes") for path, known in fields.items() if "detection" in path}
    assert boxes == {"x.jpg": (Box(3, 4, 50, 60, "Flatten"),), "y.jpg": None, "z.jpg": ()}


def test_a_part_of_the_tree_knows_its_modality_from_where_it_lies(study):
    source = open_store(study.folder / MULTI / "image_classification")
    assert {image.metadata["modality"] for image in find_images(source)} == {Modality.MULTI_STACK}


def test_a_class_outside_the_four(study):
    study.add(f"{SINGLE}/image_classification/train_all/5/a.jpg")
    with pytest.raises(DataError, match=r"train_all/5': class '5' is not one of 1, 2, 3, 4"):
        study.find()
