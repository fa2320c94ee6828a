# SPDX-License-Identifier: Apache-2.0
"""Raw network outputs to detections, one candidate at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from oracles.batched_nms import Measure
from oracles.exp_log import exp

Array = npt.NDArray[Any]


def detect(
    logits: Array,
    boxes: Array,
    *,
    score_limits: Sequence[float],
    score_activation: str = "softmax",
    clip: bool = False,
    criterion: str = "iou",
    iou_threshold: float = 0.45,
    eta: float = 1.0,
    class_agnostic: bool = False,
    pre_nms_top_k: int = 400,
    max_detections: int = 200,
) -> tuple[Array, ...]:
    """Detections of every image, best first.

    Args:
        logits: `[B, A, C]`, float32 or float64.
        boxes: `[B, A, 4]`, decoded, same dtype.
        score_limits: `[C]`, exclusive; infinity for classes that are left out.
        score_activation: `"softmax"`, `"sigmoid"` or `"none"`.
        clip: limit the boxes to [0, 1].
        criterion: `"iou"` or `"diou"`.
        iou_threshold: a pair with this overlap is kept.
        eta: factor of the threshold after each kept box while it is above 0.5.
        class_agnostic: suppress over all classes together.
        pre_nms_top_k: candidates per class; -1 means all.
        max_detections: rows of the output.

    Returns:
        `(boxes, scores, classes, num_detections, anchor_indices,
        class_probabilities)`; padding is 0, of the indices -1.
    """
    dtype = logits.dtype.type
    batch, _, num_classes = logits.shape
    rows = max_detections
    result = (
        np.zeros((batch, rows, 4), dtype),
        np.zeros((batch, rows), dtype),
        np.zeros((batch, rows), np.int32),
        np.zeros(batch, np.int32),
        np.full((batch, rows), -1, np.int32),
        np.zeros((batch, rows, num_classes), dtype),
    )
    out_boxes, out_scores, out_classes, out_count, out_anchors, out_all = result
    overlap = Measure(criterion, logits.dtype)
    scores = activate(logits, score_activation)
    if clip:
        boxes = np.clip(boxes, dtype(0), dtype(1))
    with np.errstate(over="ignore"):
        limits = np.asarray(score_limits, np.float64).astype(dtype)
    for image in range(batch):
        candidates = [
            (-scores[image, a, c], c, a)
            for a, c in np.argwhere(scores[image] > limits).tolist()
        ]
        candidates.sort()
        groups: dict[int, list[tuple[Any, int, int]]] = {}
        for candidate in candidates:
            groups.setdefault(0 if class_agnostic else candidate[1], []).append(
                candidate
            )
        kept: list[tuple[Any, int, int]] = []
        limit = pre_nms_top_k if pre_nms_top_k >= 0 else None
        for group in groups.values():
            best = group[:limit]
            kept += _greedy(best, boxes[image], overlap, dtype(iou_threshold), eta)
        kept.sort()
        kept = kept[:rows]
        out_count[image] = len(kept)
        for row, (_, c, a) in enumerate(kept):
            out_boxes[image, row] = boxes[image, a]
            out_scores[image, row] = scores[image, a, c]
            out_classes[image, row] = c
            out_anchors[image, row] = a
            out_all[image, row] = scores[image, a]
    return result


def activate(logits: Array, score_activation: str) -> Array:
    """Scores `[..., C]` of logits, with the order of sums of the contract."""
    one = logits.dtype.type(1)
    with np.errstate(all="ignore"):
        if score_activation == "sigmoid":
            e = exp(-np.abs(logits))
            return np.where(logits >= 0, one / (one + e), e / (one + e))
        if score_activation == "none" or logits.shape[-1] == 0:
            return logits
        # A NaN does not win a comparison: it is found in the sum.
        largest = np.max(np.where(np.isnan(logits), -np.inf, logits), -1, keepdims=True)
        e = exp((logits - largest).astype(logits.dtype))
        sums = np.zeros((*logits.shape[:-1], 16), logits.dtype)
        for c in range(logits.shape[-1]):
            sums[..., c % 16] += e[..., c]
        for half in (8, 4, 2, 1):
            sums[..., :half] += sums[..., half : 2 * half]
        return e / sums[..., :1]


def _greedy(
    candidates: list[tuple[Any, int, int]],
    boxes: Array,
    overlap: Measure,
    threshold: Any,
    eta: float,
) -> list[tuple[Any, int, int]]:
    kept: list[tuple[Any, int, int]] = []
    with np.errstate(all="ignore"):
        for candidate in candidates:
            anchors = [anchor for _, _, anchor in kept]
            if not (overlap(boxes[candidate[2]], boxes[anchors]) > threshold).any():
                kept.append(candidate)
                if eta < 1 and threshold > 0.5:
                    threshold = threshold * threshold.dtype.type(eta)
    return kept
