# SPDX-License-Identifier: Apache-2.0
"""Per-class greedy non-maximum suppression, one candidate at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from oracles.box_iou import iou

Array = npt.NDArray[Any]


def batched_nms(
    boxes: Array,
    scores: Array,
    *,
    score_threshold: float = 0.01,
    iou_threshold: float = 0.45,
    pre_nms_top_k: int = 400,
    max_detections: int = 200,
    background_class: int = 0,
) -> tuple[Array, Array, Array, Array, Array]:
    """Detections of every image, best first.

    Args:
        boxes: `[B, A, 4]`, float32 or float64.
        scores: `[B, A, C]`, same dtype.
        score_threshold: exclusive.
        iou_threshold: a pair with this IoU is kept.
        pre_nms_top_k: candidates per class; -1 means all.
        max_detections: rows of the output.
        background_class: never detected; -1 means that every class counts.

    Returns:
        `(boxes [B, D, 4], scores [B, D], classes int32 [B, D], num_detections int32
        [B], anchor_indices int32 [B, D])`; padding is 0, of the indices -1.
    """
    batch, _, num_classes = scores.shape
    out_boxes = np.zeros((batch, max_detections, 4), boxes.dtype)
    out_scores = np.zeros((batch, max_detections), scores.dtype)
    out_classes = np.zeros((batch, max_detections), np.int32)
    out_count = np.zeros(batch, np.int32)
    out_anchors = np.full((batch, max_detections), -1, np.int32)
    with np.errstate(over="ignore"):  # beyond the dtype it is an infinity
        limit = scores.dtype.type(score_threshold)
    overlap_limit = boxes.dtype.type(iou_threshold)
    for image in range(batch):
        detections = []
        for label in range(num_classes):
            if label == background_class:
                continue
            column = scores[image, :, label]
            candidates = [int(a) for a in np.flatnonzero(column > limit)]
            candidates.sort(key=lambda a: -column[a])  # stable: then by anchor
            if pre_nms_top_k >= 0:
                candidates = candidates[:pre_nms_top_k]
            kept = _greedy(boxes[image], candidates, overlap_limit)
            detections += [(-column[a], label, a) for a in kept]
        detections.sort()
        detections = detections[:max_detections]
        out_count[image] = len(detections)
        for row, (_, label, a) in enumerate(detections):
            out_boxes[image, row] = boxes[image, a]
            out_scores[image, row] = scores[image, a, label]
            out_classes[image, row] = label
            out_anchors[image, row] = a
    return out_boxes, out_scores, out_classes, out_count, out_anchors


def _greedy(boxes: Array, candidates: list[int], overlap_limit: Any) -> list[int]:
    kept: list[int] = []
    with np.errstate(all="ignore"):
        for a in candidates:
            if all(iou(boxes[k], boxes[a]) <= overlap_limit for k in kept):
                kept.append(a)
    return kept
