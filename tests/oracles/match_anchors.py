# SPDX-License-Identifier: Apache-2.0
"""Anchor matching with a list of overlapping pairs, as the Caffe code does it."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from oracles.box_iou import area, intersection, iou

Array = npt.NDArray[Any]

NEGATIVE = -1
IGNORED = -2
MIN_IOU = 1e-6


def match_anchors(
    anchors: Array,
    gt_boxes: Array,
    gt_labels: Array,
    *,
    iou_threshold: float = 0.5,
    negative_threshold: float = 0.5,
    ignore_threshold: float = 0.5,
    bipartite_only: bool = False,
    ignore_cross_boundary: bool = False,
) -> tuple[Array, Array]:
    """Ground truth of every anchor.

    Args:
        anchors: `[A, 4]`, float32 or float64.
        gt_boxes: `[B, G, 4]`, same dtype.
        gt_labels: int32 `[B, G]`; 0 padding, negative ignore region.
        iou_threshold: inclusive bound of the per-anchor step.
        negative_threshold: inclusive lower bound of the ignored band, which exists
            if this is below `iou_threshold`.
        ignore_threshold: inclusive bound on the covered part of an anchor.
        bipartite_only: leave the per-anchor step out.
        ignore_cross_boundary: ignore anchors that leave [0, 1].

    Returns:
        `(matched_gt int32 [B, A], matched_iou [B, A])`.
    """
    shape = (len(gt_boxes), len(anchors))
    matched_gt = np.full(shape, NEGATIVE, np.int32)
    matched_iou = np.zeros(shape, anchors.dtype)
    with np.errstate(all="ignore"):
        for image in range(len(gt_boxes)):
            _match_image(
                anchors,
                gt_boxes[image],
                gt_labels[image],
                matched_gt[image],
                matched_iou[image],
                iou_threshold,
                negative_threshold,
                ignore_threshold,
                bipartite_only,
                ignore_cross_boundary,
            )
    return matched_gt, matched_iou


def _match_image(
    anchors: Array,
    boxes: Array,
    labels: Array,
    matched_gt: Array,
    matched_iou: Array,
    iou_threshold: float,
    negative_threshold: float,
    ignore_threshold: float,
    bipartite_only: bool,
    ignore_cross_boundary: bool,
) -> None:
    number = anchors.dtype.type
    usable = [
        not ignore_cross_boundary or all(0 <= x <= 1 for x in anchor)
        for anchor in anchors
    ]

    # Pairs that overlap, in the order that decides ties: anchor, then ground truth.
    pairs = []
    for a, anchor in enumerate(anchors):
        for g, box in enumerate(boxes):
            if usable[a] and labels[g] > 0:
                overlap = iou(anchor, box)
                if overlap > number(MIN_IOU):
                    pairs.append((a, g, overlap))

    best_gt: dict[int, int] = {}
    for a, g, overlap in pairs:
        if overlap > matched_iou[a]:
            matched_iou[a] = overlap
            best_gt[a] = g
    best_iou = matched_iou.copy()

    free = pairs
    while free:
        winner = free[0]
        for pair in free[1:]:
            if pair[2] > winner[2]:
                winner = pair
        a, g, overlap = winner
        matched_gt[a] = g
        matched_iou[a] = overlap
        free = [pair for pair in free if pair[0] != a and pair[1] != g]

    for a, g in best_gt.items():
        if matched_gt[a] >= 0:
            continue
        if not bipartite_only and best_iou[a] >= number(iou_threshold):
            matched_gt[a] = g
        elif negative_threshold < iou_threshold and best_iou[a] >= number(
            negative_threshold
        ):
            matched_gt[a] = IGNORED

    for a, anchor in enumerate(anchors):
        for g, box in enumerate(boxes):
            if labels[g] < 0 and matched_gt[a] == NEGATIVE:
                common = intersection(anchor, box)
                if common > 0 and common / area(anchor) >= number(ignore_threshold):
                    matched_gt[a] = IGNORED
        if not usable[a]:
            matched_gt[a] = IGNORED
