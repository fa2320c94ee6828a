# SPDX-License-Identifier: Apache-2.0
"""The right result of every workload, and whether a contestant's result is right.

Results are dictionaries of NumPy arrays, by task:

| task | arrays |
| --- | --- |
| `suppress`, `postprocess`, `detect` | `rows [N, 7]`: image, class, score, corners |
| `assign` | `classes [B, A]`, `offsets [B, A, 4]`, 0 where there is no match |
| `encode`, `decode` | `offsets` or `boxes`, `[B, A, 4]` |
| `mine` | `mined`, bool `[B, A]` |
| `nms` | `indices [K]` |
| `loss` | `loss []`, `grad_logits`, `grad_offsets` |
| `iou` | `iou [N, M]` |
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from ssdops.benchmarking import arithmetic
from ssdops.benchmarking.workloads import (
    IOU_THRESHOLD,
    MATCH_THRESHOLD,
    MAX_DETECTIONS,
    NEGATIVE_RATIO,
    PRE_NMS_TOP_K,
    SCORE_THRESHOLD,
    SINGLE_CLASS_IOU_THRESHOLD,
    Arrays,
    Workload,
)

__all__ = ["centred", "detection_rows", "expected", "mined", "problem"]

Array = npt.NDArray[Any]

# Largest absolute and relative difference where a function or a sum is rounded.
# `encode` loses digits where the centres of a box and a small anchor nearly agree.
_TOLERANCES = {
    "offsets": (1e-4, 1e-5),
    "boxes": (1e-5, 1e-5),
    "iou": (1e-6, 1e-6),
    "loss": (0.0, 1e-5),
    "grad_logits": (1e-7, 1e-4),
    "grad_offsets": (1e-7, 1e-4),
}
_SCORE_TOLERANCE = 2e-5
_CORNER_TOLERANCE = 2e-4


def expected(workload: Workload) -> Arrays:
    """The right result, by NumPy; takes seconds for the largest workloads."""
    return _EXPECTED[workload.task](workload.arrays)


def problem(result: Arrays, right: Arrays) -> str | None:
    """What is wrong with a result, in a few words, or None.

    Args:
        result: of a contestant.
        right: of `expected`.
    """
    for name, want in right.items():
        if name not in result:
            return f"{name} is missing"
        have = np.asarray(result[name])
        if name == "rows":
            found = _detections_problem(have, want)
        elif name == "indices":
            found = _indices_problem(have, want)
        elif have.shape != want.shape:
            found = f"{name} has shape {list(have.shape)}, not {list(want.shape)}"
        elif name in _TOLERANCES:
            absolute, relative = _TOLERANCES[name]
            near = np.isclose(have, want, rtol=relative, atol=absolute)
            found = _count(~near, name)
        else:
            found = _count(have != want, name)
        if found:
            return found
    return None


def detection_rows(images: Any, classes: Any, scores: Any, boxes: Any) -> Array:
    """`rows` of the module's table.

    Args:
        images: `[N]`, or one number for all.
        classes: `[N]`.
        scores: `[N]`.
        boxes: `[N, 4]`, corners `(ymin, xmin, ymax, xmax)`.
    """
    boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
    rows = np.empty((len(boxes), 7))
    rows[:, 0] = images
    rows[:, 1] = classes
    rows[:, 2] = scores
    rows[:, 3:] = boxes
    return rows


def centred(corners: Array) -> Array:
    """Corners `[A, 4]` as `(centre y, centre x, height, width)`, same dtype."""
    low, high = corners[:, :2], corners[:, 2:]
    return np.concatenate([(low + high) / 2, high - low], -1)


def mined(losses: Array, target_classes: Array) -> Array:
    """The hardest negatives `[B, A]`, three of them for every positive.

    Args:
        losses: `[B, A]`; equal ones are taken in the order of the anchors.
        target_classes: `[B, A]`; 0 is negative.
    """
    positive = target_classes > 0
    mask = np.zeros(positive.shape, bool)
    for i, row in enumerate(losses):
        negatives = np.flatnonzero(~positive[i])
        hardest = negatives[np.argsort(-row[negatives], kind="stable")]
        mask[i, hardest[: NEGATIVE_RATIO * int(positive[i].sum())]] = True
    return mask


def _suppressed(arrays: Arrays) -> Arrays:
    rows = []
    for i, (boxes, scores) in enumerate(
        zip(arrays["boxes"], arrays["scores"], strict=True)
    ):
        found = arithmetic.postprocess(
            boxes,
            scores,
            score_threshold=SCORE_THRESHOLD,
            iou_threshold=IOU_THRESHOLD,
            pre_nms_top_k=PRE_NMS_TOP_K,
            max_detections=MAX_DETECTIONS,
        )
        label, anchor = found[:, 0], found[:, 1]
        rows.append(detection_rows(i, label, scores[anchor, label], boxes[anchor]))
    return {"rows": np.concatenate(rows)}


def _postprocessed(arrays: Arrays) -> Arrays:
    boxes = arithmetic.decode(arrays["offsets"], centred(arrays["anchors"]))
    return _suppressed({"boxes": boxes, "scores": arrays["scores"]})


def _detected(arrays: Arrays) -> Arrays:
    logits = arrays["logits"]
    exponentials = np.exp(logits - logits.max(-1, keepdims=True, initial=-np.inf))
    scores = exponentials / exponentials.sum(-1, keepdims=True)
    return _postprocessed({**arrays, "scores": scores})


def _assigned(arrays: Arrays) -> Arrays:
    anchors, labels = arrays["anchors"], arrays["gt_labels"]
    classes = np.zeros((len(labels), len(anchors)), np.int32)
    offsets = np.zeros((*classes.shape, 4))
    wide = centred(anchors.astype(np.float64))
    for i, boxes in enumerate(arrays["gt_boxes"]):
        real = np.flatnonzero(labels[i] > 0)
        matched = arithmetic.match(boxes[real], anchors, MATCH_THRESHOLD)
        positive = matched >= 0
        row = real[matched[positive]]
        classes[i, positive] = labels[i, row]
        offsets[i, positive] = arithmetic.encode(boxes[row], wide[positive])
    return {"classes": classes, "offsets": offsets}


def _encoded(arrays: Arrays) -> Arrays:
    anchors = centred(arrays["anchors"].astype(np.float64))
    return {"offsets": arithmetic.encode(arrays["boxes"].astype(np.float64), anchors)}


def _decoded(arrays: Arrays) -> Arrays:
    anchors = centred(arrays["anchors"].astype(np.float64))
    return {"boxes": arithmetic.decode(arrays["offsets"].astype(np.float64), anchors)}


def _mined(arrays: Arrays) -> Arrays:
    return {"mined": mined(arrays["losses"], arrays["target_classes"])}


def _kept(arrays: Arrays) -> Arrays:
    kept = arithmetic.greedy_nms(
        arrays["boxes"], arrays["scores"], SINGLE_CLASS_IOU_THRESHOLD
    )
    return {"indices": kept}


def _loss(arrays: Arrays) -> Arrays:
    classes = arrays["target_classes"]
    logits = arrays["logits"].astype(np.float64)
    shifted = logits - logits.max(-1, keepdims=True)
    logarithms = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    losses = -np.take_along_axis(logarithms, classes[..., None], -1)[..., 0]
    positive = classes > 0
    counted = positive | mined(losses, classes)
    number = max(int(positive.sum()), 1)

    distance = arrays["offsets"].astype(np.float64) - arrays["target_offsets"]
    magnitude = np.abs(distance)
    smooth = np.where(magnitude < 1, 0.5 * distance**2, magnitude - 0.5)
    total = losses[counted].sum() + smooth[positive].sum()

    grad_logits = np.exp(logarithms)
    grad_logits -= np.arange(logits.shape[-1]) == classes[..., None]
    grad_logits *= counted[..., None] / number
    grad_offsets = np.clip(distance, -1, 1) * positive[..., None] / number
    return {
        "loss": np.asarray(total / number),
        "grad_logits": grad_logits,
        "grad_offsets": grad_offsets,
    }


def _overlaps(arrays: Arrays) -> Arrays:
    return {"iou": arithmetic.overlaps(arrays["boxes_a"], arrays["boxes_b"])}


_EXPECTED: dict[str, Callable[[Arrays], Arrays]] = {
    "suppress": _suppressed,
    "postprocess": _postprocessed,
    "detect": _detected,
    "assign": _assigned,
    "encode": _encoded,
    "decode": _decoded,
    "mine": _mined,
    "nms": _kept,
    "loss": _loss,
    "iou": _overlaps,
}


def _count(wrong: Array, name: str) -> str | None:
    number = int(np.count_nonzero(wrong))
    return f"{number} of {wrong.size} values of {name} differ" if number else None


def _indices_problem(have: Array, want: Array) -> str | None:
    different = np.setxor1d(have, want).size
    if different:
        return f"{len(have)} boxes kept instead of {len(want)}, {different} differ"
    if len(have) != len(want):
        return "a box is kept twice"
    return None


def _detections_problem(have: Array, want: Array) -> str | None:
    """Every detection must have its partner; the order may be another."""
    if have.ndim != 2 or have.shape[1] != 7:
        return f"detections have shape {list(have.shape)}"
    lonely = 0
    for image in np.union1d(have[:, 0], want[:, 0]):
        a, b = have[have[:, 0] == image], want[want[:, 0] == image]
        alike = a[:, None, 1] == b[None, :, 1]
        alike &= np.abs(a[:, None, 2] - b[None, :, 2]) <= _SCORE_TOLERANCE
        corners = np.abs(a[:, None, 3:] - b[None, :, 3:]).max(-1)
        alike &= corners <= _CORNER_TOLERANCE
        lonely += int((~alike.any(1)).sum() + (~alike.any(0)).sum())
    if lonely:
        return f"{len(have)} detections instead of {len(want)}, {lonely} differ"
    if len(have) != len(want):
        return f"{len(have)} detections instead of {len(want)}"
    return None
