# SPDX-License-Identifier: Apache-2.0
"""What every anchor shall predict."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from ssdops.constants import BACKGROUND_CLASS, NEGATIVE, VARIANCES
from ssdops.ops import encode_boxes, match_anchors


class Targets(NamedTuple):
    """Targets of the multibox loss.

    Attributes:
        classes: int32 `[B, A]`; class id of a positive anchor, else 0.
        offsets: `[B, A, 4]`; encoded ground truth of a positive anchor, else 0.
        positive: bool `[B, A]`; anchors matched to a ground truth.
        negative: bool `[B, A]`; anchors that may be mined as background. An anchor
            that is neither is ignored.
    """

    classes: tf.Tensor
    offsets: tf.Tensor
    positive: tf.Tensor
    negative: tf.Tensor


def assign_targets(
    anchors: Any,
    gt_boxes: Any,
    gt_labels: Any,
    *,
    iou_threshold: float = 0.5,
    negative_threshold: float | None = None,
    variances: Sequence[float] = VARIANCES,
) -> Targets:
    """Match the anchors to the ground truth and encode what they match.

    Args:
        anchors: floating tensor `[A, 4]`, corners `(ymin, xmin, ymax, xmax)`.
        gt_boxes: same dtype, `[B, G, 4]`.
        gt_labels: int32 `[B, G]`; 0 is padding, -1 an ignore region.
        iou_threshold: see `ssdops.match_anchors`.
        negative_threshold: see `ssdops.match_anchors`.
        variances: see `ssdops.encode_boxes`.

    Returns:
        `Targets`. No gradient flows through them.

    Raises:
        ValueError: if a shape, a dtype or an option does not fit.
    """
    matched_gt, _ = match_anchors(
        anchors,
        gt_boxes,
        gt_labels,
        iou_threshold=iou_threshold,
        negative_threshold=negative_threshold,
    )
    # One more row, so that there is something to gather without ground truth.
    gt_boxes = tf.pad(gt_boxes, [[0, 0], [0, 1], [0, 0]])
    gt_labels = tf.pad(gt_labels, [[0, 0], [0, 1]])
    positive = matched_gt >= 0
    # Any row serves where there is no match; its values are replaced below.
    row = tf.maximum(matched_gt, 0)
    boxes = tf.gather(gt_boxes, row, batch_dims=1)
    labels = tf.gather(gt_labels, row, batch_dims=1)
    offsets = encode_boxes(boxes, anchors, variances=variances)
    return Targets(
        classes=tf.where(positive, labels, BACKGROUND_CLASS),
        offsets=tf.stop_gradient(
            tf.where(positive[..., None], offsets, tf.zeros([], offsets.dtype))
        ),
        positive=positive,
        negative=tf.equal(matched_gt, NEGATIVE),
    )
