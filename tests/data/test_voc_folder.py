# SPDX-License-Identifier: Apache-2.0
"""Pascal VOC folders: what is read, what is dropped, what is refused."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.data import data_path
from support.datasets import NAMES, make_record

from ssdops.data import DroppedObjectsWarning, Record, read_voc, write_voc

WIDTH, HEIGHT = 40, 20
BOMB = (
    '<!DOCTYPE a [<!ENTITY x "ha"><!ENTITY y "&x;&x;&x;&x;">]>'
    "<annotation>&y;</annotation>"
)


def object_xml(xmin, ymin, xmax, ymax, name="cat", extra=""):
    return (
        f"<object><name>{name}</name>{extra}<bndbox><xmin>{xmin}</xmin>"
        f"<ymin>{ymin}</ymin><xmax>{xmax}</xmax><ymax>{ymax}</ymax></bndbox></object>"
    )


def annotation(*objects, size=f"<width>{WIDTH}</width><height>{HEIGHT}</height>"):
    return f"<annotation><size>{size}</size>{''.join(objects)}</annotation>"


def make_folder(folder: Path, xml: str | bytes, image_format: str = "JPEG") -> Path:
    for name in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (folder / name).mkdir(parents=True)
    Image.new("RGB", (WIDTH, HEIGHT)).save(folder / "JPEGImages/a.jpg", image_format)
    (folder / "ImageSets/Main/train.txt").write_text("a\n")
    content = xml if isinstance(xml, bytes) else xml.encode()
    (folder / "Annotations/a.xml").write_bytes(content)
    return folder


def test_corners_are_divided_as_they_stand(tmp_path):
    xml = annotation(object_xml(1, 1, WIDTH, HEIGHT))
    record = read_voc(make_folder(tmp_path, xml)).records[0]
    np.testing.assert_array_equal(
        record.boxes, np.array([[1 / HEIGHT, 1 / WIDTH, 1, 1]], np.float32)
    )
    assert record.labels.tolist() == [1]
    assert record.image_id == "a"


@pytest.mark.parametrize(
    "size",
    [
        "",
        "<width>0</width><height>0</height>",
        "<width>nan</width><height>9</height>",
        "<width>9</width><height>inf</height>",
    ],
)
def test_a_useless_size_falls_back_to_the_image(tmp_path, size):
    xml = annotation(object_xml(0, 0, WIDTH, HEIGHT), size=size)
    # A PNG that calls itself .jpg, as real folders have them.
    record = read_voc(make_folder(tmp_path, xml, "PNG")).records[0]
    assert record.boxes.tolist() == [[0, 0, 1, 1]]


def test_unusable_boxes_are_dropped_counted_and_reported_once(tmp_path):
    xml = annotation(
        object_xml(1, 1, 9, 9),
        object_xml(5, 5, 5, 9),
        object_xml(9, 9, 5, 5),
        object_xml(100, 1, 120, 9),
        object_xml("nan", 1, 9, 9),
        object_xml(1, 1, "inf", 9),
    )
    folder = make_folder(tmp_path, xml)
    with pytest.warns(DroppedObjectsWarning, match="5 objects") as caught:
        data = read_voc(folder)
    assert len(caught) == 1
    assert data.num_objects == 1
    assert sorted(data.dropped.values()) == [1, 2, 2]


def test_a_box_over_the_border_is_clipped(tmp_path):
    xml = annotation(object_xml(-5, -5, WIDTH + 5, HEIGHT / 2))
    record = read_voc(make_folder(tmp_path, xml)).records[0]
    assert record.boxes.tolist() == [[0, 0, 0.5, 1]]


def test_difficult_is_kept(tmp_path):
    xml = annotation(
        object_xml(1, 1, 9, 9),
        object_xml(2, 2, 8, 8, extra="<difficult>1</difficult>"),
    )
    record = read_voc(make_folder(tmp_path, xml)).records[0]
    assert record.difficult.tolist() == [False, True]


def test_objects_are_grouped_by_class_in_order_of_appearance(tmp_path):
    xml = annotation(
        object_xml(1, 1, 9, 9, "dog"),
        object_xml(1, 1, 8, 8, "cat"),
        object_xml(1, 1, 7, 7, "dog"),
    )
    data = read_voc(make_folder(tmp_path, xml))
    assert data.class_names == ("background", "cat", "dog")
    assert data.records[0].labels.tolist() == [2, 2, 1]


@pytest.mark.parametrize("names", [["dog", "cat"], ["background", "dog", "cat"]])
def test_given_class_names_fix_the_ids(tmp_path, names):
    folder = make_folder(tmp_path, annotation(object_xml(1, 1, 9, 9)))
    data = read_voc(folder, class_names=names)
    assert data.class_names == ("background", "dog", "cat")
    assert data.records[0].labels.tolist() == [2]


def test_an_unknown_class_names_file_and_class(tmp_path):
    folder = make_folder(tmp_path, annotation(object_xml(1, 1, 9, 9)))
    with pytest.raises(ValueError, match=r"a\.xml: class 'cat'"):
        read_voc(folder, class_names=["dog"])


@pytest.mark.parametrize(
    "xml",
    [
        BOMB,
        "",
        "no xml",
        "<annotation>",
        b"<annotation>\0</annotation>",
        "<html/>",
        '<?xml version="1.0" encoding="nope"?><annotation/>',
        '<?xml version="1.0" encoding="shift_jis"?><annotation/>',
        annotation("<object><bndbox/></object>"),
        annotation("<object><name>cat</name></object>"),
        annotation(object_xml(1, "one", 9, 9)),
    ],
    ids=lambda xml: str(xml)[:40],
)
def test_hostile_or_broken_xml_is_an_error_that_names_the_file(tmp_path, xml):
    with pytest.raises(ValueError, match=r"a\.xml"):
        read_voc(make_folder(tmp_path, xml))


def test_no_other_file_is_read(tmp_path):
    secret = tmp_path / "secret.txt"
    secret.write_text("stolen")
    xml = (
        f'<!DOCTYPE a [<!ENTITY x SYSTEM "{secret.as_uri()}">]>'
        f"{annotation(object_xml(1, 1, 9, 9, '&x;'))}"
    )
    with pytest.raises(ValueError, match="refused"):
        read_voc(make_folder(tmp_path / "voc", xml))


@pytest.mark.parametrize("name", ["../a", "/etc/passwd"])
def test_a_list_cannot_leave_the_folder(tmp_path, name):
    folder = make_folder(tmp_path, annotation())
    (folder / "ImageSets/Main/train.txt").write_text(f"{name}\n")
    with pytest.raises(ValueError, match=r"train\.txt"):
        read_voc(folder)


def test_missing_pieces_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such folder"):
        read_voc(tmp_path / "nowhere")
    folder = make_folder(tmp_path, annotation())
    with pytest.raises(FileNotFoundError, match=r"val\.txt.*train"):
        read_voc(folder, "val")
    (folder / "JPEGImages/a.jpg").unlink()
    with pytest.raises(FileNotFoundError, match="no image"):
        read_voc(folder)
    (folder / "Annotations/a.xml").unlink()
    with pytest.raises(FileNotFoundError, match="no such annotation"):
        read_voc(folder)


@pytest.mark.parametrize(
    ("file", "said"),
    [
        ("old.jpg", "old.jpg"),
        ("old.jpg", "C:\\photos\\old.jpg"),
        ("old.jpg", "old"),
        ("old.jpg", "old.bmp"),
        ("a.png", "old.jpg"),
    ],
)
def test_a_renamed_image_is_found(tmp_path, file, said):
    xml = annotation(object_xml(1, 1, 9, 9)).replace(
        "<size>", f"<filename>{said}</filename><size>"
    )
    folder = make_folder(tmp_path, xml)
    (folder / "JPEGImages/a.jpg").rename(folder / "JPEGImages" / file)
    assert read_voc(folder).records[0].image == folder / "JPEGImages" / file


@pytest.mark.parametrize("said", ["..", "../secret.jpg", "b"])
def test_the_image_is_in_the_folder(tmp_path, said):
    xml = annotation().replace("<size>", f"<filename>{said}</filename><size>")
    folder = make_folder(tmp_path, xml)
    (folder / "JPEGImages/a.jpg").rename(folder / "secret.jpg")
    with pytest.raises(FileNotFoundError, match="no image"):
        read_voc(folder)


def test_splits_are_joined(tmp_path):
    folder = make_folder(tmp_path, annotation(object_xml(1, 1, 9, 9)))
    for name in ("b", "c"):
        for path in ("Annotations/a.xml", "JPEGImages/a.jpg"):
            copy = (folder / path).with_stem(name)
            copy.write_bytes((folder / path).read_bytes())
    (folder / "ImageSets/Main/val.txt").write_text("c\na\nb\n")
    data = read_voc(folder, "train+val")
    assert [record.image_id for record in data.records] == ["a", "c", "b"]
    with pytest.raises(FileNotFoundError, match=r"other\.txt"):
        read_voc(folder, "train+other")


def test_without_a_list_every_annotation_counts(tmp_path):
    folder = make_folder(tmp_path, annotation(object_xml(1, 1, 9, 9)))
    assert [r.image_id for r in read_voc(folder, None).records] == ["a"]


def test_what_is_written_is_read_back(tmp_path):
    rng = np.random.default_rng(0)
    low = rng.uniform(0, 0.5, (7, 2))
    boxes = np.concatenate([low, low + 0.3], axis=1).astype(np.float32)
    record = Record(
        image=rng.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8),
        boxes=boxes,
        labels=np.array([1, 1, 1, 2, 2, 3, 3], np.int32),
        difficult=np.array([0, 1, 0, 0, 1, 0, 0], bool),
        image_id="scene",
    )
    names = ("background", "a", "b & <c>", "d")
    write_voc(tmp_path, [record], "train", names)
    data = read_voc(tmp_path, "train", names)
    again = data.records[0]
    np.testing.assert_allclose(again.boxes, boxes, rtol=0, atol=1e-7)
    assert again.labels.tolist() == record.labels.tolist()
    assert again.difficult.tolist() == record.difficult.tolist()
    assert data.class_names == names
    write_voc(tmp_path / "copy", data.records, "train", names)
    copied = tmp_path / "copy/JPEGImages/scene.jpg"
    assert copied.read_bytes() == (tmp_path / "JPEGImages/scene.jpg").read_bytes()


@pytest.mark.parametrize("image_id", ["../x", "/x", "my photo", ""])
def test_an_image_id_that_cannot_be_a_name_is_refused(tmp_path, image_id):
    with pytest.raises(ValueError, match=repr(image_id)):
        write_voc(tmp_path / "in", [make_record(image_id, 1)], "train", NAMES)
    assert not list(tmp_path.rglob("*x*"))


def test_image_ids_may_have_folders(tmp_path):
    write_voc(tmp_path, [make_record("x/y", 1)], "train", NAMES)
    [record] = read_voc(tmp_path, "train").records
    assert record.image == tmp_path / "JPEGImages/x/y.jpg"


def test_a_real_data_set():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        data = read_voc(data_path("bccd/BCCD"), "trainval")
    assert set(data.class_names) == {"background", "Platelets", "RBC", "WBC"}
    assert data.num_objects > 1000
    dropped = [w for w in caught if w.category is DroppedObjectsWarning]
    assert len(dropped) == bool(data.dropped)
