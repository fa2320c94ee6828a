# SPDX-License-Identifier: Apache-2.0
"""Public `nms`: every implementation and way to run it against the oracle."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import oracles.nms as oracle
import pytest
import tensorflow as tf
from oracles.box_iou import iou
from support.bits import assert_all_equal_bits
from support.cases import (
    beside,
    quantised_boxes,
    random_boxes,
    special_boxes,
    tied_scores,
)
from support.contracts import (
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

from ssdops import NmsResult, nms

F32 = tf.float32
NAMES = NmsResult._fields
DTYPES = (*FULL_DTYPES, *HALF_DTYPES)


def check(mode: Mode, boxes: Any, scores: Any, **options: Any) -> Any:
    found = mode.run(nms, boxes, scores, **options)
    rows = options.pop("max_output_size", None)
    options["max_output_size"] = -1 if rows is None else rows
    assert_all_equal_bits(found, oracle.nms(boxes, scores, **options), NAMES)
    return found


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_random_boxes(mode: Mode, dtype: type) -> None:
    rng = np.random.default_rng(1)
    boxes = random_boxes(rng, 61, dtype=dtype)
    scores = rng.uniform(0, 1, 61).astype(dtype)
    check(mode, boxes, scores)
    check(mode, boxes, scores, iou_threshold=0.3, score_threshold=0.2)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("rows", [1, 5, 100])
def test_rows(mode: Mode, rows: int) -> None:
    rng = np.random.default_rng(6)
    boxes = random_boxes(rng, 61, dtype=np.float32)
    scores = rng.uniform(0, 1, 61).astype(np.float32)
    check(mode, boxes, scores, max_output_size=rows)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_ties(mode: Mode, dtype: type) -> None:
    rng = np.random.default_rng(2)
    boxes = quantised_boxes(rng, 47, dtype=dtype, steps=4)
    for limit in (0.0, 0.25):
        check(mode, boxes, tied_scores(rng, 47, dtype=dtype), iou_threshold=limit)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("count", [0, 1, 2, 17])
def test_sizes(mode: Mode, count: int) -> None:
    rng = np.random.default_rng(3)
    boxes = random_boxes(rng, count, dtype=np.float32)
    scores = rng.uniform(0, 1, count).astype(np.float32)
    check(mode, boxes, scores)
    check(mode, boxes, scores, max_output_size=6)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", FULL_DTYPES)
def test_special_boxes_and_scores(mode: Mode, dtype: type) -> None:
    boxes = special_boxes(dtype)
    rng = np.random.default_rng(4)
    values = [-np.inf, -1, -0.0, 0.0, 0.25, 0.5, 1, np.inf, np.nan]
    scores = rng.choice(values, len(boxes)).astype(dtype)
    check(mode, boxes, scores)
    check(mode, boxes, scores, score_threshold=0.0, iou_threshold=0.25)


@pytest.mark.parametrize("mode", MODES)
def test_positive_and_negative_zero_scores_are_equal(mode: Mode) -> None:
    boxes = np.array([[0, k, 1, k + 1] for k in range(4)], np.float32)
    found = check(mode, boxes, np.array([-0.0, 0.0, -0.0, 0.0], np.float32))
    assert found.indices.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("mode", EAGER_MODES)
def test_hundreds_of_boxes(mode: Mode) -> None:
    rng = np.random.default_rng(5)
    boxes = random_boxes(rng, 500, dtype=np.float32)
    place = 4 * rng.integers(0, 9, (500, 2)).astype(np.float32)
    boxes += np.concatenate([place, place], 1)
    scores = rng.uniform(0, 1, 500).astype(np.float32)
    found = mode.run(nms, boxes, scores)
    assert_all_equal_bits(found, oracle.nms_of_many(boxes, scores), NAMES)


@pytest.mark.parametrize("mode", EAGER_MODES)
@pytest.mark.parametrize("dtype", FULL_DTYPES)
def test_iou_threshold_and_its_neighbours(mode: Mode, dtype: type) -> None:
    boxes = np.array([[0, 0, 1, 1], [0.1, 0, 1, 0.9]], dtype)
    scores = np.array([0.9, 0.8], dtype)
    below, exact, above = beside(iou(*boxes))
    for limit, count in ((below, 1), (exact, 2), (above, 2)):
        assert check(mode, boxes, scores, iou_threshold=limit).num_valid == count


@pytest.mark.parametrize("mode", EAGER_MODES)
@pytest.mark.parametrize("dtype", FULL_DTYPES)
def test_score_threshold_and_its_neighbours(mode: Mode, dtype: type) -> None:
    boxes = np.array([[0, 0, 1, 1]], dtype)
    scores = np.array([0.01], dtype)
    below, exact, above = beside(scores[0])
    for limit, count in ((below, 1), (exact, 0), (above, 0), (0.01, 0)):
        assert check(mode, boxes, scores, score_threshold=limit).num_valid == count


@pytest.mark.parametrize("mode", EAGER_MODES)
def test_a_suppressed_box_suppresses_nothing(mode: Mode) -> None:
    boxes = np.array([[0, 0, 1, 1], [0, 0.4, 1, 1.4], [0, 0.8, 1, 1.8]], np.float32)
    scores = np.array([0.9, 0.8, 0.7], np.float32)
    found = check(mode, boxes, scores, iou_threshold=0.4)
    assert found.indices.tolist() == [0, 2, -1]


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize(
    ("boxes", "scores", "rows", "expected"),
    [
        ((7, 4), (7,), None, 7),
        ((7, 4), (7,), 9, 9),
        ((None, 4), (None,), 9, 9),
        ((None, 4), (None,), None, None),
        (None, None, 3, 3),
    ],
)
def test_shape_inference(implementation, boxes, scores, rows, expected) -> None:
    actual = static_shapes(
        nms, implementation, [boxes, scores], [F32, F32], max_output_size=rows
    )
    assert list(actual) == [[expected], []]


SHAPE_ERRORS = [
    ((4,), (7,), "boxes must have shape [N, 4], got [4]"),
    ((7, 5), (7,), "boxes must have shape [N, 4], got [7, 5]"),
    ((1, 7, 4), (7,), "boxes must have shape [N, 4], got [1, 7, 4]"),
    ((7, 4), (7, 1), "scores must have shape [N], got [7, 1]"),
    ((7, 4), (6,), "scores must have 7 elements along axis 0 as boxes"),
]


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize(("boxes", "scores", "message"), SHAPE_ERRORS)
def test_shape_errors(implementation, boxes, scores, message) -> None:
    expect_static_error(nms, implementation, [boxes, scores], [F32, F32], message)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize(("boxes", "scores"), [case[:2] for case in SHAPE_ERRORS])
def test_shapes_known_at_run_time(implementation, boxes, scores) -> None:
    arrays = [np.zeros(boxes, np.float32), np.ones(scores, np.float32)]
    expect_runtime_error(nms, implementation, arrays)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"score_threshold": float("nan")}, "score_threshold must be a number, got"),
        ({"iou_threshold": -0.5}, "iou_threshold must be in [0, 1], got -0.5"),
        ({"iou_threshold": float("nan")}, "iou_threshold must be in [0, 1], got nan"),
        ({"max_output_size": 0}, "max_output_size must be in [1, 2147483647], got 0"),
        ({"max_output_size": 2.5}, "max_output_size must be an integer, got 2.5"),
        ({"implementation": 3}, "implementation must be one of"),
    ],
)
def test_option_errors(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        nms(tf.zeros([1, 4]), tf.zeros([1]), **options)


def test_dtype_errors() -> None:
    with pytest.raises(ValueError, match="scores must have dtype float32 as boxes"):
        nms(tf.zeros([1, 4]), tf.zeros([1], tf.float16))


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_not_differentiable(implementation: str) -> None:
    # The outputs are integers, so there is nothing to sum; the tape must agree.
    boxes, scores = tf.zeros([3, 4]), tf.zeros([3])
    with tf.GradientTape() as tape:
        tape.watch([boxes, scores])
        found = nms(boxes, scores, implementation=implementation)
        total = tf.cast(found.num_valid, tf.float32)
    assert tape.gradient(total, [boxes, scores]) == [None, None]
