import pytest

from components.datasets.manifest import Box
from components.errors import DataError


def test_boxes_and_images_without_any(tree):
    tree.add("images/a.png", "images/b.png", "images/c.png", "images/d.png")
    tree.add("train.csv", content="images/b.png,1,2,30,40,Flatten\nimages/a.png,,,,,\nimages/b.png,5,6,7,8,normal\n")
    tree.add("val.csv", content="images/c.png,0,0,9,9,Flatten\n")
    tree.add("classes.csv", content="Flatten,0\nnormal,1\n")
    found = tree.find(unlabelled=True)
    assert (found.layout, found.left_out) == ("retinanet", {"not named by the labels": 1})
    assert tree.fields(unlabelled=True) == {
        "images/a.png": {"boxes": ()},
        "images/b.png": {"boxes": (Box(1, 2, 30, 40, "Flatten"), Box(5, 6, 7, 8, "normal"))},
        "images/c.png": {"boxes": (Box(0, 0, 9, 9, "Flatten"),)},
    }


def test_paths_are_relative_to_the_table_or_to_the_root(tree):
    tree.add("sets/images/a.png", "sets/images/b.png")
    tree.add("sets/lists/train.csv", content="../images/a.png,1,2,3,4,x\nsets/images/b.png,,,,,\n")
    assert list(tree.fields(unlabelled=True)) == ["sets/images/a.png", "sets/images/b.png"]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("lost.png,1,2,3,4,x\n", r"train.csv row 2: the file 'lost.png' does not exist"),
        ("a.png,1,2,3,4\n", r"train.csv row 2 has 5 cells; it must have 6"),
        ("a.png,1,2,3,four,x\n", r"train.csv row 2: y2 'four' is not a number"),
        ("a.png,1,2,3,4,\n", r"train.csv row 2: the box has no class"),
    ],
)
def test_what_is_wrong_is_named(tree, row, message):
    tree.add("a.png").add("train.csv", content="a.png,1,2,3,4,x\n" + row)
    with pytest.raises(DataError, match=message):
        tree.find(unlabelled=True)
