# SPDX-License-Identifier: Apache-2.0
"""Targets of hand-made anchors."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from ssdops import decode_boxes
from ssdops.training import assign_targets

ANCHORS = tf.constant(
    [[0, 0, 0.5, 0.5], [0, 0.5, 0.5, 1], [0.5, 0, 1, 0.5], [0.5, 0.5, 1, 1]],
    tf.float32,
)


def assign(boxes, labels, **options):
    boxes = np.array(boxes, np.float32).reshape(1, -1, 4)
    labels = np.array(labels, np.int32).reshape(1, -1)
    return assign_targets(ANCHORS, boxes, labels, **options)


def test_an_anchor_takes_class_and_box_of_its_match():
    box = [0.05, 0.45, 0.5, 1.0]
    targets = assign([box, [0, 0, 0, 0]], [7, 0])
    assert targets.classes.numpy().tolist() == [[0, 7, 0, 0]]
    assert targets.positive.numpy().tolist() == [[False, True, False, False]]
    assert targets.negative.numpy().tolist() == [[True, False, True, True]]
    decoded = decode_boxes(targets.offsets, ANCHORS).numpy()
    np.testing.assert_allclose(decoded[0, 1], box, atol=1e-6)
    assert not targets.offsets.numpy()[0, [0, 2, 3]].any()


def test_a_box_equal_to_an_anchor_is_positive_with_zero_offsets():
    targets = assign([[0, 0, 0.5, 0.5]], [1])
    assert targets.positive.numpy()[0, 0]
    np.testing.assert_allclose(targets.offsets.numpy(), 0, atol=1e-6)


def test_padding_and_degenerate_boxes_match_nothing_and_stay_finite():
    targets = assign(
        [[0, 0, 0, 0], [0.2, 0.2, 0.2, 0.4], [0.9, 0.9, 0.1, 0.1]], [0, 1, 2]
    )
    assert not targets.positive.numpy().any()
    assert targets.negative.numpy().all()
    assert np.isfinite(targets.offsets.numpy()).all()
    assert not targets.offsets.numpy().any()


def test_anchors_in_an_ignore_region_are_neither():
    targets = assign([[0, 0, 0.5, 1]], [-1])
    assert not targets.positive.numpy().any()
    assert targets.negative.numpy().tolist() == [[False, False, True, True]]


def test_the_band_between_the_thresholds_is_neither():
    # IoU 0.6 with anchor 0 and 0.25 with anchor 1.
    box = [[0, 0.1, 0.5, 0.6]]
    free = assign(box, [1])
    band = assign(box, [1], negative_threshold=0.1)
    assert free.negative.numpy()[0, 1]
    assert not band.negative.numpy()[0, 1]
    assert not band.positive.numpy()[0, 1]


def test_no_ground_truth_rows_at_all():
    targets = assign_targets(ANCHORS, tf.zeros([2, 0, 4]), tf.zeros([2, 0], tf.int32))
    assert targets.negative.numpy().all()
    assert targets.offsets.shape == (2, 4, 4)


def test_no_gradient_flows():
    boxes = tf.Variable([[[0.0, 0.0, 0.5, 0.4]]])
    with tf.GradientTape() as tape:
        targets = assign_targets(ANCHORS, boxes, tf.constant([[1]]))
        total = tf.reduce_sum(targets.offsets)
    assert tape.gradient(total, boxes) is None
