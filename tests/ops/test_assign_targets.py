# SPDX-License-Identifier: Apache-2.0
"""Public `assign_targets`: every implementation and way to run it, by the oracle."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import oracles.assign_targets as oracle
import pytest
import tensorflow as tf
from support.bits import assert_all_equal_bits, assert_equal_bits, assert_within
from support.cases import (
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
from support.tolerances import encode_tolerance

from ssdops import assign_targets, decode_boxes, encode_boxes, match_anchors

F32, I32 = tf.float32, tf.int32
QUARTERS = np.array(
    [[0, 0, 0.5, 0.5], [0, 0.5, 0.5, 1], [0.5, 0, 1, 0.5], [0.5, 0.5, 1, 1]],
    np.float32,
)


def check(mode: Mode, anchors: Any, boxes: Any, labels: Any, **options: Any) -> Any:
    actual = mode.run(assign_targets, anchors, boxes, labels, **options)
    options.setdefault("negative_threshold", options.get("iou_threshold", 0.5))
    expected = oracle.assign_targets(anchors, boxes, labels, **options)
    names = ("classes", "matched_gt", "matched_iou")
    assert_all_equal_bits((actual[0], *actual[2:]), (expected[0], *expected[2:]), names)
    rewritten = mode.implementation == "reference" and mode.how != "eager"
    tolerance = encode_tolerance(expected[1], exact_divisions=not rewritten)
    assert_within(actual.offsets, expected[1], tolerance, "offsets")
    return actual


def one_image(*rows: Any, labels: Any = None) -> tuple[Any, Any]:
    boxes = np.array(rows, np.float32).reshape(1, -1, 4)
    if labels is None:
        labels = np.ones(boxes.shape[1])
    return boxes, np.array(labels, np.int32).reshape(1, -1)


OPTIONS = [
    {},
    {"iou_threshold": 0.5, "negative_threshold": 0.25},
    {"bipartite_only": True, "variances": (0.5, 0.25, 0.75, 1.5)},
    {"ignore_cross_boundary": True, "ignore_threshold": 0.25},
]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", FULL_DTYPES)
@pytest.mark.parametrize("options", OPTIONS, ids="-".join)
def test_random_boxes(mode: Mode, dtype: type, options: dict[str, Any]) -> None:
    rng = np.random.default_rng(1)
    anchors = random_boxes(rng, 61, dtype=dtype)
    boxes = random_boxes(rng, 3, 9, dtype=dtype)
    check(mode, anchors, boxes, random_labels(rng, 3, 9), **options)


@pytest.mark.parametrize("mode", EAGER_MODES)
@pytest.mark.parametrize("seed", range(5))
def test_quantised_boxes(mode: Mode, seed: int) -> None:
    rng = np.random.default_rng(seed)
    anchors = quantised_boxes(rng, 37, dtype=np.float32)
    boxes = quantised_boxes(rng, 3, 11, dtype=np.float32)
    check(mode, anchors, boxes, random_labels(rng, 3, 11), iou_threshold=0.25)


@pytest.mark.parametrize("mode", MODES)
def test_special_boxes(mode: Mode) -> None:
    boxes = special_boxes(np.float32)
    labels = np.array([[1, 0, -1, 2] * 7], np.int32)
    targets = check(mode, boxes, boxes[None], labels)
    assert np.isfinite(targets.offsets).all()


@pytest.mark.parametrize("mode", EAGER_MODES)
def test_all_anchors(mode: Mode) -> None:
    rng = np.random.default_rng(2)
    boxes = random_boxes(rng, 2, 9, dtype=np.float32)
    labels = random_labels(rng, 2, 9)
    check(mode, ssd300_anchors(), boxes, labels, negative_threshold=0.4)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("num_anchors", "batch", "num_gt"),
    [(0, 2, 3), (5, 0, 3), (5, 2, 0), (0, 0, 0), (1, 1, 1), (2, 1, 9)],
)
def test_sizes(mode: Mode, num_anchors: int, batch: int, num_gt: int) -> None:
    rng = np.random.default_rng(3)
    anchors = quantised_boxes(rng, num_anchors, dtype=np.float32)
    boxes = quantised_boxes(rng, batch, num_gt, dtype=np.float32)
    check(mode, anchors, boxes, np.ones((batch, num_gt), np.int32))


@pytest.mark.parametrize("mode", EAGER_MODES)
def test_an_anchor_takes_class_and_box_of_its_match(mode: Mode) -> None:
    box = [0.05, 0.45, 0.5, 1.0]
    boxes, labels = one_image(box, [0, 0, 0, 0], labels=[7, 0])
    targets = check(mode, QUARTERS, boxes, labels)
    assert targets.classes.tolist() == [[0, 7, 0, 0]]
    assert targets.matched_gt.tolist() == [[-1, 0, -1, -1]]
    decoded = decode_boxes(targets.offsets, QUARTERS).numpy()
    np.testing.assert_allclose(decoded[0, 1], box, atol=1e-6)
    assert not targets.offsets[0, [0, 2, 3]].any()


@pytest.mark.parametrize("mode", EAGER_MODES)
def test_padding_and_degenerate_boxes_match_nothing(mode: Mode) -> None:
    boxes, labels = one_image(
        [0, 0, 0, 0], [0.2, 0.2, 0.2, 0.4], [0.9, 0.9, 0.1, 0.1], labels=[0, 1, 2]
    )
    targets = check(mode, QUARTERS, boxes, labels)
    assert not targets.classes.any()
    assert not targets.offsets.any()


@pytest.mark.parametrize("mode", EAGER_MODES)
def test_anchors_in_a_crowd_are_ignored(mode: Mode) -> None:
    boxes, labels = one_image([0, 0, 0.5, 1], [0, 0, 0.5, 0.5], labels=[-1, 3])
    targets = check(mode, QUARTERS, boxes, labels)
    assert targets.classes.tolist() == [[3, -1, 0, 0]]
    assert targets.matched_gt.tolist() == [[1, -2, -1, -1]]


@pytest.mark.parametrize("mode", EAGER_MODES)
def test_the_band_between_the_thresholds_is_ignored(mode: Mode) -> None:
    # IoU 2/3 with anchor 0 and 1/9 with anchor 1.
    boxes, labels = one_image([0, 0.1, 0.5, 0.6])
    targets = check(mode, QUARTERS, boxes, labels, negative_threshold=0.1)
    assert targets.classes.tolist() == [[1, -1, 0, 0]]
    assert check(mode, QUARTERS, boxes, labels).classes.tolist() == [[1, 0, 0, 0]]


def with_difficult(
    anchors: Any, boxes: Any, labels: Any, difficult: Any, **options: Any
) -> Any:
    return assign_targets(anchors, boxes, labels, gt_difficult=difficult, **options)


def dropping_difficult(*inputs: Any, **options: Any) -> Any:
    return with_difficult(*inputs, use_difficult=False, **options)


with_difficult.__name__ = dropping_difficult.__name__ = "assign_targets"


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("use", [True, False])
def test_difficult_rows(mode: Mode, use: bool) -> None:
    rng = np.random.default_rng(4)
    anchors = random_boxes(rng, 40, dtype=np.float32)
    boxes = random_boxes(rng, 2, 9, dtype=np.float32)
    labels = random_labels(rng, 2, 9)
    difficult = rng.random((2, 9)) < 0.4
    dropped = np.where(difficult & (not use), 0, labels).astype(np.int32)
    expected = mode.run(assign_targets, anchors, boxes, dropped)
    inputs = (anchors, boxes, labels, difficult)
    actual = mode.run(with_difficult, *inputs, use_difficult=use)
    assert_all_equal_bits(actual, expected, expected._fields)


@pytest.mark.parametrize("mode", EAGER_MODES)
@pytest.mark.parametrize("dtype", [*FULL_DTYPES, *HALF_DTYPES])
def test_it_is_matching_and_encoding_in_one(mode: Mode, dtype: type) -> None:
    rng = np.random.default_rng(5)
    anchors = random_boxes(rng, 61, dtype=np.float64).astype(dtype)
    boxes = random_boxes(rng, 3, 8, dtype=np.float64).astype(dtype)
    labels = random_labels(rng, 3, 8)
    targets = mode.run(assign_targets, anchors, boxes, labels, iou_threshold=0.25)
    matches = mode.run(match_anchors, anchors, boxes, labels, iou_threshold=0.25)
    assert_all_equal_bits(targets[2:], matches, matches._fields)
    positive = matches.matched_gt >= 0
    assert positive.sum() > 10
    rows = np.take_along_axis(boxes, np.maximum(matches[0], 0)[..., None], 1)
    encoded = mode.run(encode_boxes, rows, anchors)
    expected = np.where(positive[..., None], encoded, dtype(0))
    assert_equal_bits(targets.offsets, expected)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize(
    ("shapes", "batch_and_anchors"),
    [
        (((7, 4), (2, 3, 4), (2, 3)), [2, 7]),
        (((None, 4), (2, 3, 4), (2, 3)), [2, None]),
        (((7, 4), (None, None, 4), (None, None)), [None, 7]),
        (((7, 4), (None, 3, 4), (2, None)), [2, 7]),
        ((None, None, None), [None, None]),
    ],
)
def test_shape_inference(implementation, shapes, batch_and_anchors) -> None:
    targets = static_shapes(assign_targets, implementation, shapes, [F32, F32, I32])
    expected = [batch_and_anchors] * 4
    expected[1] = [*batch_and_anchors, 4]
    assert list(targets) == expected


SHAPE_ERRORS = [
    (((7,), (2, 3, 4), (2, 3)), "anchors must have shape [A, 4], got [7]"),
    (((7, 4), (3, 4), (2, 3)), "gt_boxes must have shape [B, G, 4], got [3, 4]"),
    (((7, 4), (2, 3, 4), (3,)), "gt_labels must have shape [B, G], got [3]"),
    (((7, 4), (2, 3, 4), (1, 3)), "gt_labels must have 2 elements along axis 0"),
    (((7, 4), (2, 3, 4), (2, 1)), "gt_labels must have 3 elements along axis 1"),
]


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize(("shapes", "message"), SHAPE_ERRORS)
def test_shape_errors(implementation, shapes, message) -> None:
    dtypes = [F32, F32, I32]
    expect_static_error(assign_targets, implementation, shapes, dtypes, message)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("shapes", [case[0] for case in SHAPE_ERRORS])
def test_shapes_known_at_run_time(implementation, shapes) -> None:
    dtypes = (np.float32, np.float32, np.int32)
    arrays = [np.zeros(s, d) for s, d in zip(shapes, dtypes, strict=True)]
    expect_runtime_error(assign_targets, implementation, arrays)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_difficult_rows_are_not_broadcast(implementation) -> None:
    arrays = [
        np.zeros((7, 4), np.float32),
        np.zeros((2, 3, 4), np.float32),
        np.zeros((2, 3), np.int32),
        np.zeros((1, 3), np.bool_),
    ]
    expect_runtime_error(dropping_difficult, implementation, arrays)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"iou_threshold": 1.5}, "iou_threshold must be in [0, 1], got 1.5"),
        (
            {"negative_threshold": 0.6},
            "negative_threshold must be at most iou_threshold (0.5), got 0.6",
        ),
        ({"ignore_threshold": 2}, "ignore_threshold must be in [0, 1], got 2"),
        ({"variances": (0.1, 0.1)}, "variances must be 4 positive finite numbers"),
        ({"gt_difficult": [[1]]}, "gt_difficult must have dtype bool, got int64"),
        ({"gt_difficult": [True]}, "gt_difficult must have shape [B, G], got [1]"),
        (
            {"gt_difficult": [[True, False]]},
            "gt_difficult must have 1 elements along axis 1 as gt_boxes",
        ),
        ({"implementation": "cuda"}, "implementation must be one of"),
    ],
)
def test_option_errors(options: dict[str, Any], message: str) -> None:
    boxes, labels = one_image([0, 0, 1, 1])
    with pytest.raises(ValueError, match=re.escape(message)):
        assign_targets(boxes[0], boxes, labels, **options)


def test_dtype_errors() -> None:
    boxes, labels = one_image([0, 0, 1, 1])
    with pytest.raises(ValueError, match="gt_boxes must have dtype float32 as anchors"):
        assign_targets(boxes[0], boxes.astype(np.float64), labels)
    with pytest.raises(ValueError, match="gt_labels must have an integer dtype"):
        assign_targets(boxes[0], boxes, labels.astype(np.float32))


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_not_differentiable(implementation: str) -> None:
    boxes, labels = one_image([0, 0, 1, 1], [0.5, 0.5, 1, 1])
    expect_no_gradient(assign_targets, implementation, boxes[0], boxes, labels)
