# SPDX-License-Identifier: Apache-2.0
"""NumPy: the arithmetic that checks everyone's results, and `argpartition`."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from ssdops.benchmarking import arithmetic
from ssdops.benchmarking.implementations.variant import Prepared, Task, Variants
from ssdops.benchmarking.results import centred, detection_rows
from ssdops.benchmarking.workloads import (
    IOU_THRESHOLD,
    MATCH_THRESHOLD,
    MAX_DETECTIONS,
    NEGATIVE_RATIO,
    PRE_NMS_TOP_K,
    SCORE_THRESHOLD,
    SINGLE_CLASS_IOU_THRESHOLD,
    Arrays,
)

__all__ = ["TASKS", "start"]


def start(threads: int) -> None:
    """Nothing to fix: these functions of NumPy run on one thread."""


def _suppressed(boxes: Any, scores: Any) -> Any:
    rows = []
    for i in range(len(boxes)):
        found = arithmetic.postprocess(
            boxes[i],
            scores[i],
            score_threshold=SCORE_THRESHOLD,
            iou_threshold=IOU_THRESHOLD,
            pre_nms_top_k=PRE_NMS_TOP_K,
            max_detections=MAX_DETECTIONS,
        )
        label, anchor = found[:, 0], found[:, 1]
        rows.append(
            detection_rows(i, label, scores[i][anchor, label], boxes[i][anchor])
        )
    return np.concatenate(rows)


def _suppress(arrays: Arrays) -> Variants:
    boxes, scores = arrays.values()
    return {
        "": lambda: Prepared(
            lambda: _suppressed(boxes, scores), lambda rows: {"rows": rows}
        )
    }


def _postprocess(arrays: Arrays) -> Variants:
    scores, offsets, corners = arrays.values()
    anchors = centred(corners)
    return {
        "": lambda: Prepared(
            lambda: _suppressed(arithmetic.decode(offsets, anchors), scores),
            lambda rows: {"rows": rows},
        )
    }


def _assign(arrays: Arrays) -> Variants:
    anchors, gt_boxes, gt_labels = arrays.values()
    anchor_centres = centred(anchors)

    def call() -> Any:
        classes = np.zeros((len(gt_boxes), len(anchors)), np.int32)
        offsets = np.zeros((*classes.shape, 4), np.float32)
        for i, (boxes, labels) in enumerate(zip(gt_boxes, gt_labels, strict=True)):
            number = int((labels > 0).sum())
            matched = arithmetic.match(boxes[:number], anchors, MATCH_THRESHOLD)
            positive = np.flatnonzero(matched >= 0)
            row = matched[positive]
            classes[i, positive] = labels[row]
            offsets[i, positive] = arithmetic.encode(
                boxes[row], anchor_centres[positive]
            )
        return classes, offsets

    return {
        "": lambda: Prepared(
            call, lambda found: {"classes": found[0], "offsets": found[1]}
        )
    }


def _encode(arrays: Arrays) -> Variants:
    boxes, anchors = arrays.values()
    call = functools.partial(arithmetic.encode, boxes, centred(anchors))
    return {"": lambda: Prepared(call, lambda found: {"offsets": found})}


def _decode(arrays: Arrays) -> Variants:
    offsets, anchors = arrays.values()
    call = functools.partial(arithmetic.decode, offsets, centred(anchors))
    return {"": lambda: Prepared(call, lambda found: {"boxes": found})}


def _mine(arrays: Arrays) -> Variants:
    losses, classes = arrays.values()

    def call() -> Any:
        positive = classes > 0
        candidates = np.where(positive, -1, losses)
        wanted = NEGATIVE_RATIO * positive.sum(1)
        mask = np.zeros(losses.shape, bool)
        for i, number in enumerate(wanted):
            if number:
                hardest = np.argpartition(-candidates[i], number - 1)[:number]
                mask[i, hardest] = True
        return mask

    return {"argpartition": lambda: Prepared(call, lambda found: {"mined": found})}


def _nms(arrays: Arrays) -> Variants:
    boxes, scores = arrays.values()
    call = functools.partial(
        arithmetic.greedy_nms, boxes, scores, SINGLE_CLASS_IOU_THRESHOLD
    )
    return {"": lambda: Prepared(call, lambda found: {"indices": found})}


def _iou(arrays: Arrays) -> Variants:
    boxes_a, boxes_b = arrays.values()
    call = functools.partial(arithmetic.overlaps, boxes_a, boxes_b)
    return {"": lambda: Prepared(call, lambda found: {"iou": found})}


TASKS: dict[str, Task] = {
    "suppress": _suppress,
    "postprocess": _postprocess,
    "assign": _assign,
    "encode": _encode,
    "decode": _decode,
    "mine": _mine,
    "nms": _nms,
    "iou": _iou,
}
