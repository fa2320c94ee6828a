# SPDX-License-Identifier: Apache-2.0
"""Average precision: by hand, and against published answers."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from support.data import data_path

from ssdops.evaluation import VocEvaluator, average_precision

UNIT = [0.0, 0.0, 1.0, 1.0]
FAR = [5.0, 5.0, 6.0, 6.0]


def single(evaluator: VocEvaluator) -> float:
    return float(evaluator.result().average_precision[1])


@pytest.mark.parametrize(
    ("hits", "objects", "area", "eleven"),
    [
        ([1], 1, 1.0, 1.0),
        ([0], 1, 0.0, 0.0),
        ([], 3, 0.0, 0.0),
        ([1, 0, 1], 2, 0.5 + 0.5 * 2 / 3, (6 + 5 * 2 / 3) / 11),
        ([0, 1], 1, 0.5, 0.5),
        ([1, 0, 0, 0], 2, 0.5, 6 / 11),
        ([1, 1, 1], 10, 0.3, 3 / 11),
        ([1, 1, 1, 1], 10, 0.4, 5 / 11),
    ],
)
def test_by_hand(hits: list[int], objects: int, area: float, eleven: float) -> None:
    assert average_precision(hits, objects) == pytest.approx(area, abs=1e-12)
    assert average_precision(hits, objects, "11point") == pytest.approx(eleven)


def test_second_detection_of_an_object_is_a_false_positive() -> None:
    evaluator = VocEvaluator(2)
    evaluator.update([UNIT, UNIT, FAR], [0.7, 0.8, 0.6], [1, 1, 1], [UNIT, FAR], [1, 1])
    assert single(evaluator) == pytest.approx(0.5 + 0.5 * 2 / 3)


def test_only_the_best_overlap_counts() -> None:
    # The second detection overlaps the taken object most, and is not given to the
    # other one although it overlaps that by more than half as well.
    gt = [[0.0, 0.0, 1.0, 1.0], [0.0, 0.3, 1.0, 1.3]]
    evaluator = VocEvaluator(2)
    evaluator.update([gt[0], [0.0, 0.1, 1.0, 1.1]], [0.9, 0.8], [1, 1], gt, [1, 1])
    assert single(evaluator) == pytest.approx(0.5)


def test_threshold_is_inclusive() -> None:
    half = [0.0, 0.0, 1.0, 0.5]
    for threshold, expected in ((0.5, 1.0), (0.500001, 0.0)):
        evaluator = VocEvaluator(2, iou_threshold=threshold)
        evaluator.update([half], [0.9], [1], [UNIT], [1])
        assert single(evaluator) == expected


def test_difficult_objects_are_left_out() -> None:
    evaluator = VocEvaluator(2)
    evaluator.update(
        [UNIT, UNIT, FAR],
        [0.9, 0.8, 0.7],
        [1, 1, 1],
        [UNIT, FAR],
        [1, 1],
        [True, False],
    )
    result = evaluator.result()
    assert result.num_ground_truth.tolist() == [0, 1]
    assert result.num_detections.tolist() == [0, 1]
    assert result.mean == 1.0


def test_mean_is_over_classes_with_objects() -> None:
    evaluator = VocEvaluator(4)
    evaluator.update([UNIT, FAR], [0.9, 0.9], [1, 3], [UNIT, FAR], [1, 2])
    result = evaluator.result()
    np.testing.assert_array_equal(result.average_precision, [np.nan, 1.0, 0.0, np.nan])
    assert result.mean == 0.5


def test_nothing_at_all() -> None:
    evaluator = VocEvaluator(3)
    evaluator.update(np.zeros((0, 4)), [], [], np.zeros((0, 4)), [])
    assert np.isnan(evaluator.result().mean)


def test_detections_on_an_image_without_objects_are_false_positives() -> None:
    evaluator = VocEvaluator(2)
    evaluator.update([UNIT], [0.9], [1], np.zeros((0, 4)), [])
    evaluator.update([UNIT], [0.8], [1], [UNIT], [1])
    assert single(evaluator) == 0.5


def test_pixel_offset() -> None:
    # 2 x 2 pixels of 4 x 2: with inclusive corners half of them, without a third.
    evaluators = {offset: VocEvaluator(2, pixel_offset=offset) for offset in (0, 1)}
    for evaluator in evaluators.values():
        evaluator.update([[1, 1, 2, 2]], [0.9], [1], [[1, 1, 4, 2]], [1])
    assert single(evaluators[1]) == 1.0
    assert single(evaluators[0]) == 0.0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([UNIT], [0.9, 0.8], [1], [UNIT], [1]), "scores must have 1 entries, got 2"),
        (
            ([UNIT], [0.9], [0], [UNIT], [1]),
            r"classes must lie in \[1, 1\], got 0 to 0",
        ),
        (([UNIT], [0.9], [1], [UNIT], [2]), r"gt_labels must lie in \[1, 1\]"),
        (([UNIT], [0.9], [1.0], [UNIT], [1]), "classes must be integers, got float64"),
        (([UNIT], [0.9], [1], [UNIT], [1], []), "gt_difficult must have 1 entries"),
    ],
)
def test_wrong_input(arguments: tuple, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        VocEvaluator(2).update(*arguments)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_classes": 1}, "num_classes must be at least 2, got 1"),
        ({"num_classes": 2, "iou_threshold": 0}, "iou_threshold must be in"),
        ({"num_classes": 2, "interpolation": "x"}, "interpolation must be one of"),
    ],
)
def test_wrong_options(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        VocEvaluator(**options)


def read_boxes(folder: Path) -> dict[str, list[list[str]]]:
    """Rows of every text file of a folder, by stem."""
    return {
        path.stem: [line.split() for line in path.read_text().splitlines() if line]
        for path in sorted(folder.glob("*.txt"))
    }


def evaluate_files(
    truth: dict[str, list[list[str]]],
    found: dict[str, list[list[str]]],
    names: list[str],
    to_corners,
    **options,
) -> dict[str, float]:
    """AP by class name of rows `name x y x y` and `name score x y x y`."""
    ids = {name: index for index, name in enumerate(names, start=1)}
    evaluator = VocEvaluator(len(names) + 1, **options)
    by_image = defaultdict(lambda: ([], []))
    for image, rows in truth.items():
        by_image[image][0].extend(rows)
    for image, rows in found.items():
        by_image[image][1].extend(rows)
    for gt, all_found in by_image.values():
        det = [row for row in all_found if row[0] in ids]
        evaluator.update(
            [to_corners(row[2:6]) for row in det],
            [float(row[1]) for row in det],
            [ids[row[0]] for row in det],
            [to_corners(row[1:5]) for row in gt],
            [ids[row[0]] for row in gt],
            ["difficult" in row for row in gt],
        )
    result = evaluator.result()
    return {name: float(result.average_precision[i]) for name, i in ids.items()}


def corners(values: list[str]) -> list[float]:
    xmin, ymin, xmax, ymax = map(float, values)
    return [ymin, xmin, ymax, xmax]


def test_published_answer_of_85_voc_images() -> None:
    folder = data_path("eval_oracle/cartucho_voc85")
    expected = json.loads((folder / "expected.json").read_text())
    truth = read_boxes(folder / "ground-truth")
    found = read_boxes(folder / "detection-results")
    names = sorted({row[0] for rows in truth.values() for row in rows})
    result = evaluate_files(truth, found, names, corners, pixel_offset=True)
    assert result == pytest.approx(expected["AP"], abs=1e-6)
    assert np.mean(list(result.values())) == pytest.approx(expected["mAP"], abs=1e-6)


def from_left_top_width_height(values: list[str]) -> list[float]:
    left, top, width, height = map(float, values)
    return [top, left, top + height, left + width]


@pytest.mark.parametrize("threshold", ["0.1", "0.3", "0.5", "0.75"])
@pytest.mark.parametrize(
    ("interpolation", "key"), [("area", "every_point"), ("11point", "eleven_point")]
)
def test_published_answer_of_7_images(
    threshold: str, interpolation: str, key: str
) -> None:
    folder = data_path("eval_oracle/rafael_case1")
    expected = json.loads((folder / "expected.json").read_text())[key][threshold]
    result = evaluate_files(
        read_boxes(folder / "gts"),
        read_boxes(folder / "dets"),
        ["object"],
        from_left_top_width_height,
        iou_threshold=float(threshold),
        interpolation=interpolation,
        pixel_offset=True,
    )
    assert result["object"] == pytest.approx(expected, abs=1e-6)
