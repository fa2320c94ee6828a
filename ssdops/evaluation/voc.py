# SPDX-License-Identifier: Apache-2.0
"""Average precision as the Pascal VOC challenge defines it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

from ssdops.data import Record
from ssdops.evaluation.detections import (
    ImageDetections,
    check_pair,
    crowd_flags,
    pixel_boxes,
    pixel_size,
)
from ssdops.ops import box_iou

Interpolation = Literal["area", "11point"]
INTERPOLATIONS: Final = ("area", "11point")

Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class PrecisionRecall:
    """Precision and recall of one class after each of its detections, best first.

    Attributes:
        scores: float64 `[N]`, downwards.
        precision: float64 `[N]`: true positives of the detections so far.
        recall: float64 `[N]`: found share of the objects; NaN if there are none.
    """

    scores: npt.NDArray[np.float64]
    precision: npt.NDArray[np.float64]
    recall: npt.NDArray[np.float64]

    def precision_at(self, recalls: Any) -> npt.NDArray[np.float64]:
        """Best precision at each recall or a higher one, 0 where it is not reached.

        Args:
            recalls: `[R]`, in [0, 1].

        Returns:
            float64 `[R]`.
        """
        wanted = np.asarray(recalls, np.float64)
        envelope = np.append(_envelope(self.precision), 0.0)
        return np.asarray(envelope[np.searchsorted(self.recall, wanted)], np.float64)


@dataclass(frozen=True)
class VocResult:
    """Average precision per class and over all classes.

    Attributes:
        mean: mean of `average_precision` over the classes that have ground truth; NaN
            if none has.
        average_precision: float64 `[num_classes]`, in [0, 1]; NaN for the background
            and for classes without ground truth.
        num_ground_truth: int64 `[num_classes]`, objects that are not difficult.
        num_detections: int64 `[num_classes]`, without those that are left out.
        curves: one per class, the background included.
    """

    mean: float
    average_precision: npt.NDArray[np.float64]
    num_ground_truth: npt.NDArray[np.int64]
    num_detections: npt.NDArray[np.int64]
    curves: tuple[PrecisionRecall, ...]


class VocEvaluator:
    """Collects the detections of images and computes average precision.

    A detection is compared with the one ground truth of its class that it overlaps
    most. If that IoU is at least the threshold, the detection is left out where the
    ground truth is difficult, else it is a true positive for the first (best scored)
    detection of that object and a false positive for the others. A crowd region is no
    object: a detection that is no true positive and lies in one of its class, with at
    least the threshold as share of its own area, is left out.

    Equal scores rank in the order in which their images were added; nothing else
    depends on that order.

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
        gt_crowd: Any | None = None,
    ) -> None:
        """Add one image as arrays.

        Args:
            boxes: `[N, 4]` detected corners `(ymin, xmin, ymax, xmax)`, any unit.
            scores: `[N]`.
            classes: integers `[N]`, 1 to `num_classes - 1`.
            gt_boxes: `[M, 4]` in the same unit.
            gt_labels: integers `[M]`, 1 to `num_classes - 1`.
            gt_difficult: bools `[M]`; None if no object is difficult.
            gt_crowd: bools `[M]`; None if none is a crowd region.

        Raises:
            ValueError: if shapes do not fit, a class id is out of range, or a box or
                score is NaN.
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
        for name, values in (("boxes", boxes), ("scores", scores)):
            if np.isnan(values).any():
                raise ValueError(f"{name} must be numbers, got NaN")
        difficult = _flags("gt_difficult", gt_difficult, len(gt_boxes))
        crowd = _flags("gt_crowd", gt_crowd, len(gt_boxes))
        for label in np.union1d(classes, gt_labels):
            detected, of_class = classes == label, gt_labels == label
            wanted = of_class & ~crowd
            self._num_ground_truth[label] += np.sum(~difficult[wanted])
            if detected.any():
                self._judge(
                    int(label),
                    boxes[detected],
                    scores[detected],
                    gt_boxes[wanted],
                    difficult[wanted],
                    gt_boxes[of_class & crowd],
                )

    def add(self, record: Record, detections: ImageDetections) -> None:
        """Add one image.

        With `pixel_offset`, boxes are compared in pixels, rounded to 1/1000.

        Raises:
            ValueError: if the two are not of the same image, or a class id is out of
                range.
        """
        check_pair(record, detections, self._num_classes)
        boxes: Array = detections.boxes
        gt_boxes: Array = record.boxes
        if self._pixel_offset:
            size = pixel_size(record)
            boxes, gt_boxes = pixel_boxes(boxes, size), pixel_boxes(gt_boxes, size)
        self.update(
            boxes,
            detections.scores,
            detections.classes,
            gt_boxes,
            record.labels,
            record.difficult,
            crowd_flags(record),
        )

    def merge(self, other: VocEvaluator) -> None:
        """Add the images of another evaluator, as if they came after the own ones.

        Evaluators can be pickled, so that workers of several processes can be joined.

        Raises:
            ValueError: if the other one has other settings.
        """
        if self._settings() != other._settings():
            raise ValueError(
                f"evaluators must have the same settings, got {self._settings()} and"
                f" {other._settings()}"
            )
        self._num_ground_truth += other._num_ground_truth
        for label in range(self._num_classes):
            self._scores[label] += other._scores[label]
            self._hits[label] += other._hits[label]

    def result(self) -> VocResult:
        """Average precision of everything added so far; more can be added after."""
        values = np.full(self._num_classes, np.nan)
        counts = np.zeros(self._num_classes, np.int64)
        curves = []
        for label in range(self._num_classes):
            scores = np.concatenate([np.zeros(0), *self._scores[label]])
            hits = np.concatenate([np.zeros(0, bool), *self._hits[label]])
            order = np.argsort(-scores, kind="stable")
            scores, hits = scores[order], hits[order]
            objects = int(self._num_ground_truth[label])
            counts[label] = len(scores)
            if objects:
                values[label] = average_precision(hits, objects, self._interpolation)
            curves.append(PrecisionRecall(scores, *_precision_recall(hits, objects)))
        known = values[~np.isnan(values)]
        mean = float(known.mean()) if len(known) else float("nan")
        objects_by_class = self._num_ground_truth.copy()
        return VocResult(mean, values, objects_by_class, counts, tuple(curves))

    def _settings(self) -> dict[str, Any]:
        return {
            "num_classes": self._num_classes,
            "iou_threshold": self._iou_threshold,
            "interpolation": self._interpolation,
            "pixel_offset": self._pixel_offset,
        }

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
        crowd_boxes: Array,
    ) -> None:
        """Decide the detections of one class in one image, best score first."""
        order = np.argsort(-scores, kind="stable")
        boxes, scores = boxes[order], scores[order]
        hits = np.zeros(len(boxes), bool)
        counts = np.ones(len(boxes), bool)
        if self._pixel_offset:
            one_pixel = np.array([0.0, 0.0, 1.0, 1.0])
            boxes, gt_boxes = boxes + one_pixel, gt_boxes + one_pixel
            crowd_boxes = crowd_boxes + one_pixel
        if len(gt_boxes):
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
        if len(crowd_boxes):
            share = box_iou(boxes, crowd_boxes, kind="ioa").numpy().max(axis=1)
            counts &= hits | (share < self._iou_threshold)
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
    precision, recall = _precision_recall(hits, num_ground_truth)
    if interpolation == "11point":
        # In floating point 0.3, 0.6 and 0.7 lie a hair above the quotients 3/10, 6/10
        # and 7/10, which therefore miss them: so do the evaluators in common use.
        curve = PrecisionRecall(np.zeros(0), precision, recall)
        return float(np.sum(curve.precision_at(np.linspace(0, 1, 11))) / 11)
    steps = np.diff(recall, prepend=0.0)
    return float(np.sum(steps * _envelope(precision)))


def _precision_recall(hits: Array, num_ground_truth: int) -> tuple[Array, Array]:
    """Precision and recall after each of the ranked detections."""
    true_positives = np.cumsum(hits)
    precision = true_positives / np.arange(1, len(hits) + 1)
    if num_ground_truth == 0:
        return precision, np.full(len(hits), np.nan)
    return precision, true_positives / num_ground_truth


def _envelope(precision: Array) -> Array:
    """The best precision at a recall or a higher one."""
    return np.asarray(np.maximum.accumulate(precision[::-1])[::-1])


def _flags(name: str, values: Any | None, count: int) -> Array:
    if values is None:
        return np.zeros(count, bool)
    flags = np.asarray(values, bool).reshape(-1)
    if len(flags) != count:
        raise ValueError(f"{name} must have {count} entries, got {len(flags)}")
    return flags
