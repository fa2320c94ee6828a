# SPDX-License-Identifier: Apache-2.0
"""Public `encode_boxes`: values, gradients, shapes and errors."""

from __future__ import annotations

from typing import Any

import numpy as np
import oracles.encode_boxes as oracle
import pytest
import tensorflow as tf
from support.bits import assert_equal_bits, assert_within
from support.cases import random_boxes, ssd300_anchors
from support.coding import ordinary, unencodable
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
from support.tolerances import encode_tolerance, gradient_tolerance

from ssdops import decode_boxes, encode_boxes

F32 = tf.float32
VARIANCES = (0.5, 0.25, 0.75, 1.5)


def check(mode: Mode, boxes: Any, anchors: Any, **options: Any) -> Any:
    actual = mode.run(encode_boxes, boxes, anchors, **options)
    expected = oracle.encode_boxes(boxes, anchors, **options)
    rewritten = mode.implementation == "reference" and mode.how != "eager"
    tolerance = encode_tolerance(expected, exact_divisions=not rewritten)
    assert_within(actual, expected, tolerance)
    return actual


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", FULL_DTYPES)
@pytest.mark.parametrize("shape", [(33,), (2, 17), (2, 3, 5)])
def test_random_boxes(mode: Mode, dtype: type, shape: tuple[int, ...]) -> None:
    boxes, _, anchors = ordinary(np.random.default_rng(1), *shape, dtype=dtype)
    check(mode, boxes, anchors)
    check(mode, boxes, anchors, variances=VARIANCES)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("shape", [(0,), (0, 3), (3, 0), (0, 0), (2, 0, 5)])
def test_no_boxes(mode: Mode, shape: tuple[int, ...]) -> None:
    boxes = np.zeros((*shape, 4), np.float32)
    check(mode, boxes, np.ones((shape[-1], 4), np.float32))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", FULL_DTYPES)
def test_pairs_without_an_encoding_are_zero(mode: Mode, dtype: type) -> None:
    boxes, anchors = unencodable(dtype)
    assert_equal_bits(check(mode, boxes, anchors), np.zeros_like(boxes))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", FULL_DTYPES)
def test_a_box_equal_to_its_anchor_is_all_zero(mode: Mode, dtype: type) -> None:
    anchors = random_boxes(np.random.default_rng(2), 31, dtype=dtype)
    offsets = mode.run(encode_boxes, anchors, anchors)
    assert (offsets == 0).all()


@pytest.mark.parametrize("mode", EAGER_MODES)
def test_all_anchors(mode: Mode) -> None:
    anchors = ssd300_anchors()
    boxes = random_boxes(np.random.default_rng(3), len(anchors), dtype=np.float32)
    check(mode, boxes, anchors)


@pytest.mark.parametrize("mode", EAGER_MODES)
def test_decoding_is_the_inverse(mode: Mode) -> None:
    boxes, _, anchors = ordinary(np.random.default_rng(4), 3, 61, dtype=np.float64)
    offsets = mode.run(encode_boxes, boxes, anchors)
    again = mode.run(decode_boxes, offsets, anchors)
    np.testing.assert_allclose(again, boxes, rtol=0, atol=1e-14)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", HALF_DTYPES)
def test_half_types_are_computed_in_float32(mode: Mode, dtype: type) -> None:
    boxes, _, anchors = ordinary(np.random.default_rng(5), 2, 31, dtype=np.float32)
    boxes, anchors = boxes.astype(dtype), anchors.astype(dtype)
    wide = boxes.astype(np.float32), anchors.astype(np.float32)
    actual = mode.run(encode_boxes, boxes, anchors)
    float32_result = mode.run(encode_boxes, *wide)
    assert_equal_bits(actual, float32_result.astype(dtype))


@pytest.mark.parametrize("mode", MODES)
def test_offset_beyond_float16_gives_zeros(mode: Mode) -> None:
    anchors = np.array([[0, 0, 2**-10, 1], [0, 0, 1, 1]], np.float16)
    boxes = np.array([[1000, 0, 2000, 1], [0, 0, 1, 1]], np.float16)
    offsets = mode.run(encode_boxes, boxes, anchors)
    assert_equal_bits(offsets, np.zeros((2, 4), np.float16))


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize(
    ("boxes", "anchors", "expected"),
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
def test_shape_inference(implementation, boxes, anchors, expected) -> None:
    actual = static_shapes(encode_boxes, implementation, [boxes, anchors], [F32, F32])
    assert actual == expected


SHAPE_ERRORS = [
    ((4,), (7, 4), "boxes must have shape [..., A, 4], got [4]"),
    ((7, 5), (7, 4), "boxes must have shape [..., A, 4], got [7, 5]"),
    ((7, 4), (4,), "anchors must have shape [A, 4], got [4]"),
    ((7, 4), (7, 3), "anchors must have shape [A, 4], got [7, 3]"),
    ((7, 4), (1, 7, 4), "anchors must have shape [A, 4], got [1, 7, 4]"),
    ((2, 6, 4), (7, 4), "boxes must have 7 elements along axis -2 as anchors"),
    ((2, 7, 4), (1, 4), "boxes must have 1 elements along axis -2 as anchors"),
]


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize(("boxes", "anchors", "message"), SHAPE_ERRORS)
def test_shape_errors(implementation, boxes, anchors, message) -> None:
    shapes = [boxes, anchors]
    expect_static_error(encode_boxes, implementation, shapes, [F32, F32], message)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize(("boxes", "anchors"), [case[:2] for case in SHAPE_ERRORS])
def test_shapes_known_at_run_time(implementation, boxes, anchors) -> None:
    arrays = [np.zeros(boxes, np.float32), np.zeros(anchors, np.float32)]
    expect_runtime_error(encode_boxes, implementation, arrays)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize(("num_boxes", "num_anchors"), [(1, 7), (7, 1), (6, 7)])
def test_nothing_is_broadcast(implementation, num_boxes, num_anchors) -> None:
    arrays = [
        np.zeros((2, num_boxes, 4), np.float32),
        np.zeros((num_anchors, 4), np.float32),
    ]
    signature = [[None, None, 4], [None, 4]]
    expect_runtime_error(encode_boxes, implementation, arrays, signature)


@pytest.mark.parametrize(
    "variances",
    [(0.1,), (0.1, 0.1, 0.2, 0.0), (0.1, -0.1, 0.2, 0.2), (0.1, 0.1, 0.2, np.inf)],
)
def test_variance_errors(variances: tuple[float, ...]) -> None:
    box = np.array([[0, 0, 1, 1]], np.float32)
    message = "variances must be 4 positive finite numbers, got"
    with pytest.raises(ValueError, match=message):
        encode_boxes(box, box, variances=variances)


def test_dtype_errors() -> None:
    box = np.array([[0, 0, 1, 1]], np.float32)
    with pytest.raises(ValueError, match="anchors must have dtype float32 as boxes"):
        encode_boxes(box, box.astype(np.float64))
    with pytest.raises(ValueError, match="boxes must have dtype float16, bfloat16"):
        encode_boxes(box.astype(np.int32), box.astype(np.int32))


def gradient(
    mode: Mode, upstream: Any, boxes: Any, anchors: Any, **options: Any
) -> tuple[Any, Any]:
    function = mode.function(encode_boxes, boxes.dtype.name, **options)
    boxes, anchors = tf.constant(boxes), tf.constant(anchors)
    with tf.GradientTape() as tape:
        tape.watch([boxes, anchors])
        offsets = function(boxes, anchors)
    return tape.gradient(offsets, [boxes, anchors], tf.constant(upstream))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", FULL_DTYPES)
def test_gradient(mode: Mode, dtype: type) -> None:
    rng = np.random.default_rng(6)
    boxes, upstream, anchors = ordinary(rng, 3, 17, dtype=dtype)
    boxes[1, :8] = anchors[:8]
    boxes[2, ::3, 2] = boxes[2, ::3, 0]  # rows without an encoding
    for_boxes, for_anchors = gradient(
        mode, upstream, boxes, anchors, variances=VARIANCES
    )
    expected, magnitude = oracle.encode_boxes_grad(
        upstream, boxes, anchors, variances=VARIANCES
    )
    tolerance = gradient_tolerance(magnitude, dtype)
    assert_within(for_boxes.numpy().astype(np.float64), expected, tolerance)
    assert for_anchors is None


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_gradient_is_that_of_the_float64_reference(implementation: str) -> None:
    rng = np.random.default_rng(7)
    boxes, upstream, anchors = ordinary(rng, 2, 13, dtype=np.float32)
    arrays = (upstream, boxes, anchors)
    actual, _ = gradient(Mode(implementation, "eager"), *arrays)
    wide = [array.astype(np.float64) for array in arrays]
    expected, _ = gradient(Mode("reference", "eager"), *wide)
    _, magnitude = oracle.encode_boxes_grad(*arrays)
    # The variances differ too: 0.1 and 0.2 are rounded to float32.
    tolerance = gradient_tolerance(magnitude, np.float32)
    assert_within(actual.numpy().astype(np.float64), expected.numpy(), tolerance)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_gradient_against_finite_differences(implementation: str) -> None:
    if implementation == "native":
        require_native_op("encode_boxes", "float64")
    boxes, _, anchors = ordinary(np.random.default_rng(8), 2, 3, dtype=np.float64)
    boxes[..., 2:] += 0.5  # sizes well above the step of the differences
    theory, numeric = tf.test.compute_gradient(
        lambda b: encode_boxes(b, anchors, implementation=implementation),
        [tf.constant(boxes)],
        delta=1e-6,
    )
    np.testing.assert_allclose(theory[0], numeric[0], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", FULL_DTYPES)
def test_gradient_is_zero_without_an_encoding(mode: Mode, dtype: type) -> None:
    boxes, anchors = unencodable(dtype)
    upstream = np.tile(np.array([1, 2, 3, 4], dtype), (len(boxes), 1))
    for_boxes, _ = gradient(mode, upstream, boxes, anchors)
    assert np.isfinite(for_boxes.numpy()).all()
    assert (for_boxes.numpy()[1:] == 0).all()
    assert (for_boxes.numpy()[0] != 0).all()


@pytest.mark.parametrize("mode", EAGER_MODES)
@pytest.mark.parametrize("dtype", HALF_DTYPES)
def test_gradient_of_half_types(mode: Mode, dtype: type) -> None:
    boxes, upstream, anchors = ordinary(np.random.default_rng(9), 17, dtype=dtype)
    for_boxes, _ = gradient(mode, upstream, boxes, anchors)
    wide = [array.astype(np.float32) for array in (upstream, boxes, anchors)]
    expected, _ = gradient(mode, *wide)
    assert_equal_bits(for_boxes.numpy(), expected.numpy().astype(dtype))


def test_split_batches_give_the_same_bits() -> None:
    mode = Mode("native", "eager")
    boxes, _, anchors = ordinary(np.random.default_rng(10), 4, 33, dtype=np.float32)
    whole = mode.run(encode_boxes, boxes, anchors)
    parts = [mode.run(encode_boxes, image, anchors) for image in boxes]
    assert_equal_bits(whole, np.stack(parts))
