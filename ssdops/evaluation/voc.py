# SPDX-License-Identifier: Apache-2.0
"""Average precision as the Pascal VOC challenge defines it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

from ssdops.ops import box_iou

Interpolation = Literal["area", "11point"]
INTERPOLATIONS: Final = ("area", "11point")

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class VocResult:
    """Average precision per class and over all classes.

    Attributes:
        mean: mean of `average_precision` over the classes that have ground truth; NaN
            if none has.
        average_precision: float64 `[num_classes]`, in [0, 1]; NaN for the background
            and for classes without ground truth.
        num_ground_truth: int64 `[num_classes]`, objects that are not difficult.
        num_detections: int64 `[num_classes]`.
    """

    mean: float
    average_precision: npt.NDArray[np.float64]
    num_ground_truth: npt.NDArray[np.int64]
    num_detections: npt.NDArray[np.int64]


class VocEvaluator:
    """Collects the detections of images and computes average precision.

    A detection is compared with the one ground truth of its class that it overlaps
    most. If that IoU is at least the threshold, the detection is left out where the
    ground truth is difficult, else it is a true positive for the first (best scored)
    detection of that object and a false positive for the others.

    Args:
        num_classes: number of classes including the background, at least 2.
        iou_threshold: smallest IoU of a true positive, in (0, 1].
        interpolation: `"area"` under the monotone precision envelope (VOC 2010 and
            later) or `"11point"` (VOC 2007).
        pixel_offset: whether corners are inclusive pixel indices, so that a box is one
            pixel wider and higher than the difference of its corners.

    Raises:
        ValueError: if an argument is out of range.
    """

    def __init__(
        self,
        num_classes: int,
        *,
        iou_threshold: float = 0.5,
        interpolation: Interpolation = "area",
        pixel_offset: bool = False,
    ) -> None:
        if num_classes < 2:
            raise ValueError(f"num_classes must be at least 2, got {num_classes}")
        if not 0 < iou_threshold <= 1:
            raise ValueError(f"iou_threshold must be in (0, 1], got {iou_threshold}")
        if interpolation not in INTERPOLATIONS:
            raise ValueError(
                f"interpolation must be one of {INTERPOLATIONS}, got {interpolation!r}"
            )
        self._num_classes = num_classes
        self._iou_threshold = iou_threshold
        self._interpolation: Interpolation = interpolation
        self._pixel_offset = pixel_offset
        self._num_ground_truth = np.zeros(num_classes, np.int64)
        # Per class: scores and whether true positive, of detections that count.
        self._scores: list[list[Array]] = [[] for _ in range(num_classes)]
        self._hits: list[list[Array]] = [[] for _ in range(num_classes)]

    def update(
        self,
        boxes: Any,
        scores: Any,
        classes: Any,
        gt_boxes: Any,
        gt_labels: Any,
        gt_difficult: Any | None = None,
    ) -> None:
        """Add one image.

        Args:
            boxes: `[N, 4]` detected corners `(ymin, xmin, ymax, xmax)`, any unit.
            scores: `[N]`.
            classes: integers `[N]`, 1 to `num_classes - 1`.
            gt_boxes: `[M, 4]` in the same unit.
            gt_labels: integers `[M]`, 1 to `num_classes - 1`.
            gt_difficult: bools `[M]`; None if no object is difficult.

        Raises:
            ValueError: if shapes do not fit or a class id is out of range.
        """
        boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
        scores = np.asarray(scores, np.float64).reshape(-1)
        classes = self._class_ids("classes", classes, len(boxes))
        gt_boxes = np.asarray(gt_boxes, np.float64).reshape(-1, 4)
        gt_labels = self._class_ids("gt_labels", gt_labels, len(gt_boxes))
        if len(scores) != len(boxes):
            raise ValueError(
                f"scores must have {len(boxes)} entries, got {len(scores)}"
            )
        if gt_difficult is None:
            difficult = np.zeros(len(gt_boxes), bool)
        else:
            difficult = np.asarray(gt_difficult, bool).reshape(-1)
            if len(difficult) != len(gt_boxes):
                raise ValueError(
                    f"gt_difficult must have {len(gt_boxes)} entries,"
                    f" got {len(difficult)}"
                )
        for label in np.union1d(classes, gt_labels):
            detected, wanted = classes == label, gt_labels == label
            self._num_ground_truth[label] += np.sum(~difficult[wanted])
            if detected.any():
                self._judge(
                    int(label),
                    boxes[detected],
                    scores[detected],
                    gt_boxes[wanted],
                    difficult[wanted],
                )

    def result(self) -> VocResult:
        """Average precision of everything added so far; more can be added after."""
        values = np.full(self._num_classes, np.nan)
        counts = np.zeros(self._num_classes, np.int64)
        for label in range(1, self._num_classes):
            scores = np.concatenate([np.zeros(0), *self._scores[label]])
            hits = np.concatenate([np.zeros(0, bool), *self._hits[label]])
            counts[label] = len(scores)
            if self._num_ground_truth[label]:
                order = np.argsort(-scores, kind="stable")
                values[label] = average_precision(
                    hits[order], int(self._num_ground_truth[label]), self._interpolation
                )
        known = values[~np.isnan(values)]
        mean = float(known.mean()) if len(known) else float("nan")
        return VocResult(mean, values, self._num_ground_truth.copy(), counts)

    def _class_ids(self, name: str, values: Any, count: int) -> Array:
        ids = np.asarray(values).reshape(-1)
        ids = ids.astype(np.int64) if len(ids) == 0 else ids
        if len(ids) != count:
            raise ValueError(f"{name} must have {count} entries, got {len(ids)}")
        if not np.issubdtype(ids.dtype, np.integer):
            raise ValueError(f"{name} must be integers, got {ids.dtype}")
        if len(ids) and not (ids.min() >= 1 and ids.max() < self._num_classes):
            raise ValueError(
                f"{name} must lie in [1, {self._num_classes - 1}],"
                f" got {ids.min()} to {ids.max()}"
            )
        return ids

    def _judge(
        self,
        label: int,
        boxes: Array,
        scores: Array,
        gt_boxes: Array,
        difficult: Array,
    ) -> None:
        """Decide the detections of one class in one image, best score first."""
        order = np.argsort(-scores, kind="stable")
        boxes, scores = boxes[order], scores[order]
        hits = np.zeros(len(boxes), bool)
        counts = np.ones(len(boxes), bool)
        if len(gt_boxes):
            if self._pixel_offset:
                one_pixel = np.array([0.0, 0.0, 1.0, 1.0])
                boxes, gt_boxes = boxes + one_pixel, gt_boxes + one_pixel
            iou = box_iou(boxes, gt_boxes).numpy()
            best = iou.argmax(axis=1)
            used = np.zeros(len(gt_boxes), bool)
            for i, gt in enumerate(best):
                if iou[i, gt] < self._iou_threshold:
                    continue
                if difficult[gt]:
                    counts[i] = False
                elif not used[gt]:
                    hits[i] = used[gt] = True
        self._scores[label].append(scores[counts])
        self._hits[label].append(hits[counts])


def average_precision(
    hits: Any, num_ground_truth: int, interpolation: Interpolation = "area"
) -> float:
    """Average precision of ranked detections of one class.

    Args:
        hits: bools `[N]`, whether the detection is a true positive, best score first.
        num_ground_truth: number of objects, at least 1.
        interpolation: `"area"` or `"11point"`.

    Returns:
        A number in [0, 1].

    Raises:
        ValueError: if an argument is out of range.
    """
    if num_ground_truth < 1:
        raise ValueError(f"num_ground_truth must be at least 1, got {num_ground_truth}")
    if interpolation not in INTERPOLATIONS:
        raise ValueError(
            f"interpolation must be one of {INTERPOLATIONS}, got {interpolation!r}"
        )
    hits = np.asarray(hits, bool).reshape(-1)
    if not len(hits):
        return 0.0
    true_positives = np.cumsum(hits)
    precision = true_positives / np.arange(1, len(hits) + 1)
    recall = true_positives / num_ground_truth
    # Precision at a recall is the best precision at that recall or a higher one.
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    if interpolation == "11point":
        # In floating point 0.3, 0.6 and 0.7 lie a hair above the quotients 3/10, 6/10
        # and 7/10, which therefore miss them: so do the evaluators in common use.
        first = np.searchsorted(recall, np.linspace(0, 1, 11))
        reached = first < len(recall)
        return float(np.sum(envelope[first[reached]]) / 11)
    steps = np.diff(recall, prepend=0.0)
    return float(np.sum(steps * envelope))
