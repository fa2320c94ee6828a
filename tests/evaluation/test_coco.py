# SPDX-License-Identifier: Apache-2.0
"""COCO's numbers: the published answer, and cases by hand."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest
from support.data import data_path
from support.evaluation import NAMES, found, make_record, random_dataset

from ssdops.data import read_coco
from ssdops.evaluation import (
    COCO_METRICS,
    CocoEvaluator,
    CocoResult,
    feed_evaluators,
    read_coco_results,
)

BOX = [0.1, 0.1, 0.6, 0.4]
FAR = [0.7, 0.7, 0.9, 0.9]


def numbers(*pairs) -> CocoResult:
    evaluator = CocoEvaluator(len(NAMES))
    for record, detections in pairs:
        evaluator.add(record, detections)
    return evaluator.result()


def assert_same(a: CocoResult, b: CocoResult) -> None:
    assert dict(a.metrics) == pytest.approx(dict(b.metrics), abs=0, nan_ok=True)
    np.testing.assert_array_equal(a.average_precision, b.average_precision)


@pytest.mark.parametrize("backwards", [False, True])
def test_published_answer_of_100_images(
    backwards: bool, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = data_path("eval_oracle/cocoapi_bbox100")
    expected = json.loads((folder / "expected.json").read_text())["pycocotools_2.0.11"]
    dataset = read_coco(folder / "instances_val2014_100.json", check_images=False)
    detections = read_coco_results(
        folder / "instances_val2014_fakebbox100_results.json", dataset
    )
    assert sum(len(image) for image in detections) == 734
    evaluator = CocoEvaluator(dataset.num_classes)
    feed_evaluators(dataset, detections[:: -1 if backwards else 1], [evaluator])
    result = evaluator.result()
    assert dict(result.metrics) == pytest.approx(expected, abs=1e-6)
    assert tuple(result.metrics) == COCO_METRICS
    assert np.nanmean(result.average_precision) == pytest.approx(
        expected["AP"], abs=1e-6
    )
    assert capfd.readouterr() == ("", "")


def test_perfect_detections() -> None:
    record = make_record("1", [BOX, FAR], [1, 3], area=[500, 20000])
    result = numbers((record, found("1", (BOX, 0.9, 1), (FAR, 0.8, 3))))
    assert result.metrics["AP"] == pytest.approx(1)
    assert result.metrics["AR1"] == pytest.approx(1)
    assert result.metrics["AP_small"] == pytest.approx(1)
    assert np.isnan(result.metrics["AP_medium"])
    np.testing.assert_allclose(result.average_precision, [np.nan, 1, np.nan, 1])


def test_iou_thresholds() -> None:
    # An IoU of 0.72: found at 0.50 to 0.70, five of the ten thresholds.
    box = [0.0, 0.0, 1.0, 0.72]
    result = numbers((make_record("1", [[0, 0, 1, 1]], [1]), found("1", (box, 0.9, 1))))
    assert result.metrics["AP"] == pytest.approx(0.5)
    assert result.metrics["AP50"] == pytest.approx(1)
    assert result.metrics["AP75"] == 0


def test_area_of_the_box_where_a_record_has_none() -> None:
    # 50 x 60 pixels: medium.
    result = numbers((make_record("1", [BOX], [1]), found("1", (BOX, 0.9, 1))))
    assert result.metrics["AP_medium"] == pytest.approx(1)
    assert np.isnan(result.metrics["AP_small"])


@pytest.mark.parametrize("kind", ["crowd", "difficult"])
def test_detections_of_objects_that_do_not_count(kind: str) -> None:
    record = make_record("1", [BOX, FAR], [1, 1], **{kind: [True, False]})
    detections = found("1", (BOX, 0.9, 1), (FAR, 0.8, 1))
    assert numbers((record, detections)).metrics["AP"] == pytest.approx(1)
    # Another class is not forgiven.
    other = make_record("1", [BOX, FAR], [2, 1], **{kind: [True, False]})
    assert numbers((other, detections)).metrics["AP"] == pytest.approx(0.5)


def test_crowd_takes_any_number_of_detections() -> None:
    part = [0.15, 0.15, 0.3, 0.3]
    record = make_record("1", [BOX, FAR], [1, 1], crowd=[True, False])
    detections = found("1", (part, 0.9, 1), (part, 0.85, 1), (FAR, 0.8, 1))
    assert numbers((record, detections)).metrics["AP"] == pytest.approx(1)


def test_a_hundred_detections_of_each_class_count() -> None:
    record = make_record("1", [BOX, FAR], [1, 2])
    wrong = [(FAR, 0.9, 1)] * 100
    last = numbers((record, found("1", *wrong, (BOX, 0.1, 1), (FAR, 0.1, 2))))
    assert last.average_precision[1] == 0
    assert last.average_precision[2] == pytest.approx(1)
    kept = numbers((record, found("1", *wrong[1:], (BOX, 0.1, 1))))
    assert kept.average_precision[1] == pytest.approx(0.01)


@pytest.mark.parametrize(
    "pairs",
    [
        (),
        ((make_record("1"), found("1")),),
        ((make_record("1"), found("1", (BOX, 0.9, 1))),),
    ],
)
def test_no_ground_truth_gives_nan(pairs: tuple) -> None:
    result = numbers(*pairs)
    assert all(np.isnan(value) for value in result.metrics.values())
    assert np.isnan(result.average_precision).all()


def test_no_detections_give_zero() -> None:
    result = numbers((make_record("1", [BOX], [1]), found("1")))
    assert result.metrics["AP"] == result.metrics["AR100"] == 0


def test_merged_workers_are_one_evaluator() -> None:
    dataset, detections = random_dataset(np.random.default_rng(5), 30)
    whole = CocoEvaluator(len(NAMES))
    workers = [CocoEvaluator(len(NAMES)) for _ in range(3)]
    for i, pair in enumerate(zip(dataset.records, detections, strict=True)):
        whole.add(*pair)
        workers[i % 3].add(*pair)
    first, *others = (pickle.loads(pickle.dumps(worker)) for worker in workers)
    assert first.result().metrics != whole.result().metrics
    for other in reversed(others):
        first.merge(other)
    assert_same(first.result(), whole.result())
    assert 0.1 < whole.result().metrics["AP"] < 0.9
    with pytest.raises(ValueError, match="both evaluators have seen image '11'"):
        first.merge(workers[1])
    with pytest.raises(ValueError, match="same num_classes, got 4 and 5"):
        first.merge(CocoEvaluator(5))


def test_equal_scores_rank_by_the_number_of_the_image() -> None:
    right = make_record("9", [BOX], [1]), found("9", (BOX, 0.5, 1))
    wrong = make_record("10"), found("10", (BOX, 0.5, 1))
    assert numbers(wrong, right).metrics["AP"] == pytest.approx(1)
    assert numbers(right, wrong).metrics["AP"] == pytest.approx(1)


@pytest.mark.parametrize(
    ("record", "detections", "message"),
    [
        (make_record("1"), found("2"), "image '1', got those of '2'"),
        (make_record("1", [BOX], [4]), found("1"), r"labels of 1 must lie in \[1, 3\]"),
        (make_record("1"), found("1", (BOX, 1, 4)), r"classes of 1 must lie in \[1, 3"),
        (make_record("0"), found("0"), "image '0' was added before"),
    ],
)
def test_wrong_images(record, detections, message: str) -> None:
    evaluator = CocoEvaluator(len(NAMES))
    evaluator.add(make_record("0"), found("0"))
    with pytest.raises(ValueError, match=message):
        evaluator.add(record, detections)


def test_wrong_number_of_classes() -> None:
    with pytest.raises(ValueError, match="num_classes must be at least 2, got 1"):
        CocoEvaluator(1)
