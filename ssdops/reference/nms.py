# SPDX-License-Identifier: Apache-2.0
"""Greedy non-maximum suppression of one set of boxes in plain TensorFlow."""

from __future__ import annotations

import tensorflow as tf

from ssdops.reference._dtypes import compute_dtype
from ssdops.reference.box_iou import iou_broadcast


def nms(
    boxes: tf.Tensor,
    scores: tf.Tensor,
    *,
    iou_threshold: float,
    score_threshold: float,
    max_output_size: int | None,
) -> tuple[tf.Tensor, tf.Tensor]:
    """See `ssdops.ops.nms`."""
    compute = compute_dtype(boxes.dtype)
    count = tf.shape(boxes)[0]
    rows = count if max_output_size is None else max_output_size

    # A candidate's score is strictly above the threshold, so it is never -inf.
    ranked = tf.cast(scores, compute)
    lowest = tf.constant(-float("inf"), compute)
    candidate = ranked > tf.constant(score_threshold, compute)
    ranked = tf.where(candidate, ranked, lowest)
    # XLA's top_k would put -0.0 below 0.0; as scores they are equal.
    ranked = tf.where(tf.equal(ranked, 0), tf.zeros([], compute), ranked)

    # top_k puts the lower index first among equals.
    top_scores, top_indices = tf.math.top_k(ranked, k=count)
    top_boxes = tf.gather(tf.cast(boxes, compute), top_indices)
    threshold = tf.constant(iou_threshold, compute)

    def suppress_below(i: tf.Tensor, kept: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        overlaps = iou_broadcast(tf.gather(top_boxes, i), top_boxes) > threshold
        keeper = tf.gather(kept, i)
        return i + 1, kept & ~(keeper & (tf.range(count) > i) & overlaps)

    _, kept = tf.while_loop(
        lambda i, _: i < count,
        suppress_below,
        (tf.constant(0), top_scores > lowest),
        shape_invariants=(tf.TensorShape([]), tf.TensorShape([None])),
    )

    # Kept ones first, in their order: a stable sort of the two kinds.
    first, order = tf.math.top_k(tf.cast(kept, tf.int32), k=count)
    indices = tf.where(first > 0, tf.gather(top_indices, order), -1)
    if max_output_size is not None:
        indices = tf.pad(indices, [[0, max_output_size]], constant_values=-1)
        indices = tf.reshape(indices[:max_output_size], [max_output_size])
    num_valid = tf.minimum(tf.reduce_sum(first), rows)
    return indices, num_valid
