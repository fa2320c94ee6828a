# SPDX-License-Identifier: Apache-2.0
"""COCO ground truth: what is read, what is dropped, what is refused."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from support.data import data_path
from support.datasets import (
    HEIGHT,
    NAMES,
    WIDTH,
    assert_same,
    make_dataset,
    make_image,
    make_record,
)

from ssdops.data import (
    Dataset,
    DroppedObjectsWarning,
    read_coco,
    read_dataset,
    write_coco,
)

CATEGORIES = [{"id": 90, "name": "zebra"}, {"id": 3, "name": "Ente"}]


def image_entry(number=5, name="a.jpg", **changes):
    entry = {"id": number, "file_name": name, "width": WIDTH, "height": HEIGHT}
    return {**entry, **changes}


def object_entry(bbox=(1, 2, 10, 5), number=77, **changes):
    entry = {"id": number, "image_id": 5, "category_id": 90, "bbox": list(bbox)}
    return {**entry, **changes}


def make_file(folder, *objects, images=None, categories=CATEGORIES, name="a.json"):
    images = [image_entry()] if images is None else images
    content = {
        "images": images,
        "categories": categories,
        "annotations": list(objects),
    }
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(json.dumps(content))
    make_image(folder / "a.jpg")
    return folder / name


def test_boxes_are_divided_by_the_size_and_ids_become_contiguous(tmp_path):
    path = make_file(
        tmp_path,
        object_entry(area=33.5),
        object_entry((0, 0, WIDTH, HEIGHT), category_id=3, iscrowd=1, area=7),
    )
    data = read_coco(path)
    assert data.class_names == ("background", "Ente", "zebra")
    [record] = data.records
    expected = [[2 / HEIGHT, 1 / WIDTH, 7 / HEIGHT, 11 / WIDTH], [0, 0, 1, 1]]
    np.testing.assert_array_equal(record.boxes, np.array(expected, np.float32))
    assert record.labels.tolist() == [2, 1]
    assert record.crowd.tolist() == [False, True]
    assert record.area.tolist() == [33.5, 7]
    assert record.image_size == (HEIGHT, WIDTH)
    assert record.image == tmp_path / "a.jpg"
    assert data.category_ids == (0, 3, 90)


def test_category_ids_belong_to_names_in_any_order(tmp_path):
    path = make_file(tmp_path, object_entry())
    names = ["gnu", "zebra", "Ente", "emu"]
    data = read_coco(path, class_names=names)
    assert data.records[0].labels.tolist() == [2]
    # The file has no gnu and no emu.
    assert data.category_ids == (0, 91, 90, 3, 92)
    # Some programs count from 0, and call that the background.
    zero = [{"id": 0, "name": "background"}, {"id": 1, "name": "gnu"}]
    path = make_file(tmp_path, categories=zero)
    assert read_coco(path).category_ids == (0, 1)


def test_objects_go_to_their_image_in_the_order_of_the_list(tmp_path):
    make_image(tmp_path / "sub/b.png")
    path = make_file(
        tmp_path,
        object_entry((0, 0, 1, 9)),
        object_entry((0, 0, 2, 9), image_id=-4),
        object_entry((0, 0, 3, 9)),
        images=[image_entry(-4, "sub/b.png"), image_entry(), image_entry(2**40)],
    )
    data = read_coco(path)
    assert [r.image_id for r in data.records] == ["-4", "5", str(2**40)]
    widths = [(r.boxes[:, 3] * WIDTH).round().tolist() for r in data.records]
    assert widths == [[2], [1, 3], []]
    assert data.records[0].image == tmp_path / "sub/b.png"
    assert data.records[1].crowd is None
    assert data.records[1].area is None


def test_what_is_written_is_read_back(tmp_path):
    data = make_dataset()
    write_coco(tmp_path / "out/a.json", data, tmp_path / "out/images")
    again = read_coco(tmp_path / "out/a.json")
    assert_same(again, data)
    for record, original in zip(again.records, data.records, strict=True):
        np.testing.assert_array_equal(record.load_image(), original.image)
    write_coco(tmp_path / "copy.json", again)
    names = [image["file_name"] for image in load(tmp_path / "copy.json")["images"]]
    assert names == ["7.png", "3.png", "12.png"]
    assert_same(read_coco(tmp_path / "copy.json", tmp_path / "out/images"), data)


def load(path):
    return json.loads(path.read_text("utf-8"))


def test_ids_that_are_no_numbers_are_counted_and_areas_are_those_of_boxes(tmp_path):
    records = [make_record("007", 2), make_record("x/y", 1)]
    write_coco(tmp_path / "a.json", Dataset(records, NAMES), tmp_path / "images")
    content = load(tmp_path / "a.json")
    assert [image["id"] for image in content["images"]] == [1, 2]
    assert [image["file_name"] for image in content["images"]] == ["007.png", "x/y.png"]
    box = records[0].boxes[0].astype(np.float64)
    area = (box[2] - box[0]) * (box[3] - box[1]) * HEIGHT * WIDTH
    assert content["annotations"][0]["area"] == pytest.approx(area, rel=1e-12)
    again = read_coco(tmp_path / "a.json")
    np.testing.assert_array_equal(again.records[1].boxes, records[1].boxes)


def test_leading_zeros_make_no_number(tmp_path):
    data = Dataset([make_record("007", 0), make_record("8", 0)], NAMES)
    write_coco(tmp_path / "a.json", data)
    assert [image["id"] for image in load(tmp_path / "a.json")["images"]] == [1, 2]


def test_an_image_id_cannot_write_outside_the_folder(tmp_path):
    data = Dataset([make_record("../x", 1)], NAMES)
    with pytest.raises(ValueError, match=r"'\.\./x'"):
        write_coco(tmp_path / "a.json", data, tmp_path / "images")
    assert not list(tmp_path.rglob("x.png"))


def test_no_image_is_written_over_another(tmp_path):
    data = Dataset([make_record("x", 1), make_record("x.png", 1)], NAMES)
    with pytest.raises(ValueError, match=r"two images .*x\.png"):
        write_coco(tmp_path / "a.json", data, tmp_path / "images")


def test_unusable_boxes_are_dropped_and_counted(tmp_path):
    path = make_file(
        tmp_path,
        object_entry(),
        object_entry((5, 5, 0, 9)),
        object_entry((5, 5, 9, -1)),
        object_entry((1000, 5, 9, 9)),
        object_entry((float("nan"), 5, 9, 9)),
        object_entry((5, 5, float("inf"), 9)),
        object_entry((-5, -5, 500, 500), iscrowd=1, ignore=1, category_id=3),
    )
    with pytest.warns(DroppedObjectsWarning, match="5 objects"):
        data = read_coco(path)
    assert data.dropped == {
        "degenerate (no width or no height)": 2,
        "outside the image": 1,
        "with a corner that is not finite": 2,
    }
    [record] = data.records
    assert record.boxes[1].tolist() == [0, 0, 1, 1]
    assert record.labels.tolist() == [2, 1]
    assert record.crowd.tolist() == [False, True]
    assert record.difficult.tolist() == [False, True]


def test_an_ignored_object_is_difficult(tmp_path):
    path = make_file(tmp_path, object_entry(ignore=1), object_entry(ignore=0))
    assert read_coco(path).records[0].difficult.tolist() == [True, False]


@pytest.mark.parametrize("size", [{"width": None}, {"height": 0, "width": 0}])
def test_a_size_that_is_not_told_is_that_of_the_image(tmp_path, size):
    path = make_file(tmp_path, object_entry(), images=[image_entry(**size)])
    assert read_coco(path).records[0].image_size == (HEIGHT, WIDTH)


def test_given_class_names_fix_the_ids(tmp_path):
    path = make_file(tmp_path, object_entry())
    data = read_coco(path, class_names=["zebra", "other"])
    assert data.class_names == ("background", "zebra", "other")
    assert data.records[0].labels.tolist() == [1]
    with pytest.raises(ValueError, match=r"a\.json: class 'zebra'"):
        read_coco(path, class_names=["Ente"])


@pytest.mark.parametrize("number", [0, 95])
def test_a_category_for_the_background_is_none(tmp_path, number):
    categories = [{"id": number, "name": "background"}, {"id": 90, "name": "b"}]
    path = make_file(tmp_path, object_entry(), categories=categories)
    assert read_coco(path).class_names == ("background", "b")


@pytest.mark.parametrize(
    ("json_name", "image"),
    [
        ("x.json", "a.jpg"),
        ("x.json", "images/a.jpg"),
        ("annotations/instances_train2017.json", "train2017/a.jpg"),
        ("annotations/instances_train2017.json", "images/train2017/a.jpg"),
        ("annotations/x.json", "images/a.jpg"),
        ("annotations/x.json", "a.jpg"),
    ],
)
def test_the_images_are_found_where_data_sets_have_them(tmp_path, json_name, image):
    path = make_file(tmp_path, name=json_name)
    (tmp_path / "a.jpg").unlink()
    with pytest.raises(FileNotFoundError, match=r"no image a\.jpg in .*argument"):
        read_coco(path)
    make_image(tmp_path / image)
    assert read_coco(path).records[0].image == tmp_path / image


def test_missing_images_are_named_unless_nobody_needs_them(tmp_path):
    images = [image_entry(), image_entry(6, "gone.jpg")]
    path = make_file(tmp_path, object_entry(), images=images)
    with pytest.raises(FileNotFoundError, match=r"image 6: no image .*gone\.jpg"):
        read_coco(path)
    assert len(read_coco(path, check_images=False)) == 2
    with pytest.raises(FileNotFoundError, match="images: there is no folder"):
        read_coco(path, tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="nowhere"):
        read_coco(tmp_path / "nowhere.json")


@pytest.mark.parametrize(
    "name", ["../a.jpg", "/etc/passwd", "x/../../a.jpg", "..\\a.jpg", "C:\\a.jpg", ""]
)
@pytest.mark.parametrize("check", [True, False])
def test_an_image_cannot_be_outside_the_folder(tmp_path, name, check):
    images = [image_entry(), image_entry(6, name)]
    path = make_file(tmp_path / "in", images=images)
    make_image(tmp_path / "a.jpg")
    with pytest.raises(ValueError, match=r"a\.json: image 6: "):
        read_coco(path, check_images=check)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_id": 6}, "there is no image 6"),
        ({"image_id": True}, "there is no image True"),
        ({"image_id": [5]}, "there is no image"),
        ({"category_id": 1}, "there is no category 1"),
        ({"category_id": "90"}, "there is no category '90'"),
        ({"bbox": None}, "bbox must be 4 numbers"),
        ({"bbox": [1, 2, 3]}, "bbox must be 4 numbers"),
        ({"bbox": [1, 2, 3, "4"]}, "bbox must be 4 numbers"),
        ({"bbox": [1, 2, 3, True]}, "bbox must be 4 numbers"),
        ({"bbox": {"x": 1}}, "bbox must be 4 numbers"),
        ({"bbox": [10**400, 2, 3, 4]}, "too large"),
        ({"area": float("nan")}, "area must be a number"),
        ({"area": -1}, "area must be a number"),
        ({"area": "12"}, "area must be a number"),
        ({"area": 10**400}, "too large"),
        ({"iscrowd": 2}, "iscrowd must be 0 or 1"),
        ({"iscrowd": [0]}, "iscrowd must be 0 or 1"),
        ({"ignore": "no"}, "ignore must be 0 or 1"),
    ],
)
def test_a_senseless_annotation_is_named_by_file_and_id(tmp_path, changes, message):
    path = make_file(tmp_path, object_entry(), {**object_entry(number=78), **changes})
    with pytest.raises(ValueError, match=rf"a\.json: annotation 78: .*{message}"):
        read_coco(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"\xff\xfe\xff", "not JSON"),
        (b"[" * 200_000, "not JSON"),
        (b'{"images": ' + b"9" * 10_000 + b"}", "not JSON"),
        (b"[]", "expected an object"),
        (b"3", "expected an object"),
        (b"{}", "there is no 'categories'"),
        ({"categories": {}}, "categories must be a list"),
        ({"categories": [3]}, "number 0 must be an object"),
        ({"categories": [{"name": "a"}]}, "category number 0: id must be an integer"),
        ({"categories": [{"id": 1}]}, "category 1: name must be a text"),
        ({"categories": [CATEGORIES[0]] * 2}, "two categories with this id"),
        (
            {"categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "a"}]},
            "category 2: there are two categories named 'a'",
        ),
        ({"images": []}, "no images"),
        ({"images": None}, "images must be a list"),
        ({"images": [image_entry("5")]}, "id must be an integer"),
        ({"images": [image_entry(1.0)]}, "id must be an integer"),
        ({"images": [image_entry(), image_entry()]}, "two images with this id"),
        ({"images": [image_entry(name=None)]}, "file_name must be a text"),
        ({"images": [image_entry(width=-1)]}, "must be positive integers"),
        ({"images": [image_entry(width=10**30)]}, "must be positive integers"),
        ({"images": [image_entry(width="640")]}, "must be positive integers"),
        ({"annotations": {}}, "annotations must be a list"),
        ({"annotations": [[]]}, "annotations: number 0 must be an object"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_hostile_or_broken_file_is_an_error_that_names_it(tmp_path, content, message):
    path = make_file(tmp_path)
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        path.write_text(json.dumps({**load(path), **content}))
    with pytest.raises(ValueError, match=re.escape(str(path)) + f".*{message}"):
        read_coco(path)


def test_a_file_or_a_folder_with_its_split_is_a_data_set(tmp_path):
    path = make_file(tmp_path, object_entry(), name="annotations/instances_val.json")
    assert read_dataset(path).records[0].labels.tolist() == [2]
    assert len(read_dataset(tmp_path)) == 1
    with pytest.raises(FileNotFoundError, match=r"train.*there are val"):
        read_dataset(tmp_path, split="train")
    make_file(tmp_path, name="annotations/instances_train.json")
    assert read_dataset(tmp_path, split="train").num_objects == 0
    assert read_dataset(tmp_path, split="val").num_objects == 1
    with pytest.raises(ValueError, match="split must be one of train, val"):
        read_dataset(tmp_path)
    with pytest.raises(ValueError, match=r"split must be None for a file, got 'val'"):
        read_dataset(path, split="val")


def test_one_folder_per_split(tmp_path):
    make_file(tmp_path / "valid", object_entry(), name="_annotations.coco.json")
    assert read_dataset(tmp_path, split="valid").num_objects == 1
    assert read_dataset(tmp_path, data_format="coco").num_objects == 1


def test_a_real_file():
    path = data_path("eval_oracle/cocoapi_bbox100/instances_val2014_100.json")
    content = load(path)
    data = read_coco(path, check_images=False)
    assert len(data) == len(content["images"])
    assert data.num_objects == len(content["annotations"])
    assert data.num_classes == 81
    crowds = sum(r.crowd.sum() for r in data.records if r.crowd is not None)
    assert crowds == sum(item["iscrowd"] for item in content["annotations"]) > 0


def test_a_real_file_is_written_and_read_back(tmp_path):
    path = data_path("eval_oracle/cocoapi_bbox100/instances_val2014_100.json")
    data = read_coco(path, check_images=False)
    write_coco(tmp_path / "a.json", data)
    assert_same(read_coco(tmp_path / "a.json", check_images=False), data)
