# SPDX-License-Identifier: Apache-2.0
"""Greedy non-maximum suppression of one set of boxes, one candidate at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from oracles.box_iou import iou

Array = npt.NDArray[Any]


def nms(
    boxes: Array,
    scores: Array,
    *,
    iou_threshold: float = 0.5,
    score_threshold: float = -np.inf,
    max_output_size: int = -1,
    any_diagonal: bool = False,
) -> tuple[Array, Array]:
    """Kept boxes, best first.

    Args:
        boxes: `[N, 4]`, of any floating dtype; half types are computed in float32.
        scores: `[N]`, same dtype.
        iou_threshold: a pair with this IoU is kept.
        score_threshold: exclusive.
        max_output_size: rows of the output; -1 means `N`.
        any_diagonal: whether corners are first put in order.

    Returns:
        `(indices int32 [D], num_valid int32 [])`; padding is -1.
    """
    rows = len(boxes) if max_output_size < 0 else max_output_size
    boxes, order, limit = _prepare(
        boxes, scores, iou_threshold, score_threshold, any_diagonal
    )
    kept: list[int] = []
    with np.errstate(all="ignore"):
        for a in order:
            if len(kept) == rows:
                break
            if all(iou(boxes[k], boxes[a]) <= limit for k in kept):
                kept.append(int(a))
    return _padded(kept, rows)


def nms_of_many(
    boxes: Array,
    scores: Array,
    *,
    iou_threshold: float = 0.5,
    score_threshold: float = -np.inf,
    max_output_size: int = -1,
    any_diagonal: bool = False,
) -> tuple[Array, Array]:
    """As `nms`, with one kept box against all others at once: for thousands."""
    rows = len(boxes) if max_output_size < 0 else max_output_size
    boxes, order, limit = _prepare(
        boxes, scores, iou_threshold, score_threshold, any_diagonal
    )
    boxes = boxes[order]
    alive = np.ones(len(boxes), bool)
    kept: list[int] = []
    with np.errstate(all="ignore"):
        ymin, xmin, ymax, xmax = boxes.T
        valid = (ymax > ymin) & (xmax > xmin)
        areas = np.where(valid, (ymax - ymin) * (xmax - xmin), boxes.dtype.type(0))
        for k in range(len(boxes)):
            if len(kept) == rows:
                break
            if not alive[k]:
                continue
            kept.append(int(order[k]))
            height = np.minimum(ymax, ymax[k]) - np.maximum(ymin, ymin[k])
            width = np.minimum(xmax, xmax[k]) - np.maximum(xmin, xmin[k])
            common = height * width
            meets = valid & valid[k] & (height > 0) & (width > 0) & (common > 0)
            meets &= common <= np.finfo(boxes.dtype).max
            ratio = common / ((areas + areas[k]) - common)
            alive &= ~(meets & (ratio > limit))
    return _padded(kept, rows)


def _prepare(
    boxes: Array,
    scores: Array,
    iou_threshold: float,
    score_threshold: float,
    any_diagonal: bool,
) -> tuple[Array, Array, Any]:
    """Wide boxes, candidates from the best on, and the rounded IoU threshold."""
    if boxes.dtype != np.float64:
        boxes, scores = boxes.astype(np.float32), scores.astype(np.float32)
    kind = boxes.dtype.type
    if any_diagonal:
        low = np.minimum(boxes[:, :2], boxes[:, 2:])
        high = np.maximum(boxes[:, :2], boxes[:, 2:])
        boxes = np.concatenate([low, high], 1)
    with np.errstate(over="ignore"):  # beyond the dtype it is an infinity
        candidates = np.flatnonzero(scores > kind(score_threshold))
    order = candidates[np.argsort(-scores[candidates], kind="stable")]
    return boxes, order, kind(iou_threshold)


def _padded(kept: list[int], rows: int) -> tuple[Array, Array]:
    indices = np.full(rows, -1, np.int32)
    indices[: len(kept)] = kept
    return indices, np.array(len(kept), np.int32)
