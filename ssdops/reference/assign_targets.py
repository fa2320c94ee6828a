# SPDX-License-Identifier: Apache-2.0
"""Targets of the anchors in plain TensorFlow: match, then encode what is matched."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from ssdops.constants import BACKGROUND_CLASS, IGNORE_LABEL, IGNORED
from ssdops.reference.encode_boxes import encode_boxes
from ssdops.reference.match_anchors import match_anchors


def assign_targets(
    anchors: tf.Tensor,
    gt_boxes: tf.Tensor,
    gt_labels: tf.Tensor,
    *,
    iou_threshold: float,
    negative_threshold: float,
    ignore_threshold: float,
    bipartite_only: bool,
    ignore_cross_boundary: bool,
    variances: Sequence[float],
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
    """See `ssdops.ops.assign_targets`; here `negative_threshold` is a number."""
    matched_gt, matched_iou = match_anchors(
        anchors,
        gt_boxes,
        gt_labels,
        iou_threshold=iou_threshold,
        negative_threshold=negative_threshold,
        ignore_threshold=ignore_threshold,
        bipartite_only=bipartite_only,
        ignore_cross_boundary=ignore_cross_boundary,
    )
    # One more row, so that there is something to gather without ground truth.
    gt_boxes = tf.pad(gt_boxes, [[0, 0], [0, 1], [0, 0]])
    gt_labels = tf.pad(gt_labels, [[0, 0], [0, 1]])
    positive = matched_gt >= 0
    # Any row serves where there is no match; its values are replaced below.
    row = tf.maximum(matched_gt, 0)
    labels = tf.gather(gt_labels, row, batch_dims=1)
    unmatched = tf.where(tf.equal(matched_gt, IGNORED), IGNORE_LABEL, BACKGROUND_CLASS)
    offsets = encode_boxes(
        tf.gather(gt_boxes, row, batch_dims=1), anchors, variances=variances
    )
    return (
        tf.where(positive, labels, unmatched),
        tf.where(positive[..., None], offsets, tf.zeros([], offsets.dtype)),
        matched_gt,
        matched_iou,
    )
