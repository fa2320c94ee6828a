# SPDX-License-Identifier: Apache-2.0
"""OpenCV 4: `NMSBoxes`, and the `DetectionOutput` layer of its network module."""

from __future__ import annotations

from typing import Any

import numpy as np

from ssdops.benchmarking.implementations.variant import Prepared, Task, Variants
from ssdops.benchmarking.results import detection_rows
from ssdops.benchmarking.workloads import (
    IOU_THRESHOLD,
    MAX_DETECTIONS,
    PRE_NMS_TOP_K,
    SCORE_THRESHOLD,
    SINGLE_CLASS_IOU_THRESHOLD,
    Arrays,
)
from ssdops.constants import VARIANCES

__all__ = ["TASKS", "start"]

_NETWORK = """name: "detection"
input: "loc" input_shape {{ dim: {batch} dim: {four} }}
input: "conf" input_shape {{ dim: {batch} dim: {scores} }}
input: "prior" input_shape {{ dim: 1 dim: 2 dim: {four} }}
layer {{
  name: "out" type: "DetectionOutput" top: "out"
  bottom: "loc" bottom: "conf" bottom: "prior"
  detection_output_param {{
    num_classes: {classes} share_location: true background_label_id: 0
    nms_param {{ nms_threshold: {iou} top_k: {k} }}
    code_type: CENTER_SIZE keep_top_k: {most} confidence_threshold: {score}
  }}
}}
"""


def start(threads: int) -> None:
    """Import OpenCV and fix its threads."""
    import cv2

    cv2.setNumThreads(threads)


def _sides(boxes: Any) -> Any:
    """Corners as `(x, y, width, height)`, float64, the form that `NMSBoxes` takes."""
    low, high = boxes[:, 1::-1], boxes[:, :1:-1]
    return np.concatenate([low, high - low], 1).astype(np.float64)


def _suppress(arrays: Arrays) -> Variants:
    boxes, scores = arrays.values()
    if (scores[..., 1:] > SCORE_THRESHOLD).mean() > 0.05:
        return {}  # without a limit per class it takes minutes

    def build() -> Prepared:
        import cv2

        def call() -> Any:
            found = []
            for image_boxes, image_scores in zip(boxes, scores, strict=True):
                anchor, label = np.nonzero(image_scores[:, 1:] > SCORE_THRESHOLD)
                best, candidates = image_scores[anchor, label + 1], image_boxes[anchor]
                kept = cv2.dnn.NMSBoxesBatched(
                    _sides(candidates),
                    best,
                    label.astype(np.int32),
                    SCORE_THRESHOLD,
                    IOU_THRESHOLD,
                )
                kept = np.asarray(kept, np.int64).reshape(-1)
                order = np.argsort(-best[kept], kind="stable")[:MAX_DETECTIONS]
                kept = kept[order]
                found.append((label[kept] + 1, best[kept], candidates[kept]))
            return found

        def result(found: Any) -> Arrays:
            rows = [detection_rows(i, *image) for i, image in enumerate(found)]
            return {"rows": np.concatenate(rows)}

        return Prepared(call, result, "without a limit before suppression")

    return {"NumPy + NMSBoxesBatched": build}


def _postprocess(arrays: Arrays) -> Variants:
    scores, offsets, corners = arrays.values()

    def build() -> Prepared:
        import cv2

        batch, number, classes = scores.shape
        # x before y there.
        swap = [1, 0, 3, 2]
        description = _NETWORK.format(
            batch=batch,
            four=4 * number,
            scores=number * classes,
            classes=classes,
            iou=IOU_THRESHOLD,
            k=PRE_NMS_TOP_K,
            most=MAX_DETECTIONS,
            score=SCORE_THRESHOLD,
        )
        network = cv2.dnn.readNetFromCaffe(
            np.frombuffer(description.encode(), np.uint8)
        )
        network.setPreferableBackend(cv2.dnn.DNN_BACKEND_OPENCV)
        flat_offsets = np.ascontiguousarray(offsets[..., swap]).reshape(batch, -1)
        flat_scores = scores.reshape(batch, -1)
        scale = np.tile(np.asarray(VARIANCES, np.float32), number)
        priors = np.stack([corners[:, swap].reshape(-1), scale])[None]

        def call() -> Any:
            network.setInput(flat_offsets, "loc")
            network.setInput(flat_scores, "conf")
            network.setInput(priors, "prior")
            return network.forward()

        def result(found: Any) -> Arrays:
            rows = found.reshape(-1, 7)
            rows = rows[rows[:, 2] > 0]  # the rest of the rows is zero
            boxes = rows[:, 3:][:, swap]
            return {"rows": detection_rows(rows[:, 0], rows[:, 1], rows[:, 2], boxes)}

        return Prepared(call, result)

    return {"DetectionOutput": build}


def _nms(arrays: Arrays) -> Variants:
    def build() -> Prepared:
        import cv2

        boxes, scores = _sides(arrays["boxes"]), arrays["scores"]
        return Prepared(
            lambda: cv2.dnn.NMSBoxes(boxes, scores, 0.0, SINGLE_CLASS_IOU_THRESHOLD),
            lambda found: {"indices": np.asarray(found, np.int64).reshape(-1)},
        )

    return {"NMSBoxes": build}


TASKS: dict[str, Task] = {
    "suppress": _suppress,
    "postprocess": _postprocess,
    "nms": _nms,
}
