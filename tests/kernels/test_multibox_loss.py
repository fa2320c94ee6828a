# SPDX-License-Identifier: Apache-2.0
"""The multibox_loss kernels through their NumPy binding, against the oracle."""

from __future__ import annotations

from functools import partial
from types import ModuleType
from typing import Any

import ml_dtypes
import numpy as np
import oracles.multibox_loss as oracle
import pytest
from support.binding import expect_error, expect_out_errors, expect_thread_count_error
from support.bits import assert_all_equal_bits, assert_equal_bits, assert_within
from support.buffers import run_kernel
from support.cases import random_boxes
from support.device import equal_up_to_libm, on_device, require_device

DTYPES = (np.float16, ml_dtypes.bfloat16, np.float32, np.float64)
NAMES = ("losses", "mined", "grad_logits", "grad_offsets")
CONFIDENCE = ("softmax", "sigmoid", "sigmoid_focal")


def case(
    rng: np.random.Generator, batch: int, anchors: int, classes: int, dtype: Any
) -> tuple[Any, ...]:
    logits = rng.normal(0, 2, (batch, anchors, classes)).astype(dtype)
    offsets = rng.normal(0, 1, (batch, anchors, 4)).astype(dtype)
    chances = rng.uniform(0, 1, (batch, anchors))
    positive = (chances < 0.15) & (classes > 1)
    labels = np.where(positive, rng.integers(1, max(classes, 2), chances.shape), 0)
    labels = np.where(chances > 0.9, -1, labels).astype(np.int32)
    targets = rng.normal(0, 1, (batch, anchors, 4)).astype(dtype)
    return logits, offsets, labels, targets


def equal_up_to_sums(actual: Any, expected: Any, what: str) -> None:
    """Equal bits but for the losses, whose terms, none negative, are added in double.

    The order is another one on the GPU; the sum is rounded to the compute type.
    """
    if expected.shape != (4,):
        equal_up_to_libm(actual, expected, what)
        return
    rounding = float(np.finfo(expected.dtype).eps)
    sums = 1e6 * float(np.finfo(np.float64).eps)
    assert_within(actual, expected, np.abs(expected) * (rounding + sums), what)


def check(native: ModuleType, inputs: Any, **options: Any) -> Any:
    """Exact selection; sums within the rounding of the compute type."""
    result = run_kernel(
        native.multibox_loss, *inputs, compare_device=equal_up_to_sums, **options
    )
    options.pop("anchors", None)
    expected = oracle.multibox_loss(*inputs, **options)
    losses, mined, grad_logits, grad_offsets = result
    assert_equal_bits(mined, expected.mined, "mined")
    dtype = inputs[0].dtype
    compute = np.float64 if dtype == np.float64 else np.float32
    assert losses.dtype == compute
    eps = float(np.finfo(compute).eps)
    np.testing.assert_allclose(losses, expected.losses, rtol=64 * eps, atol=1e-30)
    unit = float(ml_dtypes.finfo(dtype).eps) + 64 * eps
    small = float(ml_dtypes.finfo(dtype).smallest_subnormal) + 1e-30
    for name, actual, wanted in (
        ("grad_logits", grad_logits, expected.grad_logits),
        ("grad_offsets", grad_offsets, expected.grad_offsets),
    ):
        np.testing.assert_allclose(
            actual.astype(np.float64), wanted, rtol=unit, atol=small, err_msg=name
        )
    return result


@pytest.mark.parametrize("confidence", CONFIDENCE)
@pytest.mark.parametrize("anchors", [0, 1, 2, 15, 16, 17, 61, 300])
def test_sizes(native: ModuleType, anchors: int, confidence: str) -> None:
    rng = np.random.default_rng(anchors)
    for batch, classes in ((2, 1), (1, 2), (3, 21), (1, 128), (2, 129), (0, 3)):
        inputs = case(rng, batch, anchors, classes, np.float32)
        check(native, inputs, confidence_loss=confidence)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("confidence", CONFIDENCE)
@pytest.mark.parametrize("localization", ["smooth_l1", "l2"])
def test_dtypes_and_options(
    native: ModuleType, localization: str, confidence: str, dtype: type
) -> None:
    rng = np.random.default_rng(1)
    for ratio, weight, normalizer in ((3, 1, None), (0.5, 2, 7.0), (100, 0, 0.25)):
        check(
            native,
            case(rng, 2, 200, 21, dtype),
            negative_ratio=ratio,
            localization_weight=weight,
            normalizer=normalizer,
            confidence_loss=confidence,
            localization_loss=localization,
            focal_alpha=0.3,
            focal_gamma=1.5,
        )


@pytest.mark.parametrize("confidence", CONFIDENCE)
def test_a_whole_batch(native: ModuleType, confidence: str) -> None:
    rng = np.random.default_rng(2)
    logits, offsets, labels, targets = case(rng, 2, 8732, 21, np.float32)
    labels[rng.uniform(0, 1, labels.shape) < 0.97] = 0
    logits[..., 0] += 6
    check(native, (logits, offsets, labels, targets), confidence_loss=confidence)


@pytest.mark.parametrize("confidence", CONFIDENCE)
def test_without_positives_nothing_is_lost(native: ModuleType, confidence: str) -> None:
    inputs = case(np.random.default_rng(3), 2, 40, 5, np.float32)
    for labels in (np.zeros((2, 40), np.int32), np.full((2, 40), -1, np.int32)):
        some = (inputs[0], inputs[1], labels, inputs[3])
        result = check(native, some, confidence_loss=confidence)
        assert result[0].tolist() == [0, 0, 0, 0]
        assert not result[2].any()
        check(native, some, confidence_loss=confidence, normalizer=2.0)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("confidence", CONFIDENCE)
def test_large_logits_are_finite(
    native: ModuleType, confidence: str, dtype: type
) -> None:
    rng = np.random.default_rng(4)
    logits, offsets, labels, targets = case(rng, 2, 60, 9, dtype)
    logits = rng.choice([-1e4, -88, -1, 0, 1, 88, 1e4], logits.shape).astype(dtype)
    result = run_kernel(
        native.multibox_loss,
        *(logits, offsets, labels, targets),
        confidence_loss=confidence,
        compare_device=equal_up_to_sums,
    )
    for array in result:
        assert np.isfinite(array.astype(np.float64)).all()
    expected = oracle.multibox_loss(
        logits, offsets, labels, targets, confidence_loss=confidence
    )
    # Of losses beyond the floor of the official code any may be mined; their number
    # is fixed.
    assert (result[1].sum(1) == expected.mined.sum(1)).all()


def test_ties_are_mined_from_the_lowest_anchor(native: ModuleType) -> None:
    logits = np.zeros((1, 9, 3), np.float32)
    labels = np.array([[0, 0, -1, 0, 1, 0, 0, 0, 0]], np.int32)
    boxes = np.zeros((1, 9, 4), np.float32)
    for confidence in ("softmax", "sigmoid"):
        mined = run_kernel(
            native.multibox_loss,
            *(logits, boxes, labels, boxes),
            confidence_loss=confidence,
            compare_device=equal_up_to_sums,
        )[1]
        assert np.flatnonzero(mined).tolist() == [0, 1, 3]


def test_a_nan_logit_is_not_hidden(native: ModuleType) -> None:
    logits, offsets, labels, targets = case(
        np.random.default_rng(5), 1, 30, 4, np.float32
    )
    candidate = int(np.flatnonzero(labels[0] == 0)[3])
    logits[0, candidate, 2] = np.nan
    for confidence in CONFIDENCE:
        losses, mined, *_ = run_kernel(
            native.multibox_loss,
            *(logits, offsets, labels, targets),
            confidence_loss=confidence,
            compare_device=equal_up_to_sums,
        )
        assert np.isnan(losses[0])
        assert mined[0, candidate] or confidence == "sigmoid_focal"


@pytest.mark.parametrize("kind", ["giou", "diou", "ciou"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_losses_on_boxes(native: ModuleType, dtype: type, kind: str) -> None:
    rng = np.random.default_rng(6)
    inputs = case(rng, 2, 40, 3, dtype)
    anchors = random_boxes(rng, 40, dtype=dtype)
    run = partial(
        run_kernel,
        native.multibox_loss,
        localization_loss=kind,
        anchors=anchors,
        compare_device=equal_up_to_sums,
    )
    losses, *_ = run(*inputs)
    wide = np.float64
    boxes, wanted = (
        native.decode_boxes(inputs[k].astype(wide), anchors.astype(wide))
        for k in (1, 3)
    )
    overlap = np.stack(
        [native.box_iou(boxes[i], wanted[i], kind=kind, aligned=True) for i in range(2)]
    )
    positive = inputs[2] > 0
    expected = (1 - overlap)[positive].sum() / positive.sum()
    np.testing.assert_allclose(losses[1], expected, rtol=1e-4)


@pytest.mark.parametrize("kind", ["smooth_l1", "l2", "giou", "diou", "ciou"])
@pytest.mark.parametrize("confidence", CONFIDENCE)
def test_gradients_against_differences(
    native: ModuleType, confidence: str, kind: str
) -> None:
    rng = np.random.default_rng(7)
    logits, offsets, labels, targets = case(rng, 1, 24, 4, np.float64)
    offsets = targets + rng.uniform(0.1, 0.6, offsets.shape)
    anchors = random_boxes(rng, 24, dtype=np.float64)
    options: dict[str, Any] = {
        "anchors": anchors,
        "confidence_loss": confidence,
        # alpha of CIoU is a constant in its gradient: a part of it is left out.
        "localization_loss": kind,
        "negative_ratio": 1e3,
        "localization_weight": 1.5,
    }
    grads = native.multibox_loss(logits, offsets, labels, targets, **options)[2:]
    step = 1e-6
    for which, grad in zip((0, 1), grads, strict=True):
        if which == 1 and kind == "ciou":
            continue
        values = [logits, offsets]
        for _ in range(40):
            index = tuple(int(rng.integers(size)) for size in grad.shape)
            ends = []
            for sign in (1, -1):
                moved = [value.copy() for value in values]
                moved[which][index] += sign * step
                losses = native.multibox_loss(*moved, labels, targets, **options)[0]
                ends.append(losses[0])
            slope = (ends[0] - ends[1]) / (2 * step)
            assert abs(grad[index] - slope) < 1e-7, (which, index)


def test_gradients_of_the_parts_add_up(native: ModuleType) -> None:
    inputs = case(np.random.default_rng(8), 2, 50, 5, np.float64)
    run = partial(native.multibox_loss, *inputs, localization_weight=0.5)
    total = run(grad_losses=[1, 0, 0])[2:]
    by_offsets = run(grad_losses=[0, 0.5, 0])[3]
    by_logits = run(grad_losses=[0, 0, 1])[2]
    np.testing.assert_allclose(total[0], by_logits, rtol=1e-14)
    np.testing.assert_allclose(total[1], by_offsets, rtol=1e-14)


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [
        ((3, 33_333, 21), np.float32),
        ((3, 20_001, 33), np.float64),
        ((7, 100_003, 3), np.float32),
        ((2, 100_001, 21), np.float16),
        ((2, 300_007, 7), ml_dtypes.bfloat16),
        ((3, 700, 1030), np.float32),
    ],
)
def test_gradients_too_large_for_a_cache(
    native: ModuleType, shape: tuple[int, int, int], dtype: Any
) -> None:
    # Those are written in another way than the gradients of one image.
    inputs = case(np.random.default_rng(6), *shape, dtype)
    inputs[2][:, [0, 1, 2, -2, -1]] = np.minimum([1, 1, 0, 1, 1], shape[2] - 1)
    assert inputs[0].nbytes > 8 << 20
    _, mined, *grads = run_kernel(
        native.multibox_loss, *inputs, normalizer=3.0, compare_device=None
    )
    for image in range(shape[0]):
        one = [array[image : image + 1] for array in inputs]
        assert one[0].nbytes < 8 << 20
        alone = native.multibox_loss(*one, normalizer=3.0)
        found = [array[image : image + 1] for array in (mined, *grads)]
        assert_all_equal_bits(found, alone[1:], NAMES[1:])


def test_batches_and_threads_do_not_matter(native: ModuleType) -> None:
    inputs = case(np.random.default_rng(9), 5, 70, 21, np.float32)
    whole = native.multibox_loss(*inputs, normalizer=10.0)
    for threads in (2, 3, 8):
        again = native.multibox_loss(*inputs, normalizer=10.0, num_threads=threads)
        assert_all_equal_bits(again, whole, NAMES)
    for i in range(5):
        one = [part[i : i + 1] for part in inputs]
        alone = native.multibox_loss(*one, normalizer=10.0)
        parts = [part[i : i + 1] for part in whole[1:]]
        assert_all_equal_bits(alone[1:], parts, NAMES[1:])


class Shifted:
    """An array on the GPU that begins one element later than one that is given."""

    def __init__(self, array: Any, shape: tuple[int, ...]) -> None:
        self.array = array  # keeps the memory
        described = array.__cuda_array_interface__
        address = described["data"][0] + np.dtype(array.dtype).itemsize
        self.__cuda_array_interface__ = described | {
            "data": (address, False),
            "shape": shape,
        }


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_on_a_gpu_arrays_need_not_be_aligned(native: ModuleType, dtype: Any) -> None:
    require_device()
    inputs = case(np.random.default_rng(12), 2, 70, 21, dtype)
    inputs[2][:] = np.where(inputs[2] > 0, -1, inputs[2])
    inputs[2][1, 64] = 20
    expected = native.multibox_loss(*inputs)
    rooms = [on_device(np.full(part.size + 2, 7, part.dtype)) for part in expected]
    outs = tuple(
        Shifted(room, part.shape) for room, part in zip(rooms, expected, strict=True)
    )
    there = [
        Shifted(on_device(np.insert(array.ravel(), 0, 0)), array.shape)
        for array in inputs
    ]
    native.multibox_loss(*there, out=outs)
    for room, part, name in zip(rooms[1:], expected[1:], NAMES[1:], strict=True):
        written = room.numpy()
        assert written[0] == written[-1] == np.asarray(7, written.dtype)
        equal_up_to_libm(written[1:-1], part.ravel(), name)


@pytest.mark.parametrize("confidence", CONFIDENCE)
def test_many_blocks_on_a_gpu(native: ModuleType, confidence: str) -> None:
    """Many partial sums, and classes beyond the sixteenth."""
    require_device()
    inputs = case(np.random.default_rng(13), 3, 5_003, 18, np.float32)
    run_kernel(
        native.multibox_loss,
        *inputs,
        confidence_loss=confidence,
        compare_device=equal_up_to_sums,
    )


def test_errors(native: ModuleType) -> None:
    inputs = case(np.random.default_rng(10), 2, 7, 3, np.float32)
    logits, offsets, labels, targets = inputs

    def call(*arrays: Any, message: str, **options: Any) -> None:
        expect_error(native.multibox_loss, *arrays, **options, message=message)

    call(logits[0], offsets, labels, targets, message="logits must have shape")
    call(logits[..., :0], offsets, labels, targets, message="at least one class")
    call(logits, offsets[:1], labels, targets, message="offsets must have shape")
    call(logits, offsets, labels[:1], targets, message="target_classes must have")
    call(logits, offsets, labels, targets[:1], message="target_offsets must have")
    call(*inputs, anchors=np.zeros((6, 4), "f"), message="anchors must have shape")
    call(*inputs, localization_loss="giou", message="anchors must be given")
    call(*inputs, localization_loss="l3", message="localization_loss must be one of")
    call(*inputs, confidence_loss="x", message="confidence_loss must be one of")
    call(*inputs, negative_ratio=-1.0, message="negative_ratio must be in")
    call(*inputs, focal_alpha=2.0, message="focal_alpha must be in")
    call(*inputs, focal_gamma=-1.0, message="focal_gamma must be in")
    call(*inputs, normalizer=np.nan, message="normalizer must be in")
    wrong = labels.copy()
    wrong[0, 0] = 3
    call(logits, offsets, wrong, targets, message="target_classes must be below the 3")
    expect_out_errors(native.multibox_loss, *inputs)
    expect_thread_count_error(native.multibox_loss, *inputs)
