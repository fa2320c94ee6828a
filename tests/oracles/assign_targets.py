# SPDX-License-Identifier: Apache-2.0
"""Targets of the anchors, one by one, from the oracles of matching and encoding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from oracles.encode_boxes import encode_boxes
from oracles.match_anchors import IGNORED, match_anchors

Array = npt.NDArray[Any]


def assign_targets(
    anchors: Array,
    gt_boxes: Array,
    gt_labels: Array,
    *,
    variances: Sequence[float] = (0.1, 0.1, 0.2, 0.2),
    **options: Any,
) -> tuple[Array, Array, Array, Array]:
    """Class and offsets that every anchor shall predict.

    Args:
        anchors: `[A, 4]`, float32 or float64.
        gt_boxes: `[B, G, 4]`, same dtype.
        gt_labels: int32 `[B, G]`; 0 padding, negative ignore region.
        variances: 4 positive numbers.
        options: keywords of the oracle of `match_anchors`.

    Returns:
        `(classes int32 [B, A], offsets [B, A, 4], matched_gt int32 [B, A],
        matched_iou [B, A])`.
    """
    matched_gt, matched_iou = match_anchors(anchors, gt_boxes, gt_labels, **options)
    classes = np.zeros_like(matched_gt)
    offsets = np.zeros((*matched_gt.shape, 4), anchors.dtype)
    for image, a in np.ndindex(*matched_gt.shape):
        row = matched_gt[image, a]
        if row >= 0:
            classes[image, a] = gt_labels[image, row]
            one = slice(a, a + 1)
            offsets[image, one] = encode_boxes(
                gt_boxes[image, row][None], anchors[one], variances=variances
            )
        elif row == IGNORED:
            classes[image, a] = -1
    return classes, offsets, matched_gt, matched_iou
