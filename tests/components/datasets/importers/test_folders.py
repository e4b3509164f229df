import pytest

from components.errors import DataError


def test_folders_give_the_class_wherever_they_lie(tree):
    tree.add("data/1/a.png", "data/2/b.JPEG", "data/media_change/c.tif", "data/Overgrown/plate 7/d.bmp")
    labels = {path: int(fields["confluence_class"]) for path, fields in tree.fields().items()}
    assert labels == {
        "data/1/a.png": 1,
        "data/2/b.JPEG": 2,
        "data/media_change/c.tif": 2,
        "data/Overgrown/plate 7/d.bmp": 4,
    }


def test_other_files_and_hidden_ones_are_ignored(tree):
    tree.add("1/a.png", "1/._a.png", "1/Thumbs.db", "__MACOSX/1/a.png", ".cache/2/b.png", "readme.txt")
    assert list(tree.fields()) == ["1/a.png"]


def test_images_outside_class_folders_are_left_out_and_counted(tree):
    tree.add("1/a.png", "unsorted/b.png", "c.png")
    assert tree.find().left_out == {"without a confluence class": 2}
    assert len(tree.find(unlabelled=True)) == 3


@pytest.mark.parametrize("name", ["5", "0", "-1", "12"])
def test_a_number_that_is_no_class(tree, name):
    tree.add("1/a.png", f"{name}/b.png")
    with pytest.raises(DataError, match=f"folder '{name}' is not named after a class from 1 to 4"):
        tree.find()


def test_a_plain_folder_needs_labels(tree):
    tree.add("a.png", "b.png")
    with pytest.raises(
        DataError, match=r"left out: 2 without a confluence class .*or name their classes in labels.csv"
    ):
        tree.find()
    assert len(tree.find(unlabelled=True)) == 2
