# SPDX-License-Identifier: Apache-2.0
"""Kinds of errors, one by one and counted together."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from support.evaluation import NAMES, found, make_record, random_dataset

from ssdops.evaluation import DETECTION_KINDS, ErrorBreakdown, ErrorEvaluator

CAT = [0.0, 0.0, 0.4, 0.4]
DOG = [0.6, 0.6, 1.0, 1.0]
NOWHERE = [0.0, 0.7, 0.2, 0.9]
HALF_OF_CAT = [0.0, 0.0, 0.4, 0.16]  # IoU 0.4
EDGE_OF_CAT = [0.0, 0.0, 0.4, 0.02]  # IoU 0.05


def breakdown(record, detections, **options) -> ErrorBreakdown:
    evaluator = ErrorEvaluator(len(NAMES), **options)
    evaluator.add(record, detections)
    return evaluator.result()


def counts(result: ErrorBreakdown) -> dict[str, list[int]]:
    """What is not 0, by class."""
    everything = {**result.detections, "missed": result.missed}
    return {name: c.tolist() for name, c in everything.items() if c.any()}


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([(CAT, 0.9, 1)], {"correct": [0, 1, 0, 0], "missed": [0, 0, 1, 0]}),
        # Localized badly, the cat is not missed.
        (
            [(HALF_OF_CAT, 0.9, 1)],
            {"localization": [0, 1, 0, 0], "missed": [0, 0, 1, 0]},
        ),
        ([(CAT, 0.9, 3)], {"confusion": [0, 0, 0, 1], "missed": [0, 0, 1, 0]}),
        (
            [(HALF_OF_CAT, 0.9, 3)],
            {"confusion_and_localization": [0, 0, 0, 1], "missed": [0, 1, 1, 0]},
        ),
        (
            [(CAT, 0.9, 1), (CAT, 0.8, 1), (DOG, 0.7, 2)],
            {"correct": [0, 1, 1, 0], "duplicate": [0, 1, 0, 0]},
        ),
        ([(NOWHERE, 0.9, 1)], {"background": [0, 1, 0, 0], "missed": [0, 1, 1, 0]}),
        ([(EDGE_OF_CAT, 0.9, 1)], {"background": [0, 1, 0, 0], "missed": [0, 1, 1, 0]}),
        ([(CAT, 0.5, 1)], {"missed": [0, 1, 1, 0]}),
        ([], {"missed": [0, 1, 1, 0]}),
    ],
)
def test_kinds(rows: list, expected: dict) -> None:
    record = make_record("a", [CAT, DOG], [1, 2])
    result = breakdown(record, found("a", *rows))
    assert counts(result) == expected
    assert result.num_ground_truth.tolist() == [0, 1, 1, 0]


def test_bounds_are_those_of_tide() -> None:
    record = make_record("a", [[0, 0, 1, 1]], [1])
    for width, kind in (
        (0.5, "correct"),
        (0.499, "localization"),
        (0.125, "localization"),
        (0.124, "background"),
    ):
        result = breakdown(
            record, found("a", ([0, 0, 1, width], 0.9, 1)), background_iou=0.125
        )
        assert next(iter(counts(result))) == kind, width


def test_localization_comes_before_confusion() -> None:
    # The box of the dog, claimed for the cat that it overlaps by 0.4.
    record = make_record("a", [CAT, HALF_OF_CAT], [1, 2])
    assert counts(breakdown(record, found("a", (HALF_OF_CAT, 0.9, 1)))) == {
        "localization": [0, 1, 0, 0],
        "missed": [0, 0, 1, 0],
    }


def test_confusion_comes_before_duplicate() -> None:
    record = make_record("a", [CAT, CAT], [1, 2])
    rows = [(CAT, 0.9, 1), (CAT, 0.8, 1)]
    assert counts(breakdown(record, found("a", *rows))) == {
        "correct": [0, 1, 0, 0],
        "confusion": [0, 1, 0, 0],
    }


def test_the_best_detection_takes_the_object() -> None:
    record = make_record("a", [CAT], [1])
    near = [0.0, 0.0, 0.4, 0.36]
    rows = [(CAT, 0.8, 1), (near, 0.9, 1)]
    assert counts(breakdown(record, found("a", *rows))) == {
        "correct": [0, 1, 0, 0],
        "duplicate": [0, 1, 0, 0],
    }


def test_detections_choose_in_the_order_of_their_scores() -> None:
    # Last by its place, the better one takes the object that only it needs.
    other = [0.0, 0.1, 0.4, 0.5]
    only_cat = [0.0, 0.0, 0.4, 0.3]
    record = make_record("a", [CAT, other], [1, 1])
    rows = [(CAT, 0.8, 1), (only_cat, 0.9, 1)]
    assert counts(breakdown(record, found("a", *rows))) == {"correct": [0, 2, 0, 0]}


def test_a_second_object_is_taken_by_the_second_detection() -> None:
    near = [0.0, 0.0, 0.4, 0.36]
    record = make_record("a", [CAT, near], [1, 1])
    rows = [(CAT, 0.9, 1), (CAT, 0.8, 1)]
    assert counts(breakdown(record, found("a", *rows))) == {"correct": [0, 2, 0, 0]}


@pytest.mark.parametrize("kind", ["difficult", "crowd"])
def test_objects_that_do_not_count(kind: str) -> None:
    record = make_record("a", [CAT, DOG], [1, 2], **{kind: [True, False]})
    rows = [(CAT, 0.9, 1), (CAT, 0.8, 1), (DOG, 0.7, 2), (CAT, 0.6, 2)]
    result = breakdown(record, found("a", *rows))
    assert counts(result) == {"correct": [0, 0, 1, 0], "background": [0, 0, 1, 0]}
    assert result.num_ground_truth.tolist() == [0, 0, 1, 0]


def test_only_a_crowd_forgives_a_small_part_of_it() -> None:
    part = [0.1, 0.1, 0.2, 0.2]
    for kind, expected in (("crowd", {}), ("difficult", {"background": [0, 1, 0, 0]})):
        record = make_record("a", [CAT], [1], **{kind: [True]})
        assert counts(breakdown(record, found("a", (part, 0.9, 1)))) == expected


def test_images_without_objects() -> None:
    result = breakdown(make_record("a"), found("a", (CAT, 0.9, 1)))
    assert counts(result) == {"background": [0, 1, 0, 0]}
    assert counts(breakdown(make_record("a"), found("a"))) == {}


def test_every_detection_has_one_kind_and_workers_merge() -> None:
    dataset, detections = random_dataset(np.random.default_rng(3), 60)
    whole = ErrorEvaluator(len(NAMES), score_threshold=0.2)
    workers = [ErrorEvaluator(len(NAMES), score_threshold=0.2) for _ in range(2)]
    for i, pair in enumerate(zip(dataset.records, detections, strict=True)):
        whole.add(*pair)
        workers[i % 2].add(*pair)
    first, second = (pickle.loads(pickle.dumps(worker)) for worker in workers)
    first.merge(second)
    merged, expected = first.result(), whole.result()
    assert counts(merged) == counts(expected)
    assert tuple(expected.detections) == DETECTION_KINDS
    assert all(c.sum() for c in expected.detections.values())
    looked_at = sum(int((d.scores > 0.2).sum()) for d in detections)
    judged = sum(int(c.sum()) for c in expected.detections.values())
    # The rest is forgiven: difficult objects and crowds.
    assert 0.7 * looked_at < judged < looked_at
    correct = expected.detections["correct"]
    assert (correct + expected.missed <= expected.num_ground_truth).all()
    with pytest.raises(ValueError, match=r"same settings, .*0\.2.* and .*0\.3"):
        first.merge(ErrorEvaluator(len(NAMES), score_threshold=0.3))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_classes": 1}, "num_classes must be at least 2, got 1"),
        ({"iou_threshold": 0}, r"iou_threshold must be in \(0, 1\], got 0"),
        ({"background_iou": 0.5}, r"background_iou must be in \(0, 0.5\), got 0.5"),
    ],
)
def test_wrong_options(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ErrorEvaluator(**{"num_classes": 4, **options})
