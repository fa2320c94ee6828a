# SPDX-License-Identifier: Apache-2.0
"""Per-class greedy non-maximum suppression of a batch in plain TensorFlow."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from ssdops.reference._dtypes import compute_dtype
from ssdops.reference.box_iou import diou_broadcast, iou_broadcast


def batched_nms(
    boxes: tf.Tensor,
    scores: tf.Tensor,
    *,
    score_threshold: float,
    iou_threshold: float,
    pre_nms_top_k: int | None,
    max_detections: int,
    background_class: int | None,
    criterion: str = "iou",
    class_agnostic: bool = False,
    eta: float = 1.0,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
    """See `ssdops.ops.batched_nms`; always returns the anchor indices as well.

    `eta` is that of `ssdops.ops.detect`.
    """
    dtype = boxes.dtype
    compute = compute_dtype(dtype)
    batch, num_anchors, num_classes = tf.unstack(tf.shape(scores), num=3)

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

    # Groups [B, G, S] of slots that suppress each other: one per class, or one for
    # all, ordered by class, then anchor.
    groups, slots = num_classes, num_anchors
    if class_agnostic:
        groups, slots = 1, num_classes * num_anchors
        ranked = tf.reshape(ranked, [batch, groups, slots])
    limit = slots if pre_nms_top_k is None else tf.minimum(pre_nms_top_k, slots)

    # top_k puts the lower index first among equals: score, then class and anchor.
    top_scores, top_slots = tf.math.top_k(ranked, k=limit)
    divisor = tf.maximum(num_anchors, 1)
    top_anchors = top_slots % divisor
    top_classes = tf.range(groups)[None, :, None] + top_slots // divisor
    wide = tf.cast(boxes, compute)
    top_boxes = tf.gather(wide, top_anchors, axis=1, batch_dims=1)
    overlap = iou_broadcast if criterion == "iou" else diou_broadcast
    kept = _greedy_nms(top_boxes, top_scores > lowest, overlap, iou_threshold, eta)

    # [B, G * K] is ordered by group, then score, then slot, so that a stable
    # top_k yields score, then class, then anchor.
    size = [batch, groups * limit]
    flat = tf.reshape(tf.where(kept, top_scores, lowest), size)
    flat = tf.pad(flat, [[0, 0], [0, max_detections]], constant_values=lowest)
    best_scores, places = tf.math.top_k(flat, k=max_detections)
    found = best_scores > lowest
    places = tf.where(found, places, 0)
    # One spare element, because there may be no candidates at all.
    spare = [[0, 0], [0, 1]]
    anchors = tf.pad(tf.reshape(top_anchors, size), spare)
    anchors = tf.gather(anchors, places, batch_dims=1)
    classes = tf.pad(tf.reshape(top_classes, size), spare)
    classes = tf.gather(classes, places, batch_dims=1)

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
    boxes: tf.Tensor,
    candidate: tf.Tensor,
    overlap: Callable[[tf.Tensor, tf.Tensor], tf.Tensor],
    iou_threshold: float,
    eta: float,
) -> tf.Tensor:
    """Which boxes `[B, G, K, 4]`, best first, survive: bool `[B, G, K]`."""
    count = tf.shape(boxes)[2]
    threshold = tf.fill(
        tf.shape(candidate)[:2], tf.constant(iou_threshold, boxes.dtype)
    )

    def visit(
        i: tf.Tensor, kept: tf.Tensor, threshold: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        box = tf.gather(boxes, i, axis=2)[:, :, None, :]
        over = overlap(boxes, box) > threshold[:, :, None]
        keep = tf.gather(candidate, i, axis=2) & ~tf.reduce_any(kept & over, axis=-1)
        kept |= keep[:, :, None] & tf.equal(tf.range(count), i)
        if eta < 1.0:
            threshold = tf.where(keep & (threshold > 0.5), threshold * eta, threshold)
        return i + 1, kept, threshold

    _, kept, _ = tf.while_loop(
        lambda i, *_: i < count,
        visit,
        (tf.constant(0), tf.zeros_like(candidate), threshold),
        shape_invariants=(
            tf.TensorShape([]),
            tf.TensorShape([None, None, None]),
            tf.TensorShape([None, None]),
        ),
    )
    return kept
