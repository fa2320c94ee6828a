# SPDX-License-Identifier: Apache-2.0
"""Multibox loss and mining against an independent NumPy implementation."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from ssdops.training import Targets, mine_hard_negatives, multibox_loss


def make_case(seed, batch=3, anchors=20, classes=4, positives=0.2):
    rng = np.random.default_rng(seed)
    drawn = rng.random((batch, anchors))
    positive = drawn < positives
    negative = ~positive & (drawn < 0.9)
    labels = rng.integers(1, classes, (batch, anchors))
    labels = np.where(positive, labels, np.where(negative, 0, -1))
    wanted = rng.normal(0, 2, (batch, anchors, 4)) * positive[..., None]
    targets = make_targets(labels, wanted)
    offsets = rng.normal(0, 2, (batch, anchors, 4)).astype(np.float32)
    logits = rng.normal(0, 3, (batch, anchors, classes)).astype(np.float32)
    return offsets, logits, targets


def make_targets(classes, offsets):
    classes = np.asarray(classes, np.int32)
    return Targets(
        classes=tf.constant(classes),
        offsets=tf.constant(offsets, tf.float32),
        # The loss looks at the first two alone.
        matched_gt=tf.constant(np.minimum(classes, 1) - 1),
        matched_iou=tf.zeros(classes.shape),
    )


def mined_by_hand(losses, positive, negative, ratio):
    mined = np.zeros(positive.shape, bool)
    for image in range(len(positive)):
        candidates = np.flatnonzero(negative[image])
        count = min(int(positive[image].sum() * ratio), len(candidates))
        ranked = sorted(candidates, key=lambda a, i=image: (-losses[i, a], a))
        mined[image, ranked[:count]] = True
    return mined


def loss_by_hand(offsets, logits, targets, ratio, activation):
    classes = targets.classes.numpy()
    positive, negative = classes > 0, classes == 0
    labels = np.maximum(classes, 0)
    x = logits.astype(np.float64)
    onehot = np.eye(x.shape[-1])[labels]
    if activation == "softmax":
        shifted = x - x.max(-1, keepdims=True)
        log_p = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
        losses = -(onehot * log_p).sum(-1)
        derivative = np.exp(log_p) - onehot
    else:
        losses = (np.maximum(x, 0) - x * onehot + np.log1p(np.exp(-abs(x)))).sum(-1)
        derivative = 1 / (1 + np.exp(-x)) - onehot
    mined = mined_by_hand(losses, positive, negative, ratio)
    d = offsets.astype(np.float64) - targets.offsets.numpy()
    smooth = np.where(abs(d) < 1, d * d / 2, abs(d) - 0.5).sum(-1)
    n = max(1, positive.sum())
    counted = positive | mined
    return (
        smooth[positive].sum() / n,
        losses[counted].sum() / n,
        np.clip(d, -1, 1) * positive[..., None] / n,
        derivative * counted[..., None] / n,
    )


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
@pytest.mark.parametrize("ratio", [0.0, 0.7, 3.0])
def test_value_and_gradient(seed, activation, ratio):
    offsets, logits, targets = make_case(seed)
    localization, confidence, d_offsets, d_logits = loss_by_hand(
        offsets, logits, targets, ratio, activation
    )
    offsets, logits = tf.constant(offsets), tf.constant(logits)
    with tf.GradientTape() as tape:
        tape.watch((offsets, logits))
        loss = multibox_loss(
            offsets,
            logits,
            targets,
            negative_ratio=ratio,
            localization_weight=2.0,
            score_activation=activation,
        )
    gradients = tape.gradient(loss.total, (offsets, logits))
    np.testing.assert_allclose(loss.localization, localization, rtol=1e-5)
    np.testing.assert_allclose(loss.confidence, confidence, rtol=1e-5)
    np.testing.assert_allclose(loss.total, 2 * localization + confidence, rtol=1e-5)
    np.testing.assert_allclose(gradients[0], 2 * d_offsets, atol=1e-6)
    np.testing.assert_allclose(gradients[1], d_logits, atol=1e-6)
    assert loss.num_positives == (targets.classes.numpy() > 0).sum()


def test_an_image_without_positives_contributes_nothing():
    offsets, logits, targets = make_case(0, batch=2)
    keep = np.array([[True], [False]])
    targets = targets._replace(
        classes=tf.where(keep, targets.classes, tf.minimum(targets.classes, 0))
    )
    both = multibox_loss(offsets, logits, targets)
    alone = multibox_loss(
        offsets[:1], logits[:1], Targets(*(value[:1] for value in targets))
    )
    np.testing.assert_allclose(both.total, alone.total, rtol=1e-6)


def test_a_batch_without_positives_has_no_loss_and_no_gradient():
    offsets, logits, targets = make_case(0, positives=-1.0)
    logits = tf.constant(logits)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        loss = multibox_loss(offsets, logits, targets)
    assert loss.total == 0
    assert not tape.gradient(loss.total, logits).numpy().any()


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_huge_logits_stay_finite(activation):
    offsets, logits, targets = make_case(1)
    offsets = tf.constant(offsets * 1e4)
    logits = tf.constant(np.sign(logits) * np.float32(1e4))
    with tf.GradientTape() as tape:
        tape.watch((offsets, logits))
        loss = multibox_loss(offsets, logits, targets, score_activation=activation)
    assert np.isfinite(loss.total)
    for gradient in tape.gradient(loss.total, (offsets, logits)):
        assert np.isfinite(gradient).all()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_half_types_are_computed_in_float32(dtype):
    offsets, logits, targets = make_case(2)
    low = [tf.cast(value, dtype) for value in (offsets, logits)]
    expected = multibox_loss(*(tf.cast(value, "float32") for value in low), targets)
    found = multibox_loss(*low, targets)
    assert found.total.dtype == ("float64" if dtype == "float64" else "float32")
    np.testing.assert_allclose(found.total, expected.total, rtol=1e-5)


@pytest.mark.parametrize("seed", range(5))
def test_mining_against_sorting_with_many_ties(seed):
    rng = np.random.default_rng(seed)
    losses = rng.integers(0, 4, (4, 60)).astype(np.float32)
    drawn = rng.random((4, 60))
    positive, negative = drawn < 0.1, drawn > 0.3
    for ratio in (0.0, 0.5, 1.5, 3.0, 100.0):
        mined = mine_hard_negatives(losses, positive, negative, negative_ratio=ratio)
        expected = mined_by_hand(losses, positive, negative, ratio)
        np.testing.assert_array_equal(mined, expected)


def test_softmax_losses_beyond_the_floor_are_equally_hard():
    # Both are -ln(FLT_MIN) for the official code: the lower anchor wins.
    offsets = np.zeros((1, 3, 4), np.float32)
    logits = np.array([[[0, 0], [0, 100], [0, 200]]], np.float32)
    targets = make_targets([[1, 0, 0]], np.zeros((1, 3, 4)))
    loss = multibox_loss(offsets, logits, targets, negative_ratio=1)
    np.testing.assert_allclose(loss.confidence, np.log(2) + 100, rtol=1e-6)


def test_sigmoid_losses_have_no_floor():
    # The floor belongs to the softmax; a sum of binary cross-entropies has none.
    offsets = np.zeros((1, 3, 4), np.float32)
    logits = np.array([[[0, 0], [0, 100], [0, 200]]], np.float32)
    targets = make_targets([[1, 0, 0]], np.zeros((1, 3, 4)))
    loss = multibox_loss(
        offsets, logits, targets, negative_ratio=1, score_activation="sigmoid"
    )
    np.testing.assert_allclose(loss.confidence, 3 * np.log(2) + 200, rtol=1e-6)


def test_options_out_of_range_are_refused():
    offsets, logits, targets = make_case(0)
    with pytest.raises(ValueError, match="score_activation"):
        multibox_loss(offsets, logits, targets, score_activation="tanh")
    for ratio in (-1.0, float("nan")):
        with pytest.raises(ValueError, match="negative_ratio"):
            multibox_loss(offsets, logits, targets, negative_ratio=ratio)


def test_graph_with_unknown_sizes_gives_the_same():
    offsets, logits, targets = make_case(3)
    eager = multibox_loss(offsets, logits, targets)
    shapes = [
        tf.TensorSpec([None, None, 4]),
        tf.TensorSpec([None, None, None]),
        Targets(
            classes=tf.TensorSpec([None, None], tf.int32),
            offsets=tf.TensorSpec([None, None, 4]),
            matched_gt=tf.TensorSpec([None, None], tf.int32),
            matched_iou=tf.TensorSpec([None, None]),
        ),
    ]
    graph = tf.function(multibox_loss, input_signature=shapes)
    np.testing.assert_allclose(
        graph(offsets, logits, targets).total, eager.total, rtol=1e-6
    )
