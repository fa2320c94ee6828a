# SPDX-License-Identifier: Apache-2.0
"""Public `multibox_loss`: every implementation and way to run it, and its gradient."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import oracles.multibox_loss as oracle
import pytest
import tensorflow as tf
from support.cases import random_boxes
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

import ssdops
from ssdops import MultiboxLoss, multibox_loss

F32, I32 = tf.float32, tf.int32
CONFIDENCE = ("softmax", "sigmoid", "sigmoid_focal")


def case(
    seed: int, batch: int = 2, anchors: int = 40, classes: int = 4, dtype: Any = "f"
) -> tuple[Any, ...]:
    rng = np.random.default_rng(seed)
    chances = rng.uniform(0, 1, (batch, anchors))
    labels = rng.integers(1, max(classes, 2), chances.shape)
    labels = np.where((chances < 0.2) & (classes > 1), labels, 0)
    labels = np.where(chances > 0.9, -1, labels).astype(np.int32)
    logits = rng.normal(0, 3, (batch, anchors, classes)).astype(dtype)
    offsets = rng.normal(0, 2, (batch, anchors, 4)).astype(dtype)
    targets = rng.normal(0, 2, (batch, anchors, 4)).astype(dtype)
    return logits, offsets, labels, targets


def with_gradient(mode: Mode, inputs: Any, **options: Any) -> tuple[Any, Any, Any]:
    """The loss and the gradients of its total by logits and offsets."""
    tensors = [tf.convert_to_tensor(value) for value in inputs]
    call = mode.function(multibox_loss, tensors[0].dtype.name, **options)
    with tf.GradientTape() as tape:
        tape.watch(tensors[:2])
        loss = call(*tensors)
    return (loss, *tape.gradient(loss.total, tensors[:2]))


def check(mode: Mode, inputs: Any, **options: Any) -> None:
    loss, *gradients = with_gradient(mode, inputs, **options)
    expected = oracle.multibox_loss(*inputs, **options)
    rtol = 1e-5 if inputs[0].dtype == np.float32 else 1e-12
    np.testing.assert_allclose(loss, expected.losses, rtol=rtol)
    for gradient, wanted in zip(gradients, expected[2:], strict=True):
        np.testing.assert_allclose(gradient, wanted, rtol=10 * rtol, atol=rtol)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("confidence", CONFIDENCE)
@pytest.mark.parametrize("localization", ["smooth_l1", "l2"])
def test_value_and_gradient(mode: Mode, localization: str, confidence: str) -> None:
    check(
        mode,
        case(0),
        confidence_loss=confidence,
        localization_loss=localization,
        localization_weight=2.0,
    )


@pytest.mark.parametrize("mode", EAGER_MODES)
@pytest.mark.parametrize("dtype", FULL_DTYPES)
@pytest.mark.parametrize("seed", range(3))
def test_ratios_and_dtypes(mode: Mode, seed: int, dtype: type) -> None:
    for ratio in (0.0, 0.7, 3.0, 1e9):
        for confidence in CONFIDENCE:
            check(
                mode,
                case(seed, dtype=dtype, classes=21),
                negative_ratio=ratio,
                confidence_loss=confidence,
            )


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("shape", [(0, 3, 3), (2, 0, 3), (1, 5, 1), (1, 1, 2)])
def test_sizes(mode: Mode, shape: tuple[int, int, int]) -> None:
    for confidence in CONFIDENCE:
        check(mode, case(1, *shape), confidence_loss=confidence)


@pytest.mark.parametrize("kind", ["giou", "diou", "ciou"])
def test_losses_on_boxes_have_the_gradient_of_the_reference(kind: str) -> None:
    inputs = case(2, dtype=np.float64)
    anchors = random_boxes(np.random.default_rng(3), 40, dtype=np.float64)
    options = {"anchors": anchors, "localization_loss": kind}
    results = [
        with_gradient(Mode(name, "eager"), inputs, **options)
        for name in IMPLEMENTATIONS
    ]
    for reference, native in zip(*map(tf.nest.flatten, results), strict=True):
        np.testing.assert_allclose(native, reference, rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize("mode", EAGER_MODES)
def test_a_given_normalizer(mode: Mode) -> None:
    check(mode, case(4), normalizer=100.0)
    check(mode, case(4), normalizer=0.5)
    check(mode, case(4, classes=1), normalizer=3.0)
    replicas = [case(5), case(6)]
    together = [np.concatenate(parts) for parts in zip(*replicas, strict=True)]
    count = float((together[2] > 0).sum())
    whole = mode.run(multibox_loss, *together)
    split = [mode.run(multibox_loss, *part, normalizer=count) for part in replicas]
    np.testing.assert_allclose(whole.total, split[0].total + split[1].total, rtol=1e-6)


@pytest.mark.parametrize("mode", EAGER_MODES)
def test_an_image_without_positives_contributes_nothing(mode: Mode) -> None:
    logits, offsets, labels, targets = case(7)
    labels[1] = np.minimum(labels[1], 0)
    both = mode.run(multibox_loss, logits, offsets, labels, targets)
    first = [part[:1] for part in (logits, offsets, labels, targets)]
    alone = mode.run(multibox_loss, *first)
    np.testing.assert_allclose(both.total, alone.total, rtol=1e-6)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("confidence", CONFIDENCE)
def test_a_batch_without_positives_has_no_loss_and_no_gradient(
    mode: Mode, confidence: str
) -> None:
    logits, offsets, labels, targets = case(8)
    inputs = (logits, offsets, np.minimum(labels, 0), targets)
    loss, *gradients = with_gradient(mode, inputs, confidence_loss=confidence)
    assert [float(value) for value in loss] == [0, 0, 0, 0]
    for gradient in gradients:
        assert not gradient.numpy().any()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("confidence", CONFIDENCE)
def test_huge_logits_stay_finite(mode: Mode, confidence: str) -> None:
    logits, offsets, labels, targets = case(9)
    logits = np.sign(logits) * np.float32(1e4)
    loss, *gradients = with_gradient(
        mode, (logits, offsets * 1e4, labels, targets), confidence_loss=confidence
    )
    assert np.isfinite(loss.total)
    for gradient in gradients:
        assert np.isfinite(gradient).all()


@pytest.mark.parametrize("mode", EAGER_MODES)
@pytest.mark.parametrize("dtype", HALF_DTYPES)
def test_half_types_are_computed_in_float32(mode: Mode, dtype: type) -> None:
    logits, offsets, labels, targets = case(10, dtype=dtype)
    half, *gradients = with_gradient(mode, (logits, offsets, labels, targets))
    wide = (logits.astype("f"), offsets.astype("f"), labels, targets.astype("f"))
    full = mode.run(multibox_loss, *wide)
    assert half.total.dtype == tf.float32
    np.testing.assert_allclose(half, full, rtol=1e-6)
    assert [gradient.dtype for gradient in gradients] == [logits.dtype] * 2


@pytest.mark.parametrize("mode", EAGER_MODES)
def test_softmax_losses_beyond_the_floor_are_equally_hard(mode: Mode) -> None:
    # Both are -ln(FLT_MIN) for the official code: the lower anchor wins.
    boxes = np.zeros((1, 3, 4), np.float32)
    logits = np.array([[[0, 0], [0, 100], [0, 200]]], np.float32)
    labels = np.array([[1, 0, 0]], np.int32)
    loss = mode.run(multibox_loss, logits, boxes, labels, boxes, negative_ratio=1)
    np.testing.assert_allclose(loss.confidence, np.log(2) + 100, rtol=1e-6)
    # A sum of binary cross-entropies has no floor.
    loss = mode.run(
        multibox_loss,
        *(logits, boxes, labels, boxes),
        negative_ratio=1,
        confidence_loss="sigmoid",
    )
    np.testing.assert_allclose(loss.confidence, 3 * np.log(2) + 200, rtol=1e-6)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_it_trains_on_assigned_targets(implementation: str) -> None:
    if implementation == "native":
        require_native_op("multibox_loss", "float32")
    rng = np.random.default_rng(11)
    anchors = random_boxes(rng, 50, dtype=np.float32)
    boxes = random_boxes(rng, 2, 3, dtype=np.float32)
    targets = ssdops.assign_targets(anchors, boxes, [[1, 2, 0], [3, 0, 0]])
    logits = tf.Variable(tf.zeros([2, 50, 4]))
    offsets = tf.Variable(tf.zeros([2, 50, 4]))
    losses = []
    for _ in range(40):
        with tf.GradientTape() as tape:
            loss = multibox_loss(
                logits,
                offsets,
                targets.classes,
                targets.offsets,
                implementation=implementation,
            )
        for variable, gradient in zip(
            (logits, offsets),
            tape.gradient(loss.total, (logits, offsets)),
            strict=True,
        ):
            variable.assign_sub(2 * gradient)
        losses.append(float(loss.total))
    assert losses[-1] < losses[0] / 4


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_static_shapes(implementation: str) -> None:
    shapes = static_shapes(
        multibox_loss,
        implementation,
        [[2, None, 3], [None, 7, 4], None, None],
        [F32, F32, I32, F32],
    )
    assert shapes == MultiboxLoss([], [], [], [])


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_shape_errors(implementation: str) -> None:
    good = [[2, 7, 3], [2, 7, 4], [2, 7], [2, 7, 4]]
    types = [F32, F32, I32, F32]
    for position, wrong, message in (
        (0, [7, 3], "logits must have shape [B, A, C], got [7, 3]"),
        (1, [2, 7, 3], "offsets must have shape [B, A, 4], got [2, 7, 3]"),
        (1, [2, 6, 4], "offsets must have 7 elements"),
        (2, [2, 7, 1], "target_classes must have shape [B, A]"),
        (3, [1, 7, 4], "target_offsets must have 2 elements"),
    ):
        shapes = [*good[:position], wrong, *good[position + 1 :]]
        expect_static_error(multibox_loss, implementation, shapes, types, message)
        arrays = [
            np.zeros(shape, np.int32 if kind == I32 else np.float32)
            for shape, kind in zip(shapes, types, strict=True)
        ]
        expect_runtime_error(multibox_loss, implementation, arrays)


def test_a_class_that_is_none_is_refused() -> None:
    require_native_op("multibox_loss", "float32")
    logits, offsets, labels, targets = case(12)
    labels[1, 3] = 4
    with pytest.raises(tf.errors.InvalidArgumentError, match="below the 4 classes"):
        multibox_loss(logits, offsets, labels, targets, implementation="native")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"confidence_loss": "tanh"}, "confidence_loss must be one of 'softmax'"),
        ({"localization_loss": "l3"}, "localization_loss must be one of 'smooth_l1'"),
        ({"localization_loss": "giou"}, "anchors must be given for localization_loss"),
        ({"anchors": np.zeros((3, 4), "f")}, "anchors must have 40 elements"),
        ({"negative_ratio": -1.0}, "negative_ratio must be finite and at least 0"),
        ({"negative_ratio": float("nan")}, "negative_ratio must be finite"),
        ({"localization_weight": float("inf")}, "localization_weight must be finite"),
        ({"focal_alpha": 1.5}, "focal_alpha must be in [0, 1], got 1.5"),
        ({"focal_gamma": -2.0}, "focal_gamma must be finite and at least 0"),
        ({"normalizer": [1.0, 2.0]}, "normalizer must have shape [], got [2]"),
        ({"variances": (1, 2, 3)}, "variances must be 4 positive finite numbers"),
    ],
)
def test_option_errors(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        multibox_loss(*case(13), **options)
