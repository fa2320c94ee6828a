# SPDX-License-Identifier: Apache-2.0
"""The box_iou kernel through its NumPy binding, against the oracle."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
import oracles.box_iou as oracle
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import strategies
from support.binding import expect_error, expect_out_errors, expect_thread_count_error
from support.bits import assert_equal_bits, assert_within
from support.buffers import run_kernel
from support.cases import (
    SIZES,
    quantised_boxes,
    random_boxes,
    special_boxes,
    ssd300_anchors,
)
from support.tolerances import ciou_tolerance, iou_gradient_tolerance

DTYPES = (np.float32, np.float64)
KINDS = tuple(oracle.KINDS)


def check(native: ModuleType, a: Any, b: Any, kind: str = "iou") -> Any:
    result = run_kernel(native.box_iou, a, b, kind=kind)
    expect(result, oracle.box_iou(a, b, kind=kind), kind)
    return result


def expect(result: Any, expected: Any, kind: str) -> None:
    if kind == "ciou":
        assert_within(result, expected, ciou_tolerance(expected.dtype))
    else:
        assert_equal_bits(result, expected)


def mixed_boxes(count: int, dtype: type) -> Any:
    """Ordinary boxes, and some on a grid: touching, equal, empty and inverted."""
    rng = np.random.default_rng(count)
    boxes = random_boxes(rng, count, dtype=dtype)
    boxes[::3] = quantised_boxes(rng, len(boxes[::3]), dtype=dtype)
    return boxes


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("num_a", SIZES)
def test_sizes(native: ModuleType, num_a: int, dtype: type) -> None:
    rng = np.random.default_rng(num_a)
    for num_b in (0, 1, 7, 16, 33):
        a = quantised_boxes(rng, num_a, dtype=dtype)
        b = random_boxes(rng, num_b, dtype=dtype)
        check(native, a, b)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", KINDS)
def test_special_boxes(native: ModuleType, kind: str, dtype: type) -> None:
    boxes = special_boxes(dtype)
    assert np.isfinite(check(native, boxes, boxes, kind)).all()
    # Fewer boxes b than lanes take another path.
    check(native, boxes, boxes[-7:], kind)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", KINDS[1:])
@pytest.mark.parametrize("num_a", [0, 1, 16, 17])
def test_sizes_of_other_kinds(
    native: ModuleType, num_a: int, kind: str, dtype: type
) -> None:
    for num_b in (0, 1, 3, 16, 19, 33):
        check(native, mixed_boxes(num_a, dtype), mixed_boxes(num_b, dtype), kind)


@pytest.mark.parametrize("num_b", [255, 256, 257, 600])
def test_more_boxes_than_a_tile(native: ModuleType, num_b: int) -> None:
    check(native, mixed_boxes(3, np.float32), mixed_boxes(num_b, np.float32), "giou")


def test_subnormal_numbers(native: ModuleType) -> None:
    side = np.array([1e-10, 1e-18, 1e-19, 3e-20, 1e-22, 1e-30, 1e-40, 1e-45], "f4")
    boxes = np.stack([np.zeros_like(side)] * 2 + [side] * 2, -1)
    check(native, boxes, boxes)


@given(case=strategies.box_pairs(), kind=st.sampled_from(KINDS))
def test_grid(case: Any, kind: str, native: ModuleType) -> None:
    check(native, *case, kind)


@pytest.mark.parametrize("dtype", DTYPES)
def test_all_anchors(native: ModuleType, dtype: type) -> None:
    gt = random_boxes(np.random.default_rng(1), 7, dtype=dtype)
    anchors = ssd300_anchors(dtype)
    result = check(native, anchors, gt)
    assert_equal_bits(run_kernel(native.box_iou, gt, anchors), result.T.copy())


@pytest.mark.parametrize(
    ("shape_a", "shape_b"),
    [
        ((3, 5), (3, 7)),
        ((3, 5), (7,)),
        ((5,), (3, 7)),
        ((1, 5), (1, 7)),
        ((0, 5), (0, 7)),
        ((0, 5), (7,)),
        ((3, 0), (3, 7)),
        ((3, 5), (3, 0)),
    ],
)
def test_batches(native: ModuleType, shape_a: Any, shape_b: Any) -> None:
    rng = np.random.default_rng(2)
    a = random_boxes(rng, *shape_a, dtype=np.float32)
    b = random_boxes(rng, *shape_b, dtype=np.float32)
    check(native, a, b)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(0,), (1,), (16,), (37,), (2, 0), (3, 5), (2, 3, 7)])
def test_aligned(native: ModuleType, shape: Any, kind: str, dtype: type) -> None:
    count = int(np.prod(shape))
    a = mixed_boxes(count, dtype).reshape(*shape, 4)
    b = mixed_boxes(count + 1, dtype)[1:].reshape(*shape, 4)
    result = run_kernel(native.box_iou, a, b, kind=kind, aligned=True)
    expect(result, oracle.box_iou_aligned(a, b, kind=kind), kind)


@pytest.mark.parametrize("kind", KINDS)
def test_aligned_is_the_diagonal(native: ModuleType, kind: str) -> None:
    a, b = special_boxes(np.float32), special_boxes(np.float32)[::-1].copy()
    aligned = run_kernel(native.box_iou, a, b, kind=kind, aligned=True)
    assert_equal_bits(aligned, np.diagonal(native.box_iou(a, b, kind=kind)).copy())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["float16", "bfloat16"])
def test_half_types(native: ModuleType, name: str, kind: str) -> None:
    dtype = np.dtype(name) if name == "float16" else pytest.importorskip("ml_dtypes")
    dtype = getattr(dtype, "bfloat16", dtype)
    a, b = (
        boxes.astype(dtype) for boxes in (mixed_boxes(33, "f4"), mixed_boxes(21, "f4"))
    )
    wide = oracle.box_iou(a.astype(np.float32), b.astype(np.float32), kind=kind)
    expect(run_kernel(native.box_iou, a, b, kind=kind), wide.astype(dtype), kind)
    # Gradients are computed in float32 and rounded once.
    grad = np.random.default_rng(1).normal(0, 1, wide.shape).astype(dtype)
    inputs = (grad, a, b)
    narrow = run_kernel(native.box_iou_grad, *inputs, kind=kind)
    exact = native.box_iou_grad(*(x.astype(np.float32) for x in inputs), kind=kind)
    for result, expected in zip(narrow, exact, strict=True):
        assert_equal_bits(result, expected.astype(dtype))


def ordinary_pairs(count: int, dtype: type) -> Any:
    """Aligned pairs `[count, 4]` that overlap or not, far from every tie."""
    rng = np.random.default_rng(count)
    a = random_boxes(rng, 4 * count, dtype=np.float64)
    b = random_boxes(rng, 4 * count, dtype=np.float64)
    gaps = np.abs(a[:, :, None] - b[:, None, :])
    near = gaps[:, [0, 1, 2, 3, 0, 1, 2, 3], [0, 1, 2, 3, 2, 3, 0, 1]].min(-1)
    kept = near > 1e-3
    return a[kept][:count].astype(dtype), b[kept][:count].astype(dtype)


@pytest.mark.parametrize("kind", KINDS)
def test_derivatives_are_slopes(native: ModuleType, kind: str) -> None:
    a, b = ordinary_pairs(60, np.float64)
    grad = np.random.default_rng(2).normal(0, 1, len(a))
    by_a, by_b = run_kernel(native.box_iou_grad, grad, a, b, kind=kind, aligned=True)
    for i in range(len(a)):
        slopes = oracle.derivative(a[i], b[i], kind=kind)
        for result, slope in zip((by_a[i], by_b[i]), slopes, strict=True):
            np.testing.assert_allclose(result, grad[i] * slope, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_derivatives_in_float32(native: ModuleType, kind: str) -> None:
    a, b = ordinary_pairs(500, np.float32)
    grad = np.random.default_rng(3).normal(0, 1, len(a)).astype(np.float32)
    single = run_kernel(native.box_iou_grad, grad, a, b, kind=kind, aligned=True)
    wide = [x.astype(np.float64) for x in (grad, a, b)]
    double = native.box_iou_grad(*wide, kind=kind, aligned=True)
    tolerance = iou_gradient_tolerance(a, b, grad)
    for result, expected in zip(single, double, strict=True):
        assert_within(result.astype(np.float64), expected, tolerance)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("shape_a", "shape_b"),
    [
        ((1,), (1,)),
        ((5,), (3,)),
        ((1,), (37,)),
        ((70,), (1,)),
        ((130,), (19,)),
        ((17,), (33,)),
        ((2, 5), (2, 18)),
        ((2, 5), (18,)),
        ((5,), (3, 7)),
        ((20,), (3, 16)),
    ],
)
def test_gradients_are_sums(
    native: ModuleType, shape_a: Any, shape_b: Any, kind: str, dtype: type
) -> None:
    rng = np.random.default_rng(4)
    a = random_boxes(rng, *shape_a, dtype=dtype)
    b = random_boxes(rng, *shape_b, dtype=dtype)
    a.reshape(-1, 4)[::4] = quantised_boxes(rng, -(-a.size // 16), dtype=dtype)
    grad = rng.normal(0, 1, native.box_iou(a, b).shape).astype(dtype)
    grad[rng.uniform(size=grad.shape) < 0.3] = 0
    result = run_kernel(native.box_iou_grad, grad, a, b, kind=kind)
    expected = sums_of_pairs(native, grad, a, b, kind)
    for side, ((total, magnitude), boxes) in enumerate(
        zip(expected, (a, b), strict=True)
    ):
        assert result[side].shape == boxes.shape
        tolerance = magnitude * (2 + grad.size) * float(np.finfo(dtype).eps)
        assert_within(result[side].astype(np.float64), total, tolerance)


def sums_of_pairs(
    native: ModuleType, grad: Any, a: Any, b: Any, kind: str
) -> list[tuple[Any, Any]]:
    """Float64 sums of the derivatives of all pairs, and of their magnitudes."""
    shape = (*grad.shape, 4)
    pairs_a = np.broadcast_to(a[..., :, None, :], shape)
    pairs_b = np.broadcast_to(b[..., None, :, :], shape)
    by_pair = native.box_iou_grad(grad, pairs_a, pairs_b, kind=kind, aligned=True)
    sums = []
    for by, boxes, axis in zip(by_pair, (a, b), (-2, -3), strict=True):
        total, magnitude = (x.astype(np.float64).sum(axis) for x in (by, np.abs(by)))
        if total.ndim > boxes.ndim:
            total, magnitude = total.sum(0), magnitude.sum(0)
        sums.append((total, magnitude))
    return sums


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", KINDS)
def test_gradients_of_special_boxes_are_finite(
    native: ModuleType, kind: str, dtype: type
) -> None:
    boxes = special_boxes(dtype)
    grad = np.ones((len(boxes), len(boxes)), dtype)
    for result in run_kernel(native.box_iou_grad, grad, boxes, boxes, kind=kind):
        assert np.isfinite(result).all()
        assert (result[np.isnan(boxes).any(-1)] == 0).all()


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_of_tiny_boxes_are_finite(native: ModuleType, kind: str) -> None:
    side = np.array([1e-10, 1e-18, 1e-19, 3e-20, 1e-22, 1e-30, 1e-40, 1e-45], "f4")
    zero = np.zeros_like(side)
    boxes = np.concatenate(
        [
            np.stack(columns, -1)
            for columns in ([zero, zero, side, side], [zero, zero, side, side + 1])
        ]
    )
    grad = np.ones((len(boxes), len(boxes)), np.float32)
    for result in run_kernel(native.box_iou_grad, grad, boxes, boxes, kind=kind):
        assert np.isfinite(result).all()


def test_equal_coordinates_belong_to_the_first_box(native: ModuleType) -> None:
    box = np.array([[0.0, 0.0, 2.0, 4.0]])
    by_a, by_b = native.box_iou_grad(np.ones(1), box, box, aligned=True)
    # 1 is the largest value, whichever way a moves: the minimum follows a, with a
    # slope of (1 + IoU) / height less the IoU / height of its area.
    np.testing.assert_allclose(by_a, [[-0.5, -0.25, 0.5, 0.25]])
    np.testing.assert_allclose(by_b, [[0.5, 0.25, -0.5, -0.25]])


@pytest.mark.parametrize("kind", ["iou", "ioa"])
def test_boxes_that_only_touch_have_no_slope(native: ModuleType, kind: str) -> None:
    a = np.array([[0.0, 0.0, 1.0, 1.0]] * 2)
    b = np.array([[0.0, 1.0, 1.0, 2.0], [1.0, 1.0, 2.0, 2.0]])
    for result in native.box_iou_grad(np.ones(2), a, b, kind=kind, aligned=True):
        assert (result == 0).all()


def test_properties(native: ModuleType) -> None:
    boxes = random_boxes(np.random.default_rng(3), 500, dtype=np.float32)
    result = run_kernel(native.box_iou, boxes, boxes)
    assert ((result >= 0) & (result <= 1)).all()
    assert (np.diagonal(result) == 1).all()
    assert_equal_bits(result, result.T.copy())


def test_order_of_the_kinds(native: ModuleType) -> None:
    rng = np.random.default_rng(5)
    a, b = (random_boxes(rng, 200, dtype=np.float64) for _ in range(2))
    iou, giou, diou, ciou, ioa = (native.box_iou(a, b, kind=kind) for kind in KINDS)
    assert (giou <= iou + 1e-12).all()
    assert (diou <= iou).all()
    assert (ciou <= diou).all()
    assert (ioa >= iou - 1e-12).all()
    assert giou.min() >= -1
    assert diou.min() >= -1
    assert ciou.min() >= -1.5
    for kind in KINDS:
        assert (np.diagonal(native.box_iou(a, a, kind=kind)) == 1).all()


def test_shape_errors(native: ModuleType) -> None:
    boxes = np.zeros((5, 4), np.float32)
    wide = np.zeros((8732, 5), np.float32)
    a_text = "boxes_a must have shape [N, 4] or [B, N, 4], got "
    b_text = "boxes_b must have shape [M, 4] or [B, M, 4], got "
    expect_error(native.box_iou, boxes, wide, message=b_text + "[8732, 5]")
    expect_error(native.box_iou, wide, boxes, message=a_text + "[8732, 5]")
    expect_error(native.box_iou, boxes[0], boxes, message=a_text + "[4]")
    expect_error(
        native.box_iou, boxes, boxes[None, None], message=b_text + "[1, 1, 5, 4]"
    )
    expect_error(
        native.box_iou,
        np.zeros((2, 5, 4), np.float32),
        np.zeros((3, 5, 4), np.float32),
        message="boxes_b must have 2 images along axis 0 as boxes_a, got 3",
    )


def test_shape_errors_of_aligned_boxes(native: ModuleType) -> None:
    boxes = np.zeros((5, 4), np.float32)
    for wrong in (boxes[0], np.zeros((5, 3), np.float32)):
        expect_error(
            native.box_iou,
            wrong,
            wrong,
            aligned=True,
            message="boxes_a must have shape [..., N, 4], got ",
        )
    for wrong in (boxes[:4], boxes[:1], boxes[None], boxes[:, :3]):
        expect_error(
            native.box_iou,
            boxes,
            wrong,
            aligned=True,
            message="boxes_b must have shape [5, 4], got ",
        )


def test_shape_errors_of_gradients(native: ModuleType) -> None:
    boxes = np.zeros((5, 4), np.float32)
    for shape in ((5,), (5, 4), (1, 5, 5)):
        expect_error(
            native.box_iou_grad,
            np.zeros(shape, np.float32),
            boxes,
            boxes,
            message="grad_iou must have shape [5, 5], got ",
        )
    expect_error(
        native.box_iou_grad,
        np.zeros((5, 5), np.float32),
        boxes,
        boxes,
        aligned=True,
        message="grad_iou must have shape [5], got [5, 5]",
    )
    expect_error(
        native.box_iou_grad,
        np.zeros((5, 5)),
        boxes,
        boxes,
        message="grad_iou must have dtype float32, got float64",
    )


def test_kind_errors(native: ModuleType) -> None:
    boxes = np.zeros((5, 4), np.float32)
    message = "kind must be 'iou', 'giou', 'diou', 'ciou' or 'ioa', got 'IoU'"
    expect_error(native.box_iou, boxes, boxes, kind="IoU", message=message)


def test_dtype_errors(native: ModuleType) -> None:
    boxes = np.zeros((5, 4), np.float32)
    expect_error(
        native.box_iou,
        boxes,
        boxes.astype(np.float64),
        message="boxes_b must have dtype float32, got float64",
    )
    for dtype in (np.int32, bool, object):
        expect_error(
            native.box_iou,
            boxes.astype(dtype),
            boxes,
            message="boxes_a must have dtype float16, bfloat16, float32 or float64",
        )


def test_byte_order_of_another_machine_is_refused(native: ModuleType) -> None:
    boxes = np.zeros((5, 4), ">f4")
    expect_error(native.box_iou, boxes, boxes, message="boxes_a must have dtype")


def test_output_and_thread_errors(native: ModuleType) -> None:
    boxes = np.zeros((5, 4), np.float32)
    expect_out_errors(native.box_iou, boxes, boxes)
    expect_thread_count_error(native.box_iou, boxes, boxes)
    grad = np.zeros((5, 5), np.float32)
    expect_out_errors(native.box_iou_grad, grad, boxes, boxes)
    expect_thread_count_error(native.box_iou_grad, grad, boxes, boxes)
