# SPDX-License-Identifier: Apache-2.0
"""Public `match_anchors`: every implementation and way to run it against the oracle."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import oracles.match_anchors as oracle
import pytest
import tensorflow as tf
from hypothesis import given
from support import strategies
from support.bits import assert_all_equal_bits, assert_equal_bits
from support.cases import (
    beside,
    quantised_boxes,
    random_boxes,
    random_labels,
    special_boxes,
    ssd300_anchors,
)
from support.contracts import (
    expect_no_gradient,
    expect_runtime_error,
    expect_static_error,
    static_shapes,
)
from support.modes import (
    EAGER_MODES,
    FULL_DTYPES,
    HALF_DTYPES,
    IMPLEMENTATIONS,
    MODES,
    Mode,
)

from ssdops import match_anchors

F32, I32 = tf.float32, tf.int32
NAMES = ("matched_gt", "matched_iou")
NEGATIVE, IGNORED = -1, -2


def expected(anchors: Any, boxes: Any, labels: Any, **options: Any) -> tuple[Any, Any]:
    options.setdefault("negative_threshold", options.get("iou_threshold", 0.5))
    return oracle.match_anchors(anchors, boxes, labels, **options)


def check(mode: Mode, anchors: Any, boxes: Any, labels: Any, **options: Any) -> Any:
    actual = mode.run(match_anchors, anchors, boxes, labels, **options)
    assert_all_equal_bits(actual, expected(anchors, boxes, labels, **options), NAMES)
    return actual


def one_image(*rows: Any, labels: Any = None) -> tuple[Any, Any]:
    boxes = np.array(rows, np.float32).reshape(1, -1, 4)
    if labels is None:
        labels = np.ones(boxes.shape[1])
    return boxes, np.array(labels, np.int32).reshape(1, -1)


OPTIONS = [
    {},
    {"iou_threshold": 0.5, "negative_threshold": 0.25},
    {"bipartite_only": True},
    {"bipartite_only": True, "negative_threshold": 0.125},
    {"ignore_cross_boundary": True, "ignore_threshold": 0.25},
    {"iou_threshold": 0.0, "negative_threshold": 0.0, "ignore_threshold": 0.0},
    {"iou_threshold": 1.0, "negative_threshold": 0.5, "ignore_threshold": 1.0},
]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("options", OPTIONS, ids="-".join)
def test_quantised_boxes(mode: Mode, options: dict[str, Any]) -> None:
    function = None
    for seed in range(4):
        rng = np.random.default_rng(seed)
        inputs = (
            quantised_boxes(rng, 37, dtype=np.float32),
            quantised_boxes(rng, 3, 11, dtype=np.float32),
            random_labels(rng, 3, 11),
        )
        if function is None:
            function = mode.function(match_anchors, "float32", **options)
        actual = [t.numpy() for t in function(*map(tf.constant, inputs))]
        assert_all_equal_bits(actual, expected(*inputs, **options), NAMES)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", FULL_DTYPES)
def test_random_boxes(mode: Mode, dtype: type) -> None:
    rng = np.random.default_rng(10)
    anchors = random_boxes(rng, 61, dtype=dtype)
    boxes = random_boxes(rng, 4, 7, dtype=dtype)
    check(mode, anchors, boxes, random_labels(rng, 4, 7))


@pytest.mark.parametrize("mode", MODES)
def test_special_boxes(mode: Mode) -> None:
    boxes = special_boxes(np.float32)
    labels = np.array([[1, 0, -1, 2] * 7], np.int32)
    for options in ({}, {"ignore_cross_boundary": True}):
        check(mode, boxes, boxes[None], labels, **options)


@pytest.mark.parametrize("mode", EAGER_MODES)
@given(case=strategies.matching())
def test_ties(mode: Mode, case: Any) -> None:
    anchors, boxes, labels, options = case
    check(mode, anchors, boxes, labels, **options)


@pytest.mark.parametrize("mode", EAGER_MODES)
def test_all_anchors(mode: Mode) -> None:
    rng = np.random.default_rng(11)
    boxes = random_boxes(rng, 2, 9, dtype=np.float32)
    labels = random_labels(rng, 2, 9)
    check(mode, ssd300_anchors(), boxes, labels, negative_threshold=0.4)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("num_anchors", "batch", "num_gt"),
    [(0, 2, 3), (5, 0, 3), (5, 2, 0), (0, 0, 0), (0, 2, 0), (1, 1, 1), (2, 1, 9)],
)
def test_sizes(mode: Mode, num_anchors: int, batch: int, num_gt: int) -> None:
    rng = np.random.default_rng(12)
    anchors = quantised_boxes(rng, num_anchors, dtype=np.float32)
    boxes = quantised_boxes(rng, batch, num_gt, dtype=np.float32)
    check(mode, anchors, boxes, np.ones((batch, num_gt), np.int32))


@pytest.mark.parametrize("mode", MODES)
def test_only_padding(mode: Mode) -> None:
    boxes, labels = one_image([0, 0, 1, 1], [0, 0, 0.5, 0.5], labels=[0, 0])
    anchors = special_boxes(np.float32)
    matched_gt, matched_iou = check(mode, anchors, boxes, labels)
    assert (matched_gt == NEGATIVE).all()
    assert (matched_iou == 0).all()


@pytest.mark.parametrize("mode", EAGER_MODES)
def test_ground_truth_that_shares_its_best_anchor(mode: Mode) -> None:
    anchors = np.array([[0, 0, 1, 1], [0, 0, 1, 0.5], [0, 0, 0.5, 0.5]], np.float32)
    boxes, labels = one_image([0, 0, 1, 0.875], [0, 0, 1, 1])
    matched_gt, _ = check(mode, anchors, boxes, labels)
    # The first prefers anchor 0 too, and must be content with its next best.
    assert matched_gt.tolist() == [[1, 0, NEGATIVE]]


@pytest.mark.parametrize("mode", EAGER_MODES)
def test_duplicate_ground_truth(mode: Mode) -> None:
    anchors = np.array([[0, 0, 1, 1], [0, 0, 1, 1], [0, 0, 1, 1]], np.float32)
    boxes, labels = one_image([0, 0, 1, 1], [0, 0, 1, 1])
    matched_gt, matched_iou = check(mode, anchors, boxes, labels)
    assert matched_gt.tolist() == [[0, 1, 0]]
    assert matched_iou.tolist() == [[1, 1, 1]]


@pytest.mark.parametrize("mode", EAGER_MODES)
def test_threshold_and_its_neighbours(mode: Mode) -> None:
    anchors = np.array([[0, 0, 1, 1], [0.1, 0.2, 0.8, 0.7]], np.float32)
    boxes, labels = one_image([0, 0, 1, 1], [0.15, 0.2, 0.6, 0.9])
    boxes[0, 1] = [0, 0, 0.9, 1]
    overlap = oracle.iou(anchors[0], boxes[0, 1])
    anchors = np.stack([boxes[0, 1], anchors[0]])
    # Anchor 0 is the only box's twin; anchor 1 is free to take it per anchor.
    boxes, labels = boxes[:, 1:], labels[:, 1:]
    below, exact, above = beside(overlap)
    for limit, found in ((below, 0), (exact, 0), (above, NEGATIVE)):
        matched_gt, _ = check(mode, anchors, boxes, labels, iou_threshold=limit)
        assert matched_gt.tolist() == [[0, found]]
    for limit, found in ((below, IGNORED), (exact, IGNORED), (above, NEGATIVE)):
        matched_gt, _ = check(
            mode,
            anchors,
            boxes,
            labels,
            iou_threshold=0.99,
            negative_threshold=limit,
        )
        assert matched_gt.tolist() == [[0, found]]


@pytest.mark.parametrize("mode", EAGER_MODES)
def test_half_overlap_is_positive(mode: Mode) -> None:
    anchors = np.array([[0, 0, 1, 1], [0, 0, 1, 0.5]], np.float32)
    boxes, labels = one_image([0, 0, 1, 1])
    matched_gt, matched_iou = check(mode, anchors, boxes, labels)
    assert matched_gt.tolist() == [[0, 0]]
    assert matched_iou.tolist() == [[1, 0.5]]


@pytest.mark.parametrize("mode", EAGER_MODES)
def test_overlap_of_a_millionth_is_none(mode: Mode) -> None:
    anchors = np.array([[0, 0, 1, 1], [0, 0, 1, 1]], np.float32)
    for side, found in ((1.01e-3, 0), (0.99e-3, NEGATIVE)):
        boxes, labels = one_image([0, 0, side, side])
        matched_gt, matched_iou = check(mode, anchors, boxes, labels)
        assert matched_gt.tolist() == [[found, NEGATIVE]]
        assert (matched_iou > 0).all() == (found == 0)


@pytest.mark.parametrize("mode", EAGER_MODES)
def test_ignore_region_spares_only_negatives(mode: Mode) -> None:
    anchors = np.array(
        [[0, 0, 0.5, 0.5], [0, 0, 0.5, 1], [0, 0, 1, 1], [0.5, 0.5, 1, 1]], np.float32
    )
    boxes, labels = one_image([0, 0, 0.5, 0.5], [0, 0, 0.5, 0.5], labels=[-1, 3])
    matched_gt, _ = check(mode, anchors, boxes, labels, iou_threshold=0.75)
    # Covered parts: all (but matched), half (at the threshold), a quarter, none.
    assert matched_gt.tolist() == [[1, IGNORED, NEGATIVE, NEGATIVE]]


@pytest.mark.parametrize("mode", EAGER_MODES)
def test_every_negative_label_is_an_ignore_region(mode: Mode) -> None:
    anchors = np.array([[0, 0, 1, 1]], np.float32)
    for label in (-1, -2, -(2**31)):
        boxes, labels = one_image([0, 0, 1, 1], labels=[label])
        matched_gt, _ = check(mode, anchors, boxes, labels)
        assert matched_gt.tolist() == [[IGNORED]]


@pytest.mark.parametrize("mode", EAGER_MODES)
def test_padding_and_the_rest_of_the_batch_do_not_matter(mode: Mode) -> None:
    rng = np.random.default_rng(13)
    anchors = quantised_boxes(rng, 40, dtype=np.float32)
    boxes = quantised_boxes(rng, 3, 6, dtype=np.float32)
    labels = random_labels(rng, 3, 6)
    whole = mode.run(match_anchors, anchors, boxes, labels)
    wide = np.concatenate([boxes, quantised_boxes(rng, 3, 5, dtype=np.float32)], 1)
    padded = np.concatenate([labels, np.zeros((3, 5), np.int32)], 1)
    assert_all_equal_bits(mode.run(match_anchors, anchors, wide, padded), whole, NAMES)
    for i in range(3):
        alone = mode.run(match_anchors, anchors, boxes[i : i + 1], labels[i : i + 1])
        assert_all_equal_bits(alone, [part[i : i + 1] for part in whole], NAMES)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", HALF_DTYPES)
def test_half_types_are_computed_in_float32(mode: Mode, dtype: type) -> None:
    rng = np.random.default_rng(14)
    anchors = random_boxes(rng, 29, dtype=np.float32).astype(dtype)
    boxes = random_boxes(rng, 2, 6, dtype=np.float32).astype(dtype)
    labels = random_labels(rng, 2, 6)
    wide = expected(anchors.astype(np.float32), boxes.astype(np.float32), labels)
    actual = mode.run(match_anchors, anchors, boxes, labels)
    assert_equal_bits(actual.matched_gt, wide[0])
    assert_equal_bits(actual.matched_iou, wide[1].astype(dtype))


@pytest.mark.parametrize("dtype", [np.int8, np.int64, np.uint8])
def test_labels_of_any_integer_dtype(dtype: type) -> None:
    boxes, labels = one_image([0, 0, 1, 1])
    matches = match_anchors(boxes[0], boxes, labels.astype(dtype))
    assert matches.matched_gt.numpy().tolist() == [[0]]
    assert matches.matched_gt.dtype == tf.int32


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize(
    ("shapes", "batch_and_anchors"),
    [
        (((7, 4), (2, 3, 4), (2, 3)), [2, 7]),
        (((None, 4), (2, 3, 4), (2, 3)), [2, None]),
        (((7, 4), (None, None, 4), (None, None)), [None, 7]),
        (((7, 4), (None, 3, 4), (2, None)), [2, 7]),
        (((7, None), (None, None, None), (2, 3)), [2, 7]),
        (((7, 4), None, None), [None, 7]),
        ((None, None, None), [None, None]),
    ],
)
def test_shape_inference(implementation, shapes, batch_and_anchors) -> None:
    matches = static_shapes(match_anchors, implementation, shapes, [F32, F32, I32])
    assert list(matches) == [batch_and_anchors, batch_and_anchors]


SHAPE_ERRORS = [
    (((7,), (2, 3, 4), (2, 3)), "anchors must have shape [A, 4], got [7]"),
    (((2, 7, 4), (2, 3, 4), (2, 3)), "anchors must have shape [A, 4], got [2, 7, 4]"),
    (((7, 5), (2, 3, 4), (2, 3)), "anchors must have shape [A, 4], got [7, 5]"),
    (((7, 4), (3, 4), (2, 3)), "gt_boxes must have shape [B, G, 4], got [3, 4]"),
    (((7, 4), (2, 3, 5), (2, 3)), "gt_boxes must have shape [B, G, 4], got [2, 3, 5]"),
    (((7, 4), (2, 3, 4), (3,)), "gt_labels must have shape [B, G], got [3]"),
    (((7, 4), (2, 3, 4), (1, 3)), "gt_labels must have 2 elements along axis 0"),
    (((7, 4), (2, 3, 4), (2, 1)), "gt_labels must have 3 elements along axis 1"),
]


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize(("shapes", "message"), SHAPE_ERRORS)
def test_shape_errors(implementation, shapes, message) -> None:
    dtypes = [F32, F32, I32]
    expect_static_error(match_anchors, implementation, shapes, dtypes, message)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("shapes", [case[0] for case in SHAPE_ERRORS])
def test_shapes_known_at_run_time(implementation, shapes) -> None:
    dtypes = (np.float32, np.float32, np.int32)
    arrays = [np.zeros(s, d) for s, d in zip(shapes, dtypes, strict=True)]
    expect_runtime_error(match_anchors, implementation, arrays)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("labels_shape", [(1, 3), (2, 1), (2, 4), (3, 3)])
def test_labels_are_not_broadcast(implementation, labels_shape) -> None:
    arrays = [
        np.zeros((7, 4), np.float32),
        np.zeros((2, 3, 4), np.float32),
        np.zeros(labels_shape, np.int32),
    ]
    signature = [[7, 4], [None, None, 4], [None, None]]
    expect_runtime_error(match_anchors, implementation, arrays, signature)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"iou_threshold": 1.5}, "iou_threshold must be in [0, 1], got 1.5"),
        ({"iou_threshold": float("nan")}, "iou_threshold must be in [0, 1], got nan"),
        ({"iou_threshold": "high"}, "iou_threshold must be a number, got 'high'"),
        ({"negative_threshold": -0.1}, "negative_threshold must be in [0, 1]"),
        (
            {"negative_threshold": 0.6},
            "negative_threshold must be at most iou_threshold (0.5), got 0.6",
        ),
        ({"ignore_threshold": 2}, "ignore_threshold must be in [0, 1], got 2"),
        ({"implementation": "cuda"}, "implementation must be one of"),
    ],
)
def test_option_errors(options: dict[str, Any], message: str) -> None:
    boxes, labels = one_image([0, 0, 1, 1])
    with pytest.raises(ValueError, match=re.escape(message)):
        match_anchors(boxes[0], boxes, labels, **options)


def test_dtype_errors() -> None:
    boxes, labels = one_image([0, 0, 1, 1])
    with pytest.raises(ValueError, match="gt_boxes must have dtype float32 as anchors"):
        match_anchors(boxes[0], boxes.astype(np.float64), labels)
    with pytest.raises(ValueError, match="gt_labels must have an integer dtype"):
        match_anchors(boxes[0], boxes, labels.astype(np.float32))


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_not_differentiable(implementation: str) -> None:
    boxes, labels = one_image([0, 0, 1, 1], [0.5, 0.5, 1, 1])
    expect_no_gradient(match_anchors, implementation, boxes[0], boxes, labels)
