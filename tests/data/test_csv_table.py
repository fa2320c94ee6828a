# SPDX-License-Identifier: Apache-2.0
"""CSV tables: columns known by name, units, what is refused."""

from __future__ import annotations

import csv
import re

import numpy as np
import pytest
from support.data import data_path
from support.datasets import HEIGHT, WIDTH, make_image

from ssdops.data import DroppedObjectsWarning, read_csv, read_dataset, read_voc

HEADER = "filename,width,height,class,xmin,ymin,xmax,ymax"
SIZE = f"{WIDTH},{HEIGHT}"


def make_table(folder, text, *names, encoding="utf-8"):
    for name in names or ("a.jpg",):
        make_image(folder / name)
    (folder / "table.csv").write_bytes(text.encode(encoding))
    return folder / "table.csv"


def boxes(*corners):
    """Corners (xmin, ymin, xmax, ymax) in pixels as records have them."""
    scale = np.array([WIDTH, HEIGHT, WIDTH, HEIGHT], np.float64)
    return (np.array(corners) / scale)[:, [1, 0, 3, 2]].astype(np.float32)


def test_a_table_of_the_tutorials(tmp_path):
    text = (
        f"{HEADER}\nb.jpg,{SIZE},犬,1,2,30,20\na.jpg,{SIZE},cat,3,4,5,6\n\n"
        f'b.jpg,{SIZE},"cat",-5,0,50,23\n'
    )
    data = read_csv(make_table(tmp_path, text, "a.jpg", "b.jpg"))
    assert data.class_names == ("background", "cat", "犬")
    first, second = data.records
    assert (first.image_id, second.image_id) == ("b.jpg", "a.jpg")
    assert first.image == tmp_path / "b.jpg"
    assert first.image_size == (HEIGHT, WIDTH)
    expected = boxes((1, 2, 30, 20), (0, 0, WIDTH, 23))
    np.testing.assert_array_equal(first.boxes, expected)
    assert first.labels.tolist() == [2, 1]


def test_columns_have_any_order_case_and_company(tmp_path):
    text = (
        "Difficult , YMax,x_max,LABEL,more,Image ID,ymin,xmin\r\n"
        '1,20,30,cat,"a, b",a,2,1\r\n0,6,5,cat,,a,4,3\r\n'
    )
    make_image(tmp_path / "images/a.png")
    (tmp_path / "table.csv").write_text(text, "utf-8-sig")
    [record] = read_csv(tmp_path / "table.csv").records
    assert record.image == tmp_path / "images/a.png"
    assert record.image_id == "a"
    assert record.image_size == (HEIGHT, WIDTH)
    assert record.difficult.tolist() == [True, False]
    np.testing.assert_array_equal(record.boxes, boxes((1, 2, 30, 20), (3, 4, 5, 6)))


def test_beside_x_and_y_width_and_height_are_those_of_the_box(tmp_path):
    text = "image,name,x,y,width,height\na.jpg,cat,1,2,30,20\n"
    [record] = read_csv(make_table(tmp_path, text)).records
    np.testing.assert_array_equal(record.boxes, boxes((1, 2, 31, 22)))
    assert record.image_size == (HEIGHT, WIDTH)


def test_width_and_height_say_nothing_beside_both_kinds_of_box(tmp_path):
    text = (
        "image,name,x,y,width,height,xmin,ymin,xmax,ymax\na.jpg,c,1,2,30,20,1,2,31,22\n"
    )
    [record] = read_csv(make_table(tmp_path, text)).records
    assert record.image_size == (HEIGHT, WIDTH)
    np.testing.assert_array_equal(record.boxes, boxes((1, 2, 31, 22)))


def test_named_sizes_count_beside_any_box(tmp_path):
    text = (
        "image,name,x,y,width,height,image_width,image_height\na.jpg,c,0,0,10,10,100,50"
    )
    [record] = read_csv(make_table(tmp_path, text)).records
    assert record.image_size == (50, 100)
    np.testing.assert_allclose(record.boxes, [[0, 0, 0.2, 0.1]])


def test_an_image_without_objects(tmp_path):
    text = f"{HEADER}\na.jpg,{SIZE},,,,,\nb.jpg,{SIZE},cat,1,2,3,4\n"
    data = read_csv(make_table(tmp_path, text, "a.jpg", "b.jpg"))
    assert [len(record.boxes) for record in data.records] == [0, 1]


@pytest.mark.parametrize(
    ("corners", "unit"),
    [
        (["0,0,1,1"], "relative"),
        (["0.1,0.2,0.3,0.4", "-0.5,0,1,1"], "relative"),
        (["1,2,30,20"], "pixels"),
        (["0,0,3,1", "0,0,0,0"], "pixels"),
        (["1,2,nan,20", "1,2,9,20"], "pixels"),
        (["0.1,0.2,0.3,0.4", "nan,0,inf,1"], "relative"),
    ],
)
@pytest.mark.filterwarnings("ignore::ssdops.data.DroppedObjectsWarning")
def test_the_unit_is_seen_by_the_numbers(tmp_path, corners, unit):
    lines = [f"a.jpg,{SIZE},cat,{box}" for box in corners]
    path = make_table(tmp_path, "\n".join([HEADER, *lines]))
    found = read_csv(path).records[0].boxes
    np.testing.assert_array_equal(
        found, read_csv(path, coordinates=unit).records[0].boxes
    )
    other = "pixels" if unit == "relative" else "relative"
    assert not np.array_equal(found, read_csv(path, coordinates=other).records[0].boxes)


@pytest.mark.parametrize(
    ("corners", "message"),
    [
        (["0.1,0.2,0.3,0.4", "0,0,1.2,1"], "largest coordinate is 1.2, .* line 2"),
        (["1,2,30,20", "0.1,0.2,0.3,0.4"], "largest coordinate is 30, .* line 3"),
        (["0.5,0.5,2,2"], "largest coordinate is 2;"),
    ],
)
def test_an_unclear_unit_is_an_error_that_says_what_to_do(tmp_path, corners, message):
    lines = [f"a.jpg,{SIZE},cat,{box}" for box in corners]
    path = make_table(tmp_path, "\n".join([HEADER, *lines]))
    with pytest.raises(ValueError, match=rf"table\.csv: .*{message}.*coordinates\)"):
        read_csv(path)
    assert read_csv(path, coordinates="pixels").num_objects == len(lines)
    with pytest.raises(ValueError, match="coordinates must be auto, pixels or rel"):
        read_csv(path, coordinates="metres")


def test_unusable_boxes_are_dropped_and_counted(tmp_path):
    lines = ["1,2,30,20", "5,5,5,9", "100,1,120,9", "nan,1,9,9", "1,1,1e999,9"]
    text = "\n".join([HEADER, *(f"a.jpg,{SIZE},cat,{box}" for box in lines)])
    path = make_table(tmp_path, text)
    with pytest.warns(DroppedObjectsWarning, match="4 objects"):
        data = read_csv(path)
    assert sorted(data.dropped.values()) == [1, 1, 2]
    assert data.num_objects == 1


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (f"a.jpg,{SIZE},cat,1,2,3", "expected 8 columns as in the header, got 7"),
        (f"a.jpg,{SIZE},cat,1,2,3,4,5", "expected 8 columns as in the header, got 9"),
        (f",{SIZE},cat,1,2,3,4", "column 'filename' is empty"),
        (f"a.jpg,{SIZE},,1,2,3,4", "a box without a class"),
        (f"a.jpg,{SIZE},cat,1,2,,4", "a class without a whole box"),
        (f"a.jpg,{SIZE},cat,,,,", "a class without a whole box"),
        (f"a.jpg,{SIZE},cat,1,2,x,4", "'x' is no number"),
        ("a.jpg,0,5,cat,1,2,3,4", "must be positive integers"),
        ("a.jpg,nan,5,cat,1,2,3,4", "must be positive integers"),
        ("a.jpg,1e30,5,cat,1,2,3,4", "must be positive integers"),
        ("a.jpg,5,1.5,cat,1,2,3,4", "must be positive integers"),
        ("a.jpg,5,,cat,1,2,3,4", "'' is no number"),
        (f"a.jpg,{SIZE}1,cat,1,2,3,4", r"height and width \(231, 37\), but \(23, 37\)"),
        (f"../a.jpg,{SIZE},cat,1,2,3,4", "must be relative to the folder"),
        (f"/etc/passwd,{SIZE},cat,1,2,3,4", "must be relative to the folder"),
        (f"..\\a.jpg,{SIZE},cat,1,2,3,4", "must be relative to the folder"),
        (f'a.jpg,{SIZE},"cat,1,2,3,4', "unexpected end of data"),
        (f"a.jpg,{SIZE},{'x' * 200_000},1,2,3,4", "field larger than"),
    ],
    ids=lambda value: value[:30],
)
def test_a_senseless_line_is_named(tmp_path, line, message):
    text = f"{HEADER}\na.jpg,{SIZE},cat,1,2,3,4\n{line}\n"
    path = make_table(tmp_path / "in", text)
    make_image(tmp_path / "a.jpg")
    with pytest.raises(ValueError, match=rf"table\.csv: line [23]: .*{message}"):
        read_csv(path)


def test_difficult_is_yes_or_no(tmp_path):
    text = "image,label,xmin,ymin,xmax,ymax,difficult\na.jpg,cat,1,2,3,4,maybe\n"
    with pytest.raises(ValueError, match=r"line 2: difficult must be 0 or 1.*'maybe'"):
        read_csv(make_table(tmp_path, text))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "table is empty"),
        (HEADER, "no images in it"),
        ("a.jpg,cat,1,2,3,4\n", "line 1: no columns for the box .*are a.jpg, cat, 1"),
        ("image,label,xmin,ymin,xmax\n", "line 1: no columns for the box"),
        ("label,xmin,ymin,xmax,ymax\n", r"line 1: no column for the image \(image"),
        ("image,xmin,ymin,xmax,ymax\n", r"line 1: no column for the class \(class"),
        ("image,label,xmin,ymin,xmax,ymax,X_Min\n", "two columns are named 'X_Min'"),
        (HEADER.replace(",", ";"), "no columns for the box"),
    ],
)
def test_a_header_that_does_not_do_is_refused(tmp_path, text, message):
    path = make_table(tmp_path, text)
    with pytest.raises(ValueError, match=re.escape(str(path)) + f": .*{message}"):
        read_csv(path)


def test_other_encodings_are_refused(tmp_path):
    text = f"{HEADER}\na.jpg,{SIZE},Hündin,1,2,3,4\n"
    with pytest.raises(ValueError, match=r"table\.csv: not a text file in UTF-8"):
        read_csv(make_table(tmp_path, text, encoding="latin-1"))


def test_missing_files_are_named(tmp_path):
    text = f"{HEADER}\na.jpg,{SIZE},cat,1,2,3,4\ngone.jpg,{SIZE},cat,1,2,3,4\n"
    path = make_table(tmp_path, text)
    with pytest.raises(FileNotFoundError, match=r"line 3: no image .*gone\.jpg"):
        read_csv(path)
    with pytest.raises(FileNotFoundError, match="images: there is no folder"):
        read_csv(path, tmp_path / "nowhere")
    (tmp_path / "a.jpg").unlink()
    with pytest.raises(FileNotFoundError, match=r"no image a\.jpg in"):
        read_csv(path)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        read_csv(tmp_path / "nowhere.csv")


@pytest.mark.parametrize("data_format", ["auto", "csv"])
def test_a_table_is_a_data_set(tmp_path, data_format):
    path = make_table(tmp_path, f"{HEADER}\na.jpg,{SIZE},cat,1,2,3,4\n")
    data = read_dataset(path, class_names=["dog", "cat"], data_format=data_format)
    assert data.records[0].labels.tolist() == [2]
    with pytest.raises(ValueError, match="split must be None for a file"):
        read_dataset(path, split="train", data_format=data_format)


@pytest.mark.filterwarnings("ignore::ssdops.data.DroppedObjectsWarning")
def test_a_real_data_set_as_a_table_is_the_same(tmp_path):
    folder = data_path("bccd/BCCD")
    data = read_voc(folder, "val")
    with (tmp_path / "table.csv").open("w", newline="", encoding="utf-8") as opened:
        writer = csv.writer(opened)
        writer.writerow(HEADER.split(","))
        for record in data.records:
            height, width = record.image_size
            scale = np.array([height, width, height, width])
            for box, label in zip(record.boxes * scale, record.labels, strict=True):
                name, size = data.class_names[label], (width, height)
                writer.writerow([record.image.name, *size, name, *box[[1, 0, 3, 2]]])
    table = read_csv(tmp_path / "table.csv", folder / "JPEGImages")
    assert table.class_names == data.class_names
    for one, other in zip(table.records, data.records, strict=True):
        assert one.image == other.image
        np.testing.assert_allclose(one.boxes, other.boxes, rtol=0, atol=1e-6)
        assert one.labels.tolist() == other.labels.tolist()
