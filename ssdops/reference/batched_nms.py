# SPDX-License-Identifier: Apache-2.0
"""Per-class greedy non-maximum suppression of a batch in plain TensorFlow."""

from __future__ import annotations

import tensorflow as tf

from ssdops.reference._dtypes import compute_dtype
from ssdops.reference.box_iou import iou_broadcast


def batched_nms(
    boxes: tf.Tensor,
    scores: tf.Tensor,
    *,
    score_threshold: float,
    iou_threshold: float,
    pre_nms_top_k: int | None,
    max_detections: int,
    background_class: int | None,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
    """See `ssdops.ops.batched_nms`; always returns the anchor indices as well."""
    dtype = boxes.dtype
    compute = compute_dtype(dtype)
    batch, num_anchors, num_classes = tf.unstack(tf.shape(scores), num=3)
    limit = num_anchors
    if pre_nms_top_k is not None:
        limit = tf.minimum(pre_nms_top_k, num_anchors)

    # [B, C, A], with -inf for everything that is not a candidate. A candidate's
    # score is strictly above the threshold, so it is never -inf itself.
    ranked = tf.transpose(tf.cast(scores, compute), [0, 2, 1])
    lowest = tf.constant(-float("inf"), compute)
    candidate = ranked > tf.constant(score_threshold, compute)
    if background_class is not None:
        foreground = tf.not_equal(tf.range(num_classes), background_class)
        candidate &= foreground[None, :, None]
    ranked = tf.where(candidate, ranked, lowest)
    # XLA's top_k would put -0.0 below 0.0; as scores they are equal.
    ranked = tf.where(tf.equal(ranked, 0), tf.zeros([], compute), ranked)

    # top_k puts the lower index first among equals: score, then anchor.
    top_scores, top_anchors = tf.math.top_k(ranked, k=limit)
    wide = tf.cast(boxes, compute)
    top_boxes = tf.gather(wide, top_anchors, axis=1, batch_dims=1)
    kept = _greedy_nms(top_boxes, top_scores > lowest, iou_threshold)

    # [B, C * K] is ordered by class, then score, then anchor, so that a stable
    # top_k yields score, then class, then anchor.
    flat = tf.reshape(tf.where(kept, top_scores, lowest), [batch, num_classes * limit])
    flat = tf.pad(flat, [[0, 0], [0, max_detections]], constant_values=lowest)
    best_scores, slots = tf.math.top_k(flat, k=max_detections)
    found = best_scores > lowest
    slots = tf.where(found, slots, 0)
    # One spare element, because there may be no candidate slots at all.
    anchors = tf.reshape(top_anchors, [batch, num_classes * limit])
    anchors = tf.gather(tf.pad(anchors, [[0, 0], [0, 1]]), slots, batch_dims=1)
    classes = slots // tf.maximum(limit, 1)

    padded_boxes = tf.pad(boxes, [[0, 0], [0, 1], [0, 0]])
    padded_scores = tf.pad(scores, [[0, 0], [0, 1], [0, 1]])
    out_boxes = tf.gather(padded_boxes, anchors, batch_dims=1)
    out_scores = tf.gather_nd(
        padded_scores, tf.stack([anchors, classes], axis=-1), batch_dims=1
    )
    return (
        tf.where(found[..., None], out_boxes, tf.zeros([], dtype)),
        tf.where(found, out_scores, tf.zeros([], dtype)),
        tf.where(found, classes, 0),
        tf.reduce_sum(tf.cast(found, tf.int32), axis=-1),
        tf.where(found, anchors, -1),
    )


def _greedy_nms(
    boxes: tf.Tensor, candidate: tf.Tensor, iou_threshold: float
) -> tf.Tensor:
    """Which boxes `[B, C, K, 4]`, best first, survive: bool `[B, C, K]`."""
    count = tf.shape(boxes)[2]
    threshold = tf.constant(iou_threshold, boxes.dtype)

    def suppress_below(i: tf.Tensor, kept: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        box = tf.gather(boxes, i, axis=2)[:, :, None, :]
        keeper = tf.gather(kept, i, axis=2)[:, :, None]
        later = tf.range(count)[None, None, :] > i
        overlaps = iou_broadcast(box, boxes) > threshold
        return i + 1, kept & ~(keeper & later & overlaps)

    _, kept = tf.while_loop(
        lambda i, _: i < count,
        suppress_below,
        (tf.constant(0), candidate),
        shape_invariants=(tf.TensorShape([]), tf.TensorShape([None, None, None])),
    )
    return kept
