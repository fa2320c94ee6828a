# SPDX-License-Identifier: Apache-2.0
"""Public `box_iou`: every implementation and way to run it against the oracle."""

from __future__ import annotations

import re

import numpy as np
import oracles.box_iou as oracle
import pytest
import tensorflow as tf
from support.bits import assert_equal_bits
from support.cases import quantised_boxes, random_boxes, special_boxes, ssd300_anchors
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

from ssdops import box_iou

F32 = tf.float32


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", FULL_DTYPES)
def test_special_boxes(mode: Mode, dtype: type) -> None:
    boxes = special_boxes(dtype)
    assert_equal_bits(mode.run(box_iou, boxes, boxes), oracle.box_iou(boxes, boxes))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", FULL_DTYPES)
def test_random_boxes(mode: Mode, dtype: type) -> None:
    rng = np.random.default_rng(1)
    a = random_boxes(rng, 33, dtype=dtype)
    b = quantised_boxes(rng, 17, dtype=dtype)
    b[::2] = random_boxes(rng, 9, dtype=dtype)
    assert_equal_bits(mode.run(box_iou, a, b), oracle.box_iou(a, b))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("shape_a", "shape_b"),
    [
        ((0, 4), (0, 4)),
        ((0, 4), (3, 4)),
        ((5, 4), (0, 4)),
        ((1, 4), (1, 4)),
        ((2, 3, 4), (5, 4)),
        ((3, 4), (2, 5, 4)),
        ((2, 3, 4), (2, 5, 4)),
        ((0, 3, 4), (0, 5, 4)),
        ((0, 3, 4), (5, 4)),
        ((1, 3, 4), (1, 0, 4)),
    ],
)
def test_batch_dimensions(
    mode: Mode, shape_a: tuple[int, ...], shape_b: tuple[int, ...]
) -> None:
    rng = np.random.default_rng(2)
    a = random_boxes(rng, *shape_a[:-1], dtype=np.float32)
    b = random_boxes(rng, *shape_b[:-1], dtype=np.float32)
    assert_equal_bits(mode.run(box_iou, a, b), oracle.box_iou(a, b))


@pytest.mark.parametrize("mode", EAGER_MODES)
def test_all_anchors(mode: Mode) -> None:
    anchors = ssd300_anchors()
    gt = random_boxes(np.random.default_rng(3), 5, dtype=np.float32)
    assert_equal_bits(mode.run(box_iou, anchors, gt), oracle.box_iou(anchors, gt))


@pytest.mark.parametrize("dtype", HALF_DTYPES)
@pytest.mark.parametrize("how", ["eager", "graph", "xla"])
def test_half_types_are_computed_in_float32(dtype: type, how: str) -> None:
    rng = np.random.default_rng(4)
    a = random_boxes(rng, 13, dtype=np.float32).astype(dtype)
    with np.errstate(over="ignore"):
        b = special_boxes(np.float32).astype(dtype)
    expected = oracle.box_iou(a.astype(np.float32), b.astype(np.float32)).astype(dtype)
    assert_equal_bits(Mode("reference", how).run(box_iou, a, b), expected)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_values_are_fractions_and_one_for_equal_boxes(implementation: str) -> None:
    boxes = random_boxes(np.random.default_rng(5), 200, dtype=np.float32)
    iou = Mode(implementation, "eager").run(box_iou, boxes, boxes)
    assert ((iou >= 0) & (iou <= 1)).all()
    assert (np.diagonal(iou) == 1).all()
    assert_equal_bits(iou, np.ascontiguousarray(iou.T))


def test_python_lists_are_float32() -> None:
    iou = box_iou([[0.0, 0.0, 1.0, 1.0]], [[0.0, 0.5, 1.0, 1.0]])
    assert iou.dtype == tf.float32
    assert iou.numpy().tolist() == [[0.5]]


def test_lists_take_the_dtype_of_the_other_argument() -> None:
    box = np.array([[0.0, 0.0, 1.0, 1.0]])
    assert box_iou([[0.0, 0.5, 1.0, 1.0]], box).dtype == tf.float64


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize(
    ("shape_a", "shape_b", "expected"),
    [
        ((5, 4), (7, 4), [5, 7]),
        ((None, 4), (7, 4), [None, 7]),
        ((None, None), (None, None), [None, None]),
        ((2, 5, 4), (7, 4), [2, 5, 7]),
        ((5, 4), (None, 7, 4), [None, 5, 7]),
        ((None, 5, 4), (3, None, 4), [3, 5, None]),
        ((2, None, 4), (None, None, 4), [2, None, None]),
        (None, (7, 4), None),
        (None, None, None),
    ],
)
def test_shape_inference(implementation, shape_a, shape_b, expected) -> None:
    inferred = static_shapes(box_iou, implementation, [shape_a, shape_b], [F32, F32])
    assert inferred == expected


SHAPE_ERRORS = [
    ((5,), (7, 4), "boxes_a must have shape [N, 4] or [B, N, 4], got [5]"),
    ((5, 3), (7, 4), "boxes_a must have shape [N, 4] or [B, N, 4], got [5, 3]"),
    ((5, 4), (7, 5), "boxes_b must have shape [M, 4] or [B, M, 4], got [7, 5]"),
    ((5, 4), (1, 2, 7, 4), "boxes_b must have shape [M, 4] or [B, M, 4]"),
    ((2, 5, 4), (3, 7, 4), "boxes_b must have 2 elements along axis 0 as boxes_a"),
]


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize(("shape_a", "shape_b", "message"), SHAPE_ERRORS)
def test_shape_errors(implementation, shape_a, shape_b, message) -> None:
    expect_static_error(
        box_iou, implementation, [shape_a, shape_b], [F32, F32], message
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        box_iou(tf.zeros(shape_a), tf.zeros(shape_b), implementation="reference")


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize(
    ("shape_a", "shape_b"), [case[:2] for case in SHAPE_ERRORS] + [((4,), (7, 4))]
)
def test_shapes_known_at_run_time(implementation, shape_a, shape_b) -> None:
    arrays = [np.zeros(shape_a, np.float32), np.zeros(shape_b, np.float32)]
    expect_runtime_error(box_iou, implementation, arrays)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_one_image_is_not_broadcast_over_a_batch(implementation: str) -> None:
    arrays = [np.zeros((1, 5, 4), np.float32), np.zeros((2, 7, 4), np.float32)]
    signature = [[None, None, 4], [None, None, 4]]
    expect_runtime_error(box_iou, implementation, arrays, signature)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("rank_a", [2, 3])
@pytest.mark.parametrize("rank_b", [2, 3])
def test_ranks_known_at_run_time(implementation, rank_a, rank_b) -> None:
    rng = np.random.default_rng(6)
    a = random_boxes(rng, *(2, 5)[3 - rank_a :], dtype=np.float32)
    b = random_boxes(rng, *(2, 7)[3 - rank_b :], dtype=np.float32)
    mode = Mode(implementation, "eager")
    function = mode.function(box_iou, "float32")
    traced = tf.function(
        function, input_signature=[tf.TensorSpec(None, F32)] * 2, autograph=False
    )
    assert_equal_bits(traced(a, b).numpy(), oracle.box_iou(a, b))


def test_dtype_errors() -> None:
    whole = np.zeros((2, 4), np.int32)
    single = np.zeros((2, 4), np.float32)
    with pytest.raises(ValueError, match="boxes_a must have dtype float16, bfloat16"):
        box_iou(whole, whole)
    with pytest.raises(
        ValueError, match="boxes_b must have dtype float32 as boxes_a, got float64"
    ):
        box_iou(single, single.astype(np.float64))


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_not_differentiable(implementation: str) -> None:
    boxes = random_boxes(np.random.default_rng(7), 3, dtype=np.float32)
    expect_no_gradient(box_iou, implementation, boxes, boxes)


@pytest.mark.parametrize("mode", EAGER_MODES)
def test_split_batches_give_the_same_bits(mode: Mode) -> None:
    rng = np.random.default_rng(8)
    a = random_boxes(rng, 4, 19, dtype=np.float32)
    b = random_boxes(rng, 4, 23, dtype=np.float32)
    whole = mode.run(box_iou, a, b)
    parts = [mode.run(box_iou, a[i], b[i]) for i in range(4)]
    assert_equal_bits(whole, np.stack(parts))


@pytest.mark.parametrize("mode", MODES)
def test_tiny_boxes(mode: Mode) -> None:
    # Areas of 1e-20 and 1e-36, and some that are no number above 0 any more.
    boxes = _squares(1e-10, 1e-18, 1e-25, 1e-30)
    assert_equal_bits(mode.run(box_iou, boxes, boxes), oracle.box_iou(boxes, boxes))


@pytest.mark.parametrize("mode", MODES)
def test_subnormal_numbers_are_zero_within_tensorflow(mode: Mode) -> None:
    # An area of 1e-38 is subnormal. TensorFlow runs its kernels with such numbers
    # flushed to zero, so the oracle, which runs without, is no judge here.
    boxes = _squares(1e-10, 1e-19, 1e-39)
    iou = mode.run(box_iou, boxes, boxes)
    assert_equal_bits(iou, np.diag(np.array([1, 0, 0], np.float32)))


def _squares(*sides: float) -> np.ndarray:
    side = np.array(sides, np.float32)
    zero = np.zeros_like(side)
    return np.stack([zero, zero, side, side], -1)


def test_wrong_implementation_name() -> None:
    box = np.zeros((1, 4), np.float32)
    with pytest.raises(ValueError, match="implementation must be one of 'auto', "):
        box_iou(box, box, implementation="fast")
