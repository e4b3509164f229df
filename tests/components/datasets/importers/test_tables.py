import pytest

from components.culture import ConfluenceClass, Modality
from components.datasets.manifest import Box
from components.errors import DataError


def test_known_columns_become_fields_and_unknown_ones_are_kept(tree):
    tree.add("a/1.png").add(
        "labels.csv",
        content="file,class,confluence,modality,group,vessel,day,position,donor,lot,passage,batch,source,repo,note\n"
        "a/1.png,2,0.45,multi-stack,g1,v1,3,centre,d1,l1,P4,b1,lab,oist/Usiigaci,\n",
    )
    assert tree.fields() == {
        "a/1.png": {
            "confluence_class": ConfluenceClass.MEDIA_CHANGE,
            "confluence": 0.45,
            "modality": Modality.MULTI_STACK,
            "group": "g1",
            "vessel": "v1",
            "day": 3,
            "position": "centre",
            "donor": "d1",
            "lot": "l1",
            "passage": 4,
            "batch": "b1",
            "source": "lab",
            "extra": {"repo": "oist/Usiigaci"},
        }
    }


@pytest.mark.parametrize(
    ("text", "label"),
    [("1", 1), ("04", 4), ("3.0", 3), ("Media change", 2), ("OVERGROWN", 4), (" subculture ", 3)],
)
def test_ways_to_write_a_class(tree, text, label):
    tree.add("x.png").add("metadata.csv", content=f"file,class\nx.png,{text}\n")
    assert tree.fields()["x.png"]["confluence_class"] == label


def test_rows_without_a_class_are_left_out_and_counted(tree):
    tree.add("a.png", "b.png", "c.png", "d.PNG").add("labels.csv", content="file,class\na.png,1\nb.png,\nc.png,\n")
    found = tree.find()
    assert [image.key for image in found] == ["a.png"]
    assert (found.layout, found.total) == ("labels", 1)
    assert found.left_out == {"without a confluence class": 2, "not named by the labels": 1}
    everything = tree.find(unlabelled=True)
    assert [image.key for image in everything] == ["a.png", "b.png", "c.png"]
    assert everything.left_out == {"not named by the labels": 1}


def test_boxes_keep_their_order_and_none_found_differs_from_none_looked_for(tree):
    tree.add("a.png", "b.png", "c.png")
    tree.add("labels.csv", content="file,class\na.png,1\nb.png,1\nc.png,1\n")
    tree.add(
        "boxes.csv",
        content="file,source,x1,y1,x2,y2,class,area\nb.png,,5,6,7,8,cell,9\na.png,,,,,,,\nb.png,,1,2,3.5,4,Flatten,\n",
    )
    boxes = {path: fields.get("boxes") for path, fields in tree.fields().items()}
    assert boxes == {"a.png": (), "b.png": (Box(5, 6, 7, 8, "cell"), Box(1, 2, 3.5, 4, "Flatten")), "c.png": None}


def test_spreadsheet_habits_are_understood(tree):
    table = '\ufeff file , class \r\n".\\plate 1\\a,b.png", 2 \r\n\r\n'
    tree.add("plate 1/a,b.png").add("labels.csv", content=table)
    assert list(tree.fields()) == ["plate 1/a,b.png"]


def test_the_class_may_follow_from_confluence_or_folder(tree):
    tree.add("x.png").add("labels.csv", content="file,confluence\nx.png,0.8\n")
    assert tree.fields()["x.png"]["confluence_class"] == ConfluenceClass.OVERGROWN
    (tree.folder / "labels.csv").unlink()
    tree.add("3/y.png").add("metadata.csv", content="file,vessel\n3/y.png,v1\n")
    assert tree.fields()["3/y.png"] == {"confluence_class": ConfluenceClass.SUBCULTURE, "vessel": "v1"}


def test_an_empty_class_stays_unknown_whatever_the_confluence(tree):
    tree.add("x.png").add("labels.csv", content="file,class,confluence\nx.png,,0.8\n")
    assert "confluence_class" not in tree.fields(unlabelled=True)["x.png"]


def test_images_of_another_modality_are_left_out(tree):
    tree.add("a.png", "b.png", "c.png")
    tree.add("labels.csv", content="file,class,modality\na.png,1,\nb.png,1,multi_stack\nc.png,1,single_stack\n")
    found = tree.find(modality=Modality.SINGLE_STACK)
    assert [(image.key, image.metadata["modality"]) for image in found] == [
        ("a.png", Modality.SINGLE_STACK),
        ("c.png", Modality.SINGLE_STACK),
    ]
    assert found.left_out == {"of modality multi_stack": 1}


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("file,class\na.png,1\nb.png,5\n", r"labels.csv row 3: class '5' is not one of 1, 2, 3, 4"),
        ("file,class\na.png,0\n", r"labels.csv row 2: class '0'"),
        ("file,class\na.png,1.5\n", r"class '1.5'"),
        ("file,confluence\na.png,85\n", r"row 2: confluence '85' is above 1; .*write 0.85 for 85 %"),
        ("file,confluence\na.png,-0.1\n", r"confluence '-0.1' is below 0"),
        ("file,confluence\na.png,nan\n", r"confluence 'nan' is not a number"),
        ("file,class,day\na.png,1,2.5\n", r"day '2.5' is not a whole number"),
        ("file,class,modality\na.png,1,both\n", r"modality 'both' is not one of single_stack, multi_stack"),
        ("file,class\na.png,1\nlost.png,2\n", r"labels.csv row 3: the file 'lost.png' does not exist;"),
        ("file,class\n../a.png,1\n", r"'../a.png' does not exist"),
        ("file,class\na.png,1\na.png,1\n", r"row 3 names 'a.png' a second time, after labels.csv row 2"),
        ("name,class\na.png,1\n", r"labels.csv has no column 'file', only name, class"),
        ("file;class\na.png;1\n", r"separate the columns by commas"),
        ("file,class,class\na.png,1,2\n", r"the column 'class' twice"),
        ("file,class\na.png,1,2\n", r"row 2 has 3 cells for 2 columns"),
        ("file,class\n,1\n", r"row 2: the cell of column file is empty"),
        ("", r"labels.csv has no column 'file', only nothing"),
        (b"file,class\n\xff\xfe.png,1\n", r"labels.csv is not UTF-8 text"),
        ("file,class\n" + "x" * 200_000 + ",1\n", r"labels.csv is not a CSV table"),
    ],
)
def test_what_is_wrong_in_a_table_is_named(tree, table, message):
    tree.add("a.png", "b.png").add("labels.csv", content=table)
    with pytest.raises(DataError, match=message):
        tree.find()


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("lost.png,1,2,3,4,cell\n", r"boxes.csv row 2: the file 'lost.png' does not exist"),
        ("a.png,1,2,three,4,cell\n", r"boxes.csv row 2: x2 'three' is not a number"),
        ("a.png,1,2,,4,cell\n", r"boxes.csv row 2: x2 '' is not a number"),
        ("a.png,1,2,3,4,\n", r"boxes.csv row 2: the box has no class"),
    ],
)
def test_what_is_wrong_in_the_boxes_is_named(tree, rows, message):
    tree.add("a.png").add("labels.csv", content="file,class\na.png,1\n")
    tree.add("boxes.csv", content="file,x1,y1,x2,y2,class\n" + rows)
    with pytest.raises(DataError, match=message):
        tree.find()


def test_two_tables_contradict_each_other(tree):
    tree.add("a.png").add("labels.csv", "metadata.csv", content="file,class\na.png,1\n")
    with pytest.raises(DataError, match=r"holds both labels.csv and metadata.csv"):
        tree.find()
