# SPDX-License-Identifier: Apache-2.0
"""Average precision: by hand, and against published answers."""

from __future__ import annotations

import json
import pickle
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from support.data import data_path
from support.evaluation import found, make_record, random_dataset

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


def test_crowd_is_no_object_and_forgives_what_lies_in_it() -> None:
    inside = [0.0, 0.0, 0.1, 0.1]
    half, less = [0.5, 0.875, 0.625, 1.125], [0.5, 0.875, 0.625, 1.25]
    evaluator = VocEvaluator(3)
    evaluator.update(
        [inside, half, less, FAR, inside],
        [0.9, 0.8, 0.7, 0.6, 0.5],
        [1, 1, 1, 1, 2],
        [UNIT, FAR],
        [1, 1],
        gt_crowd=[True, False],
    )
    result = evaluator.result()
    # `less` counts, and so does the detection of the other class.
    assert result.num_detections.tolist() == [0, 2, 1]
    assert result.num_ground_truth.tolist() == [0, 1, 0]
    assert result.average_precision[1] == 0.5


def test_an_object_in_a_crowd_can_be_found() -> None:
    small = [0.2, 0.2, 0.4, 0.4]
    evaluator = VocEvaluator(2)
    evaluator.update(
        [small, small],
        [0.9, 0.8],
        [1, 1],
        [UNIT, small],
        [1, 1],
        gt_crowd=[True, False],
    )
    result = evaluator.result()
    assert result.mean == 1.0
    assert result.num_detections[1] == 1


def test_curves() -> None:
    evaluator = VocEvaluator(4)
    evaluator.update(
        [UNIT, FAR, UNIT, UNIT],
        [0.5, 0.7, 0.25, 0.75],
        [1, 1, 1, 3],
        [UNIT, UNIT],
        [1, 2],
    )
    background, first, second, third = evaluator.result().curves
    assert first.scores.tolist() == [0.7, 0.5, 0.25]
    np.testing.assert_allclose(first.precision, [0, 1 / 2, 1 / 3])
    assert first.recall.tolist() == [0, 1, 1]
    assert first.precision_at([0, 0.5, 1]).tolist() == [0.5] * 3
    assert len(background.scores) == len(second.scores) == 0
    assert second.precision_at([0, 1]).tolist() == [0, 0]
    assert third.precision.tolist() == [0]
    assert np.isnan(third.recall).all()


def test_precision_is_0_beyond_the_largest_recall() -> None:
    evaluator = VocEvaluator(2)
    evaluator.update([UNIT], [0.9], [1], [UNIT, FAR], [1, 1])
    [_, curve] = evaluator.result().curves
    assert curve.precision_at([0, 0.5, 0.51, 1]).tolist() == [1, 1, 0, 0]


@pytest.mark.parametrize("interpolation", ["area", "11point"])
def test_merged_workers_are_one_evaluator(interpolation: str) -> None:
    options = {"interpolation": interpolation, "iou_threshold": 0.6}
    dataset, detections = random_dataset(np.random.default_rng(7), 40)
    whole = VocEvaluator(4, **options)
    workers = [VocEvaluator(4, **options) for _ in range(2)]
    pairs = list(zip(dataset.records, detections, strict=True))
    for i, pair in enumerate(pairs):
        whole.add(*pair)
        workers[i // 20].add(*pair)
    first, second = (pickle.loads(pickle.dumps(worker)) for worker in workers)
    assert first.result().mean != whole.result().mean
    first.merge(second)
    merged, expected = first.result(), whole.result()
    assert 0.1 < expected.mean < 0.9
    assert merged.mean == expected.mean
    for name in ("average_precision", "num_ground_truth", "num_detections"):
        np.testing.assert_array_equal(getattr(merged, name), getattr(expected, name))
    for a, b in zip(merged.curves, expected.curves, strict=True):
        np.testing.assert_array_equal(a.scores, b.scores)
        np.testing.assert_array_equal(a.recall, b.recall)


def test_only_equal_scores_depend_on_the_order_of_images() -> None:
    images = [
        ([UNIT], [0.5], [1], [UNIT], [1]),
        ([FAR], [0.5], [1], [UNIT], [1]),
        ([FAR, UNIT], [0.7, 0.6], [1, 1], [UNIT], [1]),
    ]
    values = {}
    for order in ([0, 1, 2], [2, 0, 1], [0, 2, 1], [1, 0, 2]):
        evaluator = VocEvaluator(2)
        for i in order:
            evaluator.update(*images[i])
        values[tuple(order)] = single(evaluator)
    assert values[0, 1, 2] == values[2, 0, 1] == values[0, 2, 1]
    # Of two detections with equal scores the one added first ranks first.
    assert values[1, 0, 2] < values[0, 1, 2]


def test_only_equals_merge() -> None:
    with pytest.raises(ValueError, match=r"same settings, .*0\.5.* and .*0\.6"):
        VocEvaluator(2).merge(VocEvaluator(2, iou_threshold=0.6))


def test_records_are_added_with_all_their_flags() -> None:
    record = make_record(
        "a",
        [[0, 0, 1, 1], [0, 0, 0.5, 0.5], [0.6, 0.6, 0.9, 0.9]],
        [1, 1, 1],
        difficult=[False, False, True],
        crowd=[True, False, False],
    )
    detections = found(
        "a",
        ([0, 0, 0.5, 0.5], 0.9, 1),
        ([0.6, 0.6, 0.9, 0.9], 0.8, 1),
        ([0.1, 0.6, 0.3, 0.9], 0.7, 1),
    )
    evaluator = VocEvaluator(2)
    evaluator.add(record, detections)
    result = evaluator.result()
    assert result.num_ground_truth[1] == result.num_detections[1] == 1
    assert result.mean == 1.0
    with pytest.raises(ValueError, match="image 'a', got those of 'b'"):
        evaluator.add(record, found("b"))


def test_pixel_offset() -> None:
    # 2 x 2 pixels of 4 x 2: with inclusive corners half of them, without a third.
    evaluators = {offset: VocEvaluator(2, pixel_offset=offset) for offset in (0, 1)}
    for evaluator in evaluators.values():
        evaluator.update([[1, 1, 2, 2]], [0.9], [1], [[1, 1, 4, 2]], [1])
    assert single(evaluators[1]) == 1.0
    assert single(evaluators[0]) == 0.0


def test_pixel_offset_of_a_crowd() -> None:
    # One column of pixels, half of the detection's two.
    for offset, counted in ((True, 0), (False, 1)):
        evaluator = VocEvaluator(2, pixel_offset=offset)
        evaluator.update(
            [[1, 1, 2, 2]], [0.9], [1], [[1, 1, 2, 1]], [1], gt_crowd=[True]
        )
        assert evaluator.result().num_detections[1] == counted


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
        (([UNIT], [0.9], [1], [UNIT], [1], None, []), "gt_crowd must have 1 entries"),
        (([UNIT], [np.nan], [1], [UNIT], [1]), "scores must be numbers, got NaN"),
        (([[0, 0, np.nan, 1]], [0.9], [1], [UNIT], [1]), "boxes must be numbers"),
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


def test_published_answer_through_relative_boxes() -> None:
    """As float32 relative to the image, corners keep every IoU at the threshold."""
    folder = data_path("eval_oracle/cartucho_voc85")
    expected = json.loads((folder / "expected.json").read_text())
    truth = read_boxes(folder / "ground-truth")
    results = read_boxes(folder / "detection-results")
    names = sorted({row[0] for rows in truth.values() for row in rows})
    ids = {name: label for label, name in enumerate(names, start=1)}
    size = np.array([375, 500, 375, 500])
    evaluator = VocEvaluator(len(names) + 1, pixel_offset=True)
    for image, rows in truth.items():
        record = make_record(
            image,
            [corners(row[1:5]) / size for row in rows],
            [ids[row[0]] for row in rows],
            difficult=["difficult" in row for row in rows],
            size=(375, 500),
        )
        detected = [
            (corners(row[2:6]) / size, float(row[1]), ids[row[0]])
            for row in results[image]
            if row[0] in ids
        ]
        evaluator.add(record, found(image, *detected))
    result = evaluator.result().average_precision[1:]
    np.testing.assert_allclose(result, [expected["AP"][n] for n in names], atol=1e-6)


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
