# SPDX-License-Identifier: Apache-2.0
"""Public `decode_boxes`: values, gradients, shapes and errors."""

from __future__ import annotations

from typing import Any

import numpy as np
import oracles.decode_boxes as oracle
import pytest
import tensorflow as tf
from support.bits import assert_equal_bits, assert_within
from support.cases import ssd300_anchors
from support.coding import ordinary, overflowing
from support.contracts import expect_runtime_error, expect_static_error, static_shapes
from support.modes import (
    EAGER_MODES,
    FULL_DTYPES,
    HALF_DTYPES,
    IMPLEMENTATIONS,
    MODES,
    Mode,
)
from support.requirements import require_native_op
from support.tolerances import decode_tolerance, gradient_tolerance

from ssdops import decode_boxes

F32 = tf.float32
VARIANCES = (0.5, 0.25, 0.75, 0.125)


def check(mode: Mode, offsets: Any, anchors: Any, **options: Any) -> Any:
    actual = mode.run(decode_boxes, offsets, anchors, **options)
    expected = oracle.decode_boxes(offsets, anchors, **options)
    tolerance = decode_tolerance(expected, offsets, anchors, **options)
    assert_within(actual, expected, tolerance)
    return actual


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", FULL_DTYPES)
@pytest.mark.parametrize("shape", [(33,), (2, 17), (2, 3, 5)])
def test_random_offsets(mode: Mode, dtype: type, shape: tuple[int, ...]) -> None:
    _, offsets, anchors = ordinary(np.random.default_rng(1), *shape, dtype=dtype)
    check(mode, offsets, anchors)
    check(mode, offsets, anchors, variances=VARIANCES)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("shape", [(0,), (0, 3), (3, 0), (0, 0), (2, 0, 5)])
def test_no_offsets(mode: Mode, shape: tuple[int, ...]) -> None:
    offsets = np.zeros((*shape, 4), np.float32)
    check(mode, offsets, np.ones((shape[-1], 4), np.float32))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", FULL_DTYPES)
def test_what_overflows_is_limited(mode: Mode, dtype: type) -> None:
    offsets, anchors = overflowing(dtype)
    boxes = mode.run(decode_boxes, offsets, anchors)
    assert np.isfinite(boxes).all()
    check(mode, offsets, anchors)


@pytest.mark.parametrize("mode", MODES)
def test_nan_goes_through(mode: Mode) -> None:
    offsets = np.zeros((4, 4), np.float32)
    offsets[[0, 1, 2, 3], [0, 1, 2, 3]] = np.nan
    anchors = np.tile(np.array([0, 0, 1, 1], np.float32), (4, 1))
    boxes = mode.run(decode_boxes, offsets, anchors)
    expected = np.array([[1, 0, 1, 0], [0, 1, 0, 1]] * 2, bool)
    assert np.isnan(boxes).tolist() == expected.tolist()


@pytest.mark.parametrize("mode", MODES)
def test_zero_offsets_give_the_anchors_centre_and_size(mode: Mode) -> None:
    anchors = np.array([[0.25, 0, 0.75, 1], [-1, -0.5, 2, 0.5]], np.float32)
    boxes = mode.run(decode_boxes, np.zeros_like(anchors), anchors)
    assert_equal_bits(boxes, anchors)


@pytest.mark.parametrize("mode", EAGER_MODES)
def test_all_anchors(mode: Mode) -> None:
    anchors = ssd300_anchors()
    rng = np.random.default_rng(2)
    check(mode, rng.normal(0, 1, anchors.shape).astype(np.float32), anchors)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", HALF_DTYPES)
def test_half_types_are_computed_in_float32(mode: Mode, dtype: type) -> None:
    _, offsets, anchors = ordinary(np.random.default_rng(3), 2, 31, dtype=np.float32)
    offsets, anchors = offsets.astype(dtype), anchors.astype(dtype)
    wide = offsets.astype(np.float32), anchors.astype(np.float32)
    actual = mode.run(decode_boxes, offsets, anchors)
    float32_result = mode.run(decode_boxes, *wide)
    assert_equal_bits(actual, float32_result.astype(dtype))


@pytest.mark.parametrize("mode", MODES)
def test_float16_is_limited_to_its_own_range(mode: Mode) -> None:
    offsets = np.array([[0, 0, 60000, 0], [60000, -60000, 0, 0]], np.float16)
    anchors = np.array([[0, 0, 1, 1], [0, 0, 60000, 60000]], np.float16)
    boxes = mode.run(decode_boxes, offsets, anchors)
    assert boxes.tolist() == [[-65504, 0, 65504, 1], [65504, -65504, 65504, -65504]]


@pytest.mark.parametrize("mode", MODES)
def test_bfloat16_stays_finite(mode: Mode) -> None:
    dtype = tf.bfloat16.as_numpy_dtype
    largest = np.float32(tf.bfloat16.max)
    offsets = np.array([[0, 0, 500, 0], [largest, -largest, 0, 0]], np.float32)
    anchors = np.array([[0, 0, 1, 1], [0, 0, largest / 2, largest / 2]], np.float32)
    boxes = mode.run(decode_boxes, offsets.astype(dtype), anchors.astype(dtype))
    assert np.isfinite(boxes.astype(np.float32)).all()


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize(
    ("offsets", "anchors", "expected"),
    [
        ((7, 4), (7, 4), [7, 4]),
        ((2, 7, 4), (7, 4), [2, 7, 4]),
        ((None, 7, 4), (7, 4), [None, 7, 4]),
        ((None, 7, 4), (None, 4), [None, 7, 4]),
        ((None, 7, 4), None, [None, 7, 4]),
        ((2, None, 3, 7, 4), (7, None), [2, None, 3, 7, 4]),
        ((None, None, 4), (None, 4), [None, None, 4]),
        (None, (7, 4), None),
        (None, None, None),
    ],
)
def test_shape_inference(implementation, offsets, anchors, expected) -> None:
    shapes = [offsets, anchors]
    assert static_shapes(decode_boxes, implementation, shapes, [F32, F32]) == expected


SHAPE_ERRORS = [
    ((4,), (7, 4), "offsets must have shape [..., A, 4], got [4]"),
    ((7, 5), (7, 4), "offsets must have shape [..., A, 4], got [7, 5]"),
    ((7, 4), (4,), "anchors must have shape [A, 4], got [4]"),
    ((7, 4), (7, 3), "anchors must have shape [A, 4], got [7, 3]"),
    ((7, 4), (1, 7, 4), "anchors must have shape [A, 4], got [1, 7, 4]"),
    ((2, 6, 4), (7, 4), "offsets must have 7 elements along axis -2 as anchors"),
    ((2, 7, 4), (1, 4), "offsets must have 1 elements along axis -2 as anchors"),
]


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize(("offsets", "anchors", "message"), SHAPE_ERRORS)
def test_shape_errors(implementation, offsets, anchors, message) -> None:
    shapes = [offsets, anchors]
    expect_static_error(decode_boxes, implementation, shapes, [F32, F32], message)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize(("offsets", "anchors"), [case[:2] for case in SHAPE_ERRORS])
def test_shapes_known_at_run_time(implementation, offsets, anchors) -> None:
    arrays = [np.zeros(offsets, np.float32), np.zeros(anchors, np.float32)]
    expect_runtime_error(decode_boxes, implementation, arrays)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize(("num_offsets", "num_anchors"), [(1, 7), (7, 1), (6, 7)])
def test_nothing_is_broadcast(implementation, num_offsets, num_anchors) -> None:
    arrays = [
        np.zeros((2, num_offsets, 4), np.float32),
        np.zeros((num_anchors, 4), np.float32),
    ]
    signature = [[None, None, 4], [None, 4]]
    expect_runtime_error(decode_boxes, implementation, arrays, signature)


@pytest.mark.parametrize("variances", [(0.1,) * 3, (0.1, 0.1, 0.2, float("nan"))])
def test_variance_errors(variances: tuple[float, ...]) -> None:
    box = np.array([[0, 0, 1, 1]], np.float32)
    message = "variances must be 4 positive finite numbers, got"
    with pytest.raises(ValueError, match=message):
        decode_boxes(box, box, variances=variances)


def gradient(
    mode: Mode, upstream: Any, offsets: Any, anchors: Any, **options: Any
) -> tuple[Any, Any]:
    function = mode.function(decode_boxes, offsets.dtype.name, **options)
    offsets, anchors = tf.constant(offsets), tf.constant(anchors)
    with tf.GradientTape() as tape:
        tape.watch([offsets, anchors])
        boxes = function(offsets, anchors)
    return tape.gradient(boxes, [offsets, anchors], tf.constant(upstream))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", FULL_DTYPES)
def test_gradient(mode: Mode, dtype: type) -> None:
    rng = np.random.default_rng(4)
    upstream, offsets, anchors = ordinary(rng, 3, 17, dtype=dtype)
    anchors[::5] = anchors[::5, [2, 3, 0, 1]]  # inverted
    for_offsets, for_anchors = gradient(
        mode, upstream, offsets, anchors, variances=VARIANCES
    )
    expected, magnitude = oracle.decode_boxes_grad(
        upstream, offsets, anchors, variances=VARIANCES
    )
    tolerance = gradient_tolerance(magnitude, dtype)
    assert_within(for_offsets.numpy().astype(np.float64), expected, tolerance)
    assert for_anchors is None


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_gradient_is_that_of_the_float64_reference(implementation: str) -> None:
    rng = np.random.default_rng(5)
    upstream, offsets, anchors = ordinary(rng, 2, 13, dtype=np.float32)
    arrays = (upstream, offsets, anchors)
    actual, _ = gradient(Mode(implementation, "eager"), *arrays)
    wide = [array.astype(np.float64) for array in arrays]
    expected, _ = gradient(Mode("reference", "eager"), *wide)
    _, magnitude = oracle.decode_boxes_grad(*arrays)
    # The variances, rounded to float32, move the argument of the exponential too.
    tolerance = gradient_tolerance(magnitude, np.float32)
    assert_within(actual.numpy().astype(np.float64), expected.numpy(), tolerance)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_gradient_against_finite_differences(implementation: str) -> None:
    if implementation == "native":
        require_native_op("decode_boxes", "float64")
    _, offsets, anchors = ordinary(np.random.default_rng(6), 2, 3, dtype=np.float64)
    theory, numeric = tf.test.compute_gradient(
        lambda t: decode_boxes(t, anchors, implementation=implementation),
        [tf.constant(offsets)],
        delta=1e-5,
    )
    np.testing.assert_allclose(theory[0], numeric[0], rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", FULL_DTYPES)
def test_gradient_is_zero_where_a_value_was_limited(mode: Mode, dtype: type) -> None:
    offsets, anchors = overflowing(dtype)
    upstream = np.full_like(offsets, 0.5)
    upstream[:, 2:] = 0.25
    for_offsets, _ = gradient(mode, upstream, offsets, anchors)
    for_offsets = for_offsets.numpy()
    assert np.isfinite(for_offsets).all()
    expected, magnitude = oracle.decode_boxes_grad(upstream, offsets, anchors)
    tolerance = gradient_tolerance(magnitude, dtype)
    assert_within(for_offsets.astype(np.float64), expected, tolerance)


@pytest.mark.parametrize("mode", EAGER_MODES)
@pytest.mark.parametrize("dtype", HALF_DTYPES)
def test_gradient_of_half_types(mode: Mode, dtype: type) -> None:
    upstream, offsets, anchors = ordinary(np.random.default_rng(7), 17, dtype=dtype)
    for_offsets, _ = gradient(mode, upstream, offsets, anchors)
    wide = [array.astype(np.float32) for array in (upstream, offsets, anchors)]
    expected, _ = gradient(mode, *wide)
    assert_equal_bits(for_offsets.numpy(), expected.numpy().astype(dtype))


def test_split_batches_give_the_same_bits() -> None:
    mode = Mode("native", "eager")
    _, offsets, anchors = ordinary(np.random.default_rng(8), 4, 33, dtype=np.float32)
    whole = mode.run(decode_boxes, offsets, anchors)
    parts = [mode.run(decode_boxes, image, anchors) for image in offsets]
    assert_equal_bits(whole, np.stack(parts))
