# SPDX-License-Identifier: Apache-2.0
"""Files of detections: round trips, exact text, and files that must be refused."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.evaluation import NAMES, found, make_record, random_dataset

from ssdops.data import Dataset
from ssdops.evaluation import (
    ImageDetections,
    VocEvaluator,
    feed_evaluators,
    read_coco_results,
    read_results,
    read_voc_results,
    result_files,
    write_coco_results,
    write_results,
    write_voc_results,
)

DATA = Dataset([make_record("7"), make_record("07"), make_record("b")], NAMES)
BOX = [0.25, 0.5, 0.75, 0.625]  # (25, 100) to (75, 125) in pixels
FOUND = [found("07", (BOX, 0.5, 2)), found("7", (BOX, 0.25, 1), ([0, 0, 1, 1], 0.5, 1))]


def voc_mean(dataset: Dataset, detections: list[ImageDetections]) -> float:
    evaluator = VocEvaluator(dataset.num_classes)
    feed_evaluators(dataset, detections, [evaluator])
    return evaluator.result().mean


@pytest.mark.parametrize("place", ["found.json", "folder"])
def test_what_is_written_is_read_back(place: str, tmp_path: Path) -> None:
    dataset, detections = random_dataset(np.random.default_rng(11), 20)
    write_results(tmp_path / place, dataset, reversed(detections))
    again = read_results(tmp_path / place, dataset)
    assert (tmp_path / place).is_dir() == (place == "folder")
    assert [image.image_id for image in again] == [
        record.image_id for record in dataset.records
    ]
    tolerance = 0 if place == "folder" else 2e-7
    for before, after in zip(detections, again, strict=True):
        # Files of classes lose the order of equal scores between the classes.
        rows = [
            np.column_stack([image.scores, image.classes, image.boxes])
            for image in (before, after)
        ]
        a, b = (table[np.lexsort(table.T[::-1])] for table in rows)
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance)
        assert (np.diff(after.scores) <= 0).all()
    assert voc_mean(dataset, again) == voc_mean(dataset, detections)
    assert 0.1 < voc_mean(dataset, again) < 0.9


def test_text_of_voc_files(tmp_path: Path) -> None:
    (tmp_path / "comp4_det_test_fox.txt").write_text("of an earlier run\n")
    write_voc_results(tmp_path, DATA, FOUND)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        "comp4_det_test_cat.txt": "7 0.25 100 25 125 75\n7 0.5 0 0 200 100\n",
        "comp4_det_test_dog.txt": "07 0.5 100 25 125 75\n",
        "comp4_det_test_fox.txt": "",
    }


def test_text_of_coco_files(tmp_path: Path) -> None:
    file = tmp_path / "deep/found.json"
    write_coco_results(file, DATA, FOUND)
    assert json.loads(file.read_text()) == [
        {"image_id": "07", "category_id": 2, "bbox": [100, 25, 25, 50], "score": 0.5},
        {"image_id": 7, "category_id": 1, "bbox": [100, 25, 25, 50], "score": 0.25},
        {"image_id": 7, "category_id": 1, "bbox": [0, 0, 200, 100], "score": 0.5},
    ]
    write_coco_results(file, DATA, [])
    assert json.loads(file.read_text()) == []


def test_other_category_ids(tmp_path: Path) -> None:
    file = tmp_path / "found.json"
    data = replace(DATA, category_ids=(0, 90, 7, 13))
    write_coco_results(file, data, FOUND)
    assert [entry["category_id"] for entry in json.loads(file.read_text())] == [
        *(7, 90, 90)
    ]
    again = read_coco_results(file, data)
    assert [image.classes.tolist() for image in again] == [[1, 1], [2], []]
    with pytest.raises(ValueError, match="category_id must be one of the 3 ids"):
        read_coco_results(file, DATA)


@pytest.mark.parametrize("write", [write_voc_results, write_coco_results])
def test_unknown_images_are_not_written(write, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="image 'x' is not in the data set"):
        write(tmp_path / "place", DATA, [found("x")])
    assert not list(tmp_path.iterdir())


def test_what_voc_files_cannot_hold(tmp_path: Path) -> None:
    spaced = Dataset([make_record("a b")], NAMES)
    with pytest.raises(ValueError, match="'a b' has white space"):
        write_voc_results(tmp_path, spaced, [found("a b", (BOX, 1, 1))])
    for name in ("../cat", "a\\b", ""):
        for call in (
            lambda data: write_voc_results(tmp_path, data, []),
            lambda data: read_voc_results(tmp_path, data),
        ):
            with pytest.raises(ValueError, match="cannot be part of a file name"):
                call(Dataset([], ("background", name)))
    assert not list(tmp_path.iterdir())


def coco_entry(**changes) -> str:
    entry = {"image_id": 7, "category_id": 1, "bbox": [0, 0, 5, 5], "score": 0.5}
    return json.dumps([entry, {**entry, **changes}])


def without(key: str) -> str:
    entries = json.loads(coco_entry())
    del entries[1][key]
    return json.dumps(entries)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not valid JSON"),
        ("[1, 2", "not valid JSON"),
        ("[" * 200_000, "not valid JSON"),
        ("9" * 10_000, "not valid JSON"),
        ('{"annotations": []}', "expected a list of detections, got dict"),
        ("[5]", "entry 0: expected an object, got int"),
        (coco_entry(score=float("nan")), "not valid JSON: NaN is no number"),
        (coco_entry(score=float("inf")), "not valid JSON: Infinity is no number"),
        (coco_entry().replace("0.5", "1e999"), "entry 0: score must be finite"),
        (coco_entry(score=10**400), "entry 1: score must be finite"),
        (coco_entry(bbox=[1e38, 0, 3e38, 1]), "entry 1: bbox must be finite"),
        (coco_entry(score=True), "entry 1: score must be a number, got True"),
        (coco_entry(score="0.5"), "entry 1: score must be a number, got '0.5'"),
        (coco_entry(bbox=[1, 2, 3]), "entry 1: bbox must be [x, y, width, height]"),
        (coco_entry(bbox=[1, 2, -3, 4]), "entry 1: bbox must have a size of 0 or more"),
        (coco_entry(bbox=[1, 2, 3, -4]), "entry 1: bbox must have a size of 0 or more"),
        (coco_entry(bbox=[1, 2, None, 4]), "entry 1: bbox must be a number, got None"),
        (coco_entry(category_id=4), "one of the 3 ids from 1 to 3, got 4"),
        (coco_entry(category_id=0), "one of the 3 ids from 1 to 3, got 0"),
        (coco_entry(category_id=1.0), "one of the 3 ids from 1 to 3, got 1.0"),
        (coco_entry(category_id=[1]), "one of the 3 ids from 1 to 3, got [1]"),
        (coco_entry(image_id=8), "entry 1: image '8' is not in the data set"),
        (coco_entry(image_id=None), "entry 1: image_id must be a number or a string"),
        (coco_entry(image_id=True), "entry 1: image_id must be a number or a string"),
        (coco_entry(image_id="x" * 999), "'xxxx"),
        (without("score"), "entry 1: score is missing"),
        (without("bbox"), "entry 1: bbox is missing"),
    ],
)
def test_coco_files_that_are_refused(text: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "found.json"
    file.write_text(text)
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        read_coco_results(file, DATA)
    assert str(caught.value).startswith(str(file))
    assert str(caught.value).count(str(file)) == 1
    assert len(str(caught.value)) < len(str(file)) + 200


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("7 0.5 1 1 2", "expected an image id and 5 numbers, got 5 words"),
        ("7 0.5 1 1 2 2 2", "expected an image id and 5 numbers, got 7 words"),
        ("7 nan 1 1 2 2", "'nan' is no number"),
        ("7 0.5 1 1 2 inf", "'inf' is no number"),
        ("7 0.5 1 1 2 1e999", "every number must be finite"),
        ("7 0.5 1 1 2 1_0", "'1_0' is no number"),
        ("7 0.5 1 1 2 ٣", "'٣' is no number"),
        ("7 __import__('os') 1 1 2 2", "\"__import__('os')\" is no number"),
        ("7 0.5 3 1 2 2", "xmin ymin xmax ymax must be in order"),
        ("7 0.5 1 3 2 2", "xmin ymin xmax ymax must be in order"),
        ("8 0.5 1 1 2 2", "image '8' is not in the data set"),
    ],
)
def test_voc_lines_that_are_refused(line: str, message: str, tmp_path: Path) -> None:
    write_voc_results(tmp_path, DATA, FOUND)
    file = tmp_path / "comp4_det_test_dog.txt"
    file.write_text(f"7 0.5 1 1 2 2\n\n{line}\n", "utf-8")
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        read_voc_results(tmp_path, DATA)
    assert str(caught.value).startswith(f"{file}, line 3: ")


def test_voc_folders_that_are_refused(tmp_path: Path) -> None:
    write_voc_results(tmp_path, DATA, FOUND)
    other = tmp_path / "comp4_det_test_emu.txt"
    other.write_text("")
    with pytest.raises(ValueError, match="'emu' is not one of cat, dog, fox"):
        read_voc_results(tmp_path, DATA)
    other.unlink()
    (tmp_path / "comp4_det_test_fox.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"test_fox\.txt: no such file"):
        read_voc_results(tmp_path, DATA)


@pytest.mark.parametrize("name", ["found.json", "comp4_det_test_cat.txt"])
def test_files_that_are_no_text_or_too_large(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_voc_results(tmp_path, DATA, FOUND)
    file = tmp_path / name
    file.write_bytes(b"\xff\xfe\x00")
    path = file if name == "found.json" else tmp_path
    with pytest.raises(ValueError, match=f"{name}: not.*UTF-8"):
        read_results(path, DATA)
    file.write_text("[" + " " * 2000 + "]")
    monkeypatch.setattr(result_files, "MAX_FILE_BYTES", 1999)
    with pytest.raises(ValueError, match="larger than 1999 bytes"):
        read_results(path, DATA)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no\.json: no such file"):
        read_results(tmp_path / "no.json", DATA)
