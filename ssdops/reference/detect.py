# SPDX-License-Identifier: Apache-2.0
"""Raw network outputs to detections in plain TensorFlow: one step after the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from ssdops.reference._dtypes import compute_dtype
from ssdops.reference.batched_nms import batched_nms
from ssdops.reference.decode_boxes import decode_boxes


def detect(
    logits: tf.Tensor,
    offsets: tf.Tensor,
    anchors: tf.Tensor,
    *,
    score_activation: str,
    variances: Sequence[float],
    clip: bool,
    score_threshold: Any,
    iou_threshold: float,
    eta: float,
    criterion: str,
    class_agnostic: bool,
    pre_nms_top_k: int | None,
    max_detections: int,
    background_class: int | None,
    class_subset: Sequence[int] | None,
    return_class_probabilities: bool,
) -> tuple[tf.Tensor, ...]:
    """See `ssdops.ops.detect`."""
    dtype = logits.dtype
    compute = compute_dtype(dtype)
    scores = tf.cast(logits, compute)
    if score_activation == "softmax":
        scores = tf.nn.softmax(scores, axis=-1)
    elif score_activation == "sigmoid":
        scores = tf.math.sigmoid(scores)
    boxes = decode_boxes(
        tf.cast(offsets, compute), tf.cast(anchors, compute), variances=variances
    )
    if clip:
        boxes = tf.clip_by_value(boxes, 0.0, 1.0)

    classes = tf.range(tf.shape(logits)[-1])
    wanted = tf.ones_like(classes, tf.bool)
    if class_subset is not None:
        subset = tf.constant(class_subset, tf.int32, [len(class_subset)])
        wanted = tf.reduce_any(tf.equal(classes[:, None], subset), axis=-1)
    if background_class is not None:
        wanted &= tf.not_equal(classes, background_class)
    candidate = wanted & (scores > tf.cast(score_threshold, compute))
    lowest = tf.constant(-float("inf"), compute)
    found_boxes, found_scores, found_classes, count, found_anchors = batched_nms(
        boxes,
        tf.where(candidate, scores, lowest),
        method="greedy",
        sigma=1.0,
        score_threshold=-float("inf"),
        iou_threshold=iou_threshold,
        pre_nms_top_k=pre_nms_top_k,
        max_detections=max_detections,
        background_class=None,
        criterion=criterion,
        class_agnostic=class_agnostic,
        eta=eta,
    )
    # A spare anchor, because there may be none.
    padded = tf.pad(scores, [[0, 0], [0, 1], [0, 0]])
    rows = tf.where(found_anchors < 0, tf.shape(scores)[1], found_anchors)
    probabilities = tf.gather(padded, rows, batch_dims=1)
    if not return_class_probabilities:
        probabilities = probabilities[..., :0]
    return (
        tf.cast(found_boxes, dtype),
        tf.cast(found_scores, dtype),
        found_classes,
        count,
        found_anchors,
        tf.cast(probabilities, dtype),
    )
