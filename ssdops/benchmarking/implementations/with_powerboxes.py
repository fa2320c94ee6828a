# SPDX-License-Identifier: Apache-2.0
"""powerboxes: suppression with and without an R-tree, and IoU distances."""

from __future__ import annotations

import functools

import numpy as np

from ssdops.benchmarking.implementations.variant import Prepared, Task, Variants
from ssdops.benchmarking.workloads import SINGLE_CLASS_IOU_THRESHOLD, Arrays

__all__ = ["TASKS", "start"]


def start(threads: int) -> None:
    """Import powerboxes; its parallel functions read `RAYON_NUM_THREADS`."""
    import powerboxes  # noqa: F401


def _nms(arrays: Arrays) -> Variants:
    def variant(name: str) -> Prepared:
        import powerboxes

        boxes, scores = (array.astype(np.float64) for array in arrays.values())
        function = getattr(powerboxes, name)
        return Prepared(
            lambda: function(boxes, scores, SINGLE_CLASS_IOU_THRESHOLD, 0.0),
            lambda found: {"indices": np.asarray(found)},
        )

    return {name: functools.partial(variant, name) for name in ("nms", "rtree_nms")}


def _iou(arrays: Arrays) -> Variants:
    def variant(name: str) -> Prepared:
        import powerboxes

        boxes_a, boxes_b = arrays.values()
        function = getattr(powerboxes, name)
        return Prepared(
            lambda: function(boxes_a, boxes_b),
            lambda found: {"iou": 1 - found},
            "1 - IoU, not IoU",
        )

    names = ("iou_distance", "parallel_iou_distance")
    return {name: functools.partial(variant, name) for name in names}


TASKS: dict[str, Task] = {"nms": _nms, "iou": _iou}
