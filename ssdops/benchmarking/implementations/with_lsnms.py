# SPDX-License-Identifier: Apache-2.0
"""lsnms: suppression with a spatial index, float64."""

from __future__ import annotations

from typing import Any

import numpy as np

from ssdops.benchmarking.implementations.variant import Prepared, Task, Variants
from ssdops.benchmarking.results import detection_rows
from ssdops.benchmarking.workloads import (
    IOU_THRESHOLD,
    MAX_DETECTIONS,
    SCORE_THRESHOLD,
    SINGLE_CLASS_IOU_THRESHOLD,
    Arrays,
)

__all__ = ["TASKS", "start"]


def start(threads: int) -> None:
    """Import lsnms, which runs on one thread."""
    import lsnms  # noqa: F401


def _suppress(arrays: Arrays) -> Variants:
    boxes, scores = arrays.values()
    if (scores[..., 1:] > SCORE_THRESHOLD).mean() > 0.05:
        return {}  # there is no limit per class

    def build() -> Prepared:
        import lsnms

        def call() -> Any:
            found = []
            for image_boxes, image_scores in zip(boxes, scores, strict=True):
                anchor, label = np.nonzero(image_scores[:, 1:] > SCORE_THRESHOLD)
                best, candidates = image_scores[anchor, label + 1], image_boxes[anchor]
                kept = lsnms.nms(
                    candidates.astype(np.float64),
                    best.astype(np.float64),
                    iou_threshold=IOU_THRESHOLD,
                    class_ids=label,
                )[:MAX_DETECTIONS]
                found.append((label[kept] + 1, best[kept], candidates[kept]))
            return found

        def result(found: Any) -> Arrays:
            rows = [detection_rows(i, *image) for i, image in enumerate(found)]
            return {"rows": np.concatenate(rows)}

        return Prepared(call, result, "without a limit before suppression")

    return {"NumPy + nms": build}


def _nms(arrays: Arrays) -> Variants:
    def build() -> Prepared:
        import lsnms

        boxes, scores = (array.astype(np.float64) for array in arrays.values())
        return Prepared(
            lambda: lsnms.nms(boxes, scores, iou_threshold=SINGLE_CLASS_IOU_THRESHOLD),
            lambda found: {"indices": np.asarray(found)},
        )

    return {"nms": build}


TASKS: dict[str, Task] = {"suppress": _suppress, "nms": _nms}
