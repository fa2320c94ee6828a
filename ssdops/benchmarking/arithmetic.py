# SPDX-License-Identifier: Apache-2.0
"""SSD in NumPy: it makes the inputs of the benchmarks and checks their results.

Nothing here is shared with the ops that are measured. Boxes are corners
(ymin, xmin, ymax, xmax); anchors of `encode` and `decode` are
`(centre y, centre x, height, width)`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ssdops.constants import VARIANCES

__all__ = ["decode", "encode", "greedy_nms", "match", "overlaps", "postprocess"]

Array = npt.NDArray[Any]


def encode(boxes: Array, centred: Array) -> Array:
    """Offsets `[..., A, 4]` of boxes `[..., A, 4]` from anchors `[A, 4]`, float32."""
    scale = np.asarray(VARIANCES, np.float32)
    centre = ((boxes[..., :2] + boxes[..., 2:]) / 2).astype(np.float32)
    size = (boxes[..., 2:] - boxes[..., :2]).astype(np.float32)
    shift = (centre - centred[..., :2]) / centred[..., 2:] / scale[:2]
    stretch = np.log(size / centred[..., 2:]) / scale[2:]
    return np.concatenate([shift, stretch], -1).astype(np.float32)


def decode(offsets: Array, centred: Array) -> Array:
    """Boxes `[..., A, 4]` that offsets `[..., A, 4]` stand for, float32."""
    scale = np.asarray(VARIANCES, np.float32)
    centre = offsets[..., :2] * scale[:2] * centred[..., 2:] + centred[..., :2]
    size = np.exp(offsets[..., 2:] * scale[2:]) * centred[..., 2:]
    corners = np.concatenate([centre - size / 2, centre + size / 2], -1)
    return corners.astype(np.float32)


def overlaps(boxes_a: Array, boxes_b: Array) -> Array:
    """IoU of every pair, `[N, M]`; no box may be empty."""
    low = np.maximum(boxes_a[:, None, :2], boxes_b[None, :, :2])
    high = np.minimum(boxes_a[:, None, 2:], boxes_b[None, :, 2:])
    sides = np.maximum(high - low, 0)
    common = sides[..., 0] * sides[..., 1]
    areas = [np.prod(boxes[:, 2:] - boxes[:, :2], -1) for boxes in (boxes_a, boxes_b)]
    return np.asarray(common / (areas[0][:, None] + areas[1][None] - common))


def greedy_nms(boxes: Array, scores: Array, iou_threshold: float) -> Array:
    """Indices `[K]` of the boxes kept, best score first.

    Each kept box is compared with those only whose columns can meet its own: with
    n boxes spread over a plane that is about sqrt(n) of them.

    Args:
        boxes: `[N, 4]`.
        scores: `[N]`; equal scores are visited in the order of the boxes.
        iou_threshold: a box with a larger IoU with a kept one is dropped.
    """
    order = np.argsort(-scores, kind="stable")
    boxes = boxes[order]
    across = np.argsort(boxes[:, 1], kind="stable")
    left = boxes[across, 1]
    widest = (boxes[:, 3] - boxes[:, 1]).max(initial=0)
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    first = np.searchsorted(left, boxes[:, 1] - widest, "left")
    last = np.searchsorted(left, boxes[:, 3], "right")
    alive = np.ones(len(boxes), bool)
    for i, box in enumerate(boxes):
        if not alive[i]:
            continue
        near = across[first[i] : last[i]]
        near = near[near > i]
        near = near[alive[near]]
        other = boxes[near]
        low = np.maximum(box[:2], other[:, :2])
        high = np.minimum(box[2:], other[:, 2:])
        sides = np.maximum(high - low, 0)
        common = sides[:, 0] * sides[:, 1]
        with np.errstate(divide="ignore", invalid="ignore"):
            iou = common / (area[i] + area[near] - common)
        alive[near[iou > iou_threshold]] = False
    return np.asarray(order[alive])


def postprocess(
    boxes: Array,
    scores: Array,
    *,
    score_threshold: float,
    iou_threshold: float,
    pre_nms_top_k: int,
    max_detections: int,
) -> Array:
    """Detections of one image as the official code finds them.

    Args:
        boxes: `[A, 4]`.
        scores: `[A, C]`; class 0 is the background.
        score_threshold: candidates have a higher score.
        iou_threshold: see `greedy_nms`.
        pre_nms_top_k: candidates of a class at most.
        max_detections: rows of the result at most.

    Returns:
        int64 `[D, 2]` of class and anchor, best score first; equal scores in the
        order of class, then anchor.
    """
    found = []
    for label in range(1, scores.shape[1]):
        candidates = np.flatnonzero(scores[:, label] > score_threshold)
        ranking = np.argsort(-scores[candidates, label], kind="stable")
        candidates = candidates[ranking[:pre_nms_top_k]]
        kept = candidates[
            greedy_nms(boxes[candidates], scores[candidates, label], iou_threshold)
        ]
        found.append(np.stack([np.full_like(kept, label), kept], -1))
    rows = np.concatenate(found)
    order = np.lexsort((rows[:, 1], rows[:, 0], -scores[rows[:, 1], rows[:, 0]]))
    return np.asarray(rows[order[:max_detections]])


def match(gt_boxes: Array, anchors: Array, threshold: float) -> Array:
    """Ground truth of every anchor of one image, `[A]`, -1 for none.

    First, until no free pair overlaps, the free anchor and the free ground truth of
    the largest IoU are matched (lowest anchor, then lowest ground truth of equal
    ones); then every free anchor takes the ground truth of its largest IoU if that
    is at least `threshold`.

    Args:
        gt_boxes: `[G, 4]`, real ones only.
        anchors: `[A, 4]`, corners.
        threshold: of the second step.
    """
    matched = np.full(len(anchors), -1, np.int64)
    if not len(gt_boxes) or not len(anchors):
        return matched
    iou = overlaps(gt_boxes, anchors).astype(np.float32)
    best = iou.argmax(0)
    enough = iou.max(0) >= threshold
    matched[enough] = best[enough]

    # Only the rows that lose their best anchor to another one are searched again.
    anchor_of = iou.argmax(1)
    value_of = iou.max(1)
    for _ in range(len(gt_boxes)):
        largest = value_of.max()
        if largest <= 0:
            break
        ties = np.flatnonzero(value_of == largest)
        winner = ties[anchor_of[ties].argmin()]
        anchor = anchor_of[winner]
        matched[anchor] = winner
        iou[:, anchor] = -1
        value_of[winner] = -1
        for row in np.flatnonzero((anchor_of == anchor) & (value_of >= 0)):
            anchor_of[row] = iou[row].argmax()
            value_of[row] = iou[row].max()
    return matched
