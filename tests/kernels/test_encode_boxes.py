# SPDX-License-Identifier: Apache-2.0
"""The encode_boxes kernels through their NumPy binding, against the oracle."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import ml_dtypes
import numpy as np
import oracles.encode_boxes as oracle
import pytest
from support.binding import expect_error, expect_out_errors, expect_thread_count_error
from support.bits import assert_equal_bits, assert_within
from support.buffers import run_kernel
from support.cases import SIZES, random_boxes, special_boxes, ssd300_anchors
from support.coding import ordinary, unencodable
from support.tolerances import encode_tolerance, gradient_tolerance

DTYPES = (np.float32, np.float64)
HALF_DTYPES = (np.float16, ml_dtypes.bfloat16)
VARIANCES = (0.5, 0.25, 0.75, 1.5)


def check(native: ModuleType, boxes: Any, anchors: Any, **options: Any) -> Any:
    result = run_kernel(native.encode_boxes, boxes, anchors, **options)
    expected = oracle.encode_boxes(boxes, anchors, **options)
    assert_within(result, expected, encode_tolerance(expected))
    return result


def check_grad(
    native: ModuleType, upstream: Any, boxes: Any, anchors: Any, **options: Any
) -> Any:
    result = run_kernel(native.encode_boxes_grad, upstream, boxes, anchors, **options)
    assert result.dtype == boxes.dtype
    expected, magnitude = oracle.encode_boxes_grad(upstream, boxes, anchors, **options)
    tolerance = gradient_tolerance(magnitude, boxes.dtype)
    assert_within(result.astype(np.float64), expected, tolerance)
    return result


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("num_anchors", SIZES)
def test_sizes(native: ModuleType, num_anchors: int, dtype: type) -> None:
    rng = np.random.default_rng(num_anchors)
    for lead in ((), (1,), (3,), (2, 3), (0,)):
        boxes, upstream, anchors = ordinary(rng, *lead, num_anchors, dtype=dtype)
        check(native, boxes, anchors)
        check(native, boxes, anchors, variances=VARIANCES)
        check_grad(native, upstream, boxes, anchors)
        check_grad(native, upstream, boxes, anchors, variances=VARIANCES)


@pytest.mark.parametrize("dtype", DTYPES)
def test_pairs_without_an_encoding_are_zero(native: ModuleType, dtype: type) -> None:
    boxes, anchors = unencodable(dtype)
    assert_equal_bits(check(native, boxes, anchors), np.zeros_like(boxes))
    upstream = np.tile(np.array([1, 2, 3, 4], dtype), (len(boxes), 1))
    grad = check_grad(native, upstream, boxes, anchors)
    assert_equal_bits(grad[1:], np.zeros_like(boxes[1:]))


@pytest.mark.parametrize("dtype", DTYPES)
def test_special_boxes(native: ModuleType, dtype: type) -> None:
    boxes = special_boxes(dtype)
    for shift in range(len(boxes)):
        anchors = np.roll(boxes, shift, axis=0)
        result = check(native, boxes, anchors)
        assert np.isfinite(result).all()
        check_grad(native, np.ones_like(boxes), boxes, anchors)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_box_equal_to_its_anchor_is_all_zero(native: ModuleType, dtype: type) -> None:
    anchors = random_boxes(np.random.default_rng(1), 100, dtype=dtype)
    assert (native.encode_boxes(anchors, anchors) == 0).all()


def test_all_anchors(native: ModuleType) -> None:
    anchors = ssd300_anchors()
    boxes = random_boxes(np.random.default_rng(2), len(anchors), dtype=np.float32)
    check(native, boxes, anchors)


@pytest.mark.parametrize("dtype", HALF_DTYPES)
@pytest.mark.parametrize("num_anchors", SIZES)
def test_half_types_are_computed_in_float32(
    native: ModuleType, num_anchors: int, dtype: type
) -> None:
    rng = np.random.default_rng(num_anchors)
    halves = [a.astype(dtype) for a in ordinary(rng, 3, num_anchors, dtype=np.float32)]
    boxes, upstream, anchors = halves
    for function, inputs in (
        (native.encode_boxes, (boxes, anchors)),
        (native.encode_boxes_grad, (upstream, boxes, anchors)),
    ):
        wide = function(*(array.astype(np.float32) for array in inputs))
        assert_equal_bits(run_kernel(function, *inputs), wide.astype(dtype))


@pytest.mark.parametrize(
    ("dtype", "low", "high", "variance", "largest"),
    [
        (np.float16, 2046, 2050, 2.0**-5, 65504.0),
        (ml_dtypes.bfloat16, 254, 258, 2.0**-120, 2.0**128 - 2.0**120),
    ],
)
def test_an_offset_that_overflows_a_half_type_gives_zeros(
    native: ModuleType,
    dtype: type,
    low: int,
    high: int,
    variance: float,
    largest: float,
) -> None:
    # An offset in the middle between the largest number and the next one, which
    # would round to infinity, and one just below, which rounds down.
    anchors = np.array([[0, 0, 1, 1]], dtype)
    boxes = np.array([[low, 0, high, 1]], dtype)
    for scale, finite in ((1.0, False), (1 + 2.0**-22, True)):
        variances = (variance * scale, 1.0, 1.0, 1.0)
        offsets = run_kernel(native.encode_boxes, boxes, anchors, variances=variances)
        assert float(offsets[0, 0]) == (largest if finite else 0)
        assert offsets.astype(np.float32).any() == finite
        grad = run_kernel(
            native.encode_boxes_grad, anchors, boxes, anchors, variances=variances
        )
        assert grad.astype(np.float32).any() == finite


@pytest.mark.parametrize("dtype", [*DTYPES, *HALF_DTYPES])
def test_results_may_replace_their_input(native: ModuleType, dtype: type) -> None:
    arrays = ordinary(np.random.default_rng(4), 3, 61, dtype=np.float32)
    first, second, anchors = (array.astype(dtype) for array in arrays)
    for function, inputs in (
        (native.encode_boxes, (first, anchors)),
        (native.encode_boxes_grad, (first, second, anchors)),
    ):
        expected = function(*inputs)
        replaced = inputs[0].copy()
        function(replaced, *inputs[1:], out=replaced)
        assert_equal_bits(replaced, expected)


@pytest.mark.parametrize("exponent", [-100, -45, -38, -3, 0, 20, 37, 45, 90])
@pytest.mark.parametrize("variances", [(0.1, 0.1, 0.2, 0.2), (1 / 3, 0.7, 1e-30, 3e9)])
def test_shifts_are_the_ieee_quotients(
    native: ModuleType, exponent: int, variances: tuple[float, ...]
) -> None:
    # The kernels may divide otherwise, in ranges where that gives the same bits.
    rng = np.random.default_rng(exponent + 200)
    corners = rng.integers(2**23, 2**24, (2, 30_000, 4)).astype(np.float32)
    corners[..., 2:] += corners[..., :2]
    boxes, anchors = np.ldexp(corners, [[[exponent - 23]], [[-23]]]).astype(np.float32)
    boxes[::1000] = anchors[::1000]  # a distance of 0
    result = run_kernel(native.encode_boxes, boxes, anchors, variances=variances)
    half = np.float32(0.5)
    low, high = boxes[:, :2], boxes[:, 2:]
    anchor_low, anchor_high = anchors[:, :2], anchors[:, 2:]
    distance = (low + high) * half - (anchor_low + anchor_high) * half
    with np.errstate(over="ignore"):
        shift = distance / (anchor_high - anchor_low) / np.float32(variances[:2])
    encodable = result.any(-1)
    assert encodable.mean() > 0.9 or not np.isfinite(shift).all()
    assert_equal_bits(result[encodable, :2], shift[encodable])


def test_batches_do_not_matter(native: ModuleType) -> None:
    boxes, _, anchors = ordinary(np.random.default_rng(3), 5, 61, dtype=np.float32)
    whole = native.encode_boxes(boxes, anchors, num_threads=3)
    for image, expected in zip(boxes, whole, strict=True):
        assert_equal_bits(native.encode_boxes(image, anchors), expected)


def test_shape_errors(native: ModuleType) -> None:
    boxes = np.zeros((2, 7, 4), np.float32)
    anchors = np.zeros((7, 4), np.float32)
    text = "boxes must have shape [..., "
    for wrong in (boxes[0, 0], boxes[:, :6], boxes[:, :1], boxes[..., :3]):
        expect_error(native.encode_boxes, wrong, anchors, message=text)
    for wrong in (anchors[0], anchors[None], anchors[:, :3]):
        expect_error(
            native.encode_boxes, boxes, wrong, message="anchors must have shape [A, 4]"
        )
    expect_error(
        native.encode_boxes_grad,
        boxes[:1],
        boxes,
        anchors,
        message="grad_offsets must have shape [2, 7, 4], got [1, 7, 4]",
    )


def test_dtype_errors(native: ModuleType) -> None:
    boxes = np.zeros((7, 4), np.float32)
    double = boxes.astype(np.float64)
    expect_error(
        native.encode_boxes,
        boxes,
        double,
        message="anchors must have dtype float32, got float64",
    )
    expect_error(
        native.encode_boxes_grad,
        boxes,
        double,
        boxes,
        message="boxes must have dtype float32, got float64",
    )
    for dtype in (np.int32, bool, object):
        expect_error(
            native.encode_boxes,
            boxes.astype(dtype),
            boxes,
            message="boxes must have dtype float16, bfloat16, float32 or float64",
        )
    expect_error(
        native.encode_boxes,
        boxes.astype(np.float16),
        boxes,
        message="anchors must have dtype float16, got float32",
    )


@pytest.mark.parametrize("bad", [0.0, -0.1, float("nan"), float("inf")])
def test_variance_errors(native: ModuleType, bad: float) -> None:
    boxes = np.zeros((7, 4), np.float32)
    message = "variances must be 4 positive finite numbers, got"
    values = (0.1, 0.1, bad, 0.2)
    expect_error(native.encode_boxes, boxes, boxes, variances=values, message=message)
    expect_error(
        native.encode_boxes_grad, boxes, boxes, boxes, variances=values, message=message
    )


def test_output_and_thread_errors(native: ModuleType) -> None:
    boxes = np.zeros((7, 4), np.float32)
    for function, inputs in (
        (native.encode_boxes, (boxes, boxes)),
        (native.encode_boxes_grad, (boxes, boxes, boxes)),
    ):
        expect_out_errors(function, *inputs)
        expect_thread_count_error(function, *inputs)
