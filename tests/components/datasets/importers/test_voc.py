import pytest

from components.datasets.manifest import Box
from components.errors import DataError


def annotation(*boxes):
    items = "".join(
        f"<object><name>{label}</name><bndbox><xmin>{x1}</xmin><ymin>{y1}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax>"
        "</bndbox></object>"
        for x1, y1, x2, y2, label in boxes
    )
    return f"<annotation><filename>elsewhere.jpg</filename>{items}</annotation>"


@pytest.mark.parametrize(
    ("image", "xml"),
    [
        ("images/a.png", "annotations/a.xml"),
        ("VOC2007/JPEGImages/a.jpg", "VOC2007/Annotations/a.xml"),
        ("plate_images/a.TIF", "plate_annotations/a.XML"),
        ("a.png", "a.xml"),
    ],
)
def test_where_annotations_lie(tree, image, xml):
    tree.add(image).add(xml, content=annotation((1, 2, 30, 40, "Dead Cell"), (5, 6.5, 7, 8, "Living Cell")))
    expected = (Box(1, 2, 30, 40, "Dead Cell"), Box(5, 6.5, 7, 8, "Living Cell"))
    assert tree.fields(unlabelled=True) == {image: {"boxes": expected}}
    assert tree.find(unlabelled=True).layout == "voc"


def test_no_box_differs_from_no_annotation(tree):
    tree.add("images/a.png", "images/b.png").add("annotations/a.xml", content=annotation())
    assert tree.fields(unlabelled=True) == {"images/a.png": {"boxes": ()}, "images/b.png": {}}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("<annotation><object>", r"annotations/b.xml is not well-formed XML"),
        ("<html/>", r"annotations/b.xml is no Pascal VOC annotation: its root is <html>"),
        (annotation((1, "two", 3, 4, "cell")), r"annotations/b.xml object 1: y1 'two' is not a number"),
        ("<annotation><object><name>cell</name></object></annotation>", r"object 1: x1 '' is not a number"),
        ("<annotation><object/></annotation>", r"object 1 has no name and no bndbox"),
    ],
)
def test_a_broken_annotation_is_named(tree, content, message):
    tree.add("images/a.png", "images/b.png").add("annotations/a.xml", content=annotation())
    tree.add("annotations/b.xml", content=content)
    with pytest.raises(DataError, match=message):
        tree.find(unlabelled=True)


def test_an_annotation_without_its_image(tree):
    tree.add("images/a.png").add("annotations/a.xml", "annotations/lost.xml", content=annotation())
    with pytest.raises(DataError, match=r"annotation annotations/lost.xml has no image"):
        tree.find(unlabelled=True)


def test_entities_do_not_explode(tree):
    levels = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 12))
    bomb = f'<!DOCTYPE a [<!ENTITY l0 "ha">{levels}]><annotation><object><name>&l11;</name></object></annotation>'
    tree.add("images/a.png").add("annotations/a.xml", content=bomb)
    with pytest.raises(DataError, match=r"annotations/a.xml is not well-formed XML"):
        tree.find(unlabelled=True)
