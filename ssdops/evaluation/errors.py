# SPDX-License-Identifier: Apache-2.0
"""What kind of errors a detector makes, after TIDE."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ssdops.data import Record
from ssdops.evaluation.detections import ImageDetections, check_pair, crowd_flags
from ssdops.ops import box_iou

DETECTION_KINDS: Final = (
    "correct",
    "localization",
    "confusion",
    "duplicate",
    "background",
    "confusion_and_localization",
)

Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class ErrorBreakdown:
    """Detections by kind of error, and ground truth that was missed.

    All arrays are int64 `[num_classes]`; the sum over the classes is the number in all.

    Attributes:
        detections: by each of `DETECTION_KINDS`, the detections of that kind by the
            class that they claim.
        missed: objects that no detection found and no detection was near: none has
            one of them as the object of its localization or confusion error.
        num_ground_truth: objects that are neither difficult nor a crowd region.
    """

    detections: dict[str, npt.NDArray[np.int64]]
    missed: npt.NDArray[np.int64]
    num_ground_truth: npt.NDArray[np.int64]


class ErrorEvaluator:
    """Collects the detections of images and tells their errors apart.

    Of the detections with a score above the threshold, the best one first, each takes
    the free object of its class with the largest IoU, if that is at least
    `iou_threshold`: it is *correct*. Any other one is left out if it overlaps a
    difficult object of its class that much, or lies in a crowd region of its class with
    that share of its own area. What remains is the first of:

    * *localization*: its largest IoU with an object of its class is between
      `background_iou` and `iou_threshold`;
    * *confusion*: its largest IoU with an object of another class is at least
      `iou_threshold`;
    * *duplicate*: its largest IoU with an object of its class is at least
      `iou_threshold`, and better detections have taken those objects;
    * *background*: no object overlaps it by `background_iou` or more;
    * *confusion and localization*: it overlaps an object of another class, too little.

    These are the kinds and the order of TIDE, which says for each how much AP it
    costs; here they are counted.

    Args:
        num_classes: number of classes including the background, at least 2.
        score_threshold: only detections with a higher score are looked at.
        iou_threshold: smallest IoU of a correct detection, in (0, 1].
        background_iou: smallest IoU of a detection that is near an object, in
            (0, `iou_threshold`).

    Raises:
        ValueError: if an argument is out of range.

    References:
        Bolya et al., "TIDE: A General Toolbox for Identifying Object Detection Errors",
        ECCV 2020.
    """

    def __init__(
        self,
        num_classes: int,
        *,
        score_threshold: float = 0.5,
        iou_threshold: float = 0.5,
        background_iou: float = 0.1,
    ) -> None:
        if num_classes < 2:
            raise ValueError(f"num_classes must be at least 2, got {num_classes}")
        if not 0 < iou_threshold <= 1:
            raise ValueError(f"iou_threshold must be in (0, 1], got {iou_threshold}")
        if not 0 < background_iou < iou_threshold:
            raise ValueError(
                f"background_iou must be in (0, {iou_threshold}), got {background_iou}"
            )
        self._num_classes = num_classes
        self._score_threshold = score_threshold
        self._iou_threshold = iou_threshold
        self._background_iou = background_iou
        self._counts = {
            name: np.zeros(num_classes, np.int64)
            for name in (*DETECTION_KINDS, "missed", "num_ground_truth")
        }

    def add(self, record: Record, detections: ImageDetections) -> None:
        """Add one image.

        Raises:
            ValueError: if the two are not of the same image, or a class id is out of
                range.
        """
        check_pair(record, detections, self._num_classes)
        found = detections.above(self._score_threshold)
        order = np.argsort(-found.scores, kind="stable")
        boxes, classes = found.boxes[order], found.classes[order]
        crowd = crowd_flags(record)
        wanted = ~(record.difficult | crowd)
        labels = record.labels[wanted]
        iou = box_iou(boxes, record.boxes[wanted]).numpy()
        same = classes[:, None] == labels[None, :]
        taken_by = self._match(np.where(same, iou, 0.0))
        covered = taken_by >= 0
        correct = np.zeros(len(boxes), bool)
        correct[taken_by[covered]] = True
        judged = correct | ~self._forgiven(boxes, classes, record, crowd)
        for i in np.flatnonzero(judged):
            kind = "correct"
            if not correct[i]:
                kind, blamed = self._kind(iou[i], same[i])
                if blamed is not None:
                    covered[blamed] = True
            self._counts[kind][classes[i]] += 1
        np.add.at(self._counts["missed"], labels[~covered], 1)
        np.add.at(self._counts["num_ground_truth"], labels, 1)

    def merge(self, other: ErrorEvaluator) -> None:
        """Add the images of another evaluator.

        Evaluators can be pickled, so that workers of several processes can be joined.

        Raises:
            ValueError: if the other one has other settings.
        """
        if self._settings() != other._settings():
            raise ValueError(
                f"evaluators must have the same settings, got {self._settings()} and"
                f" {other._settings()}"
            )
        for name, count in other._counts.items():
            self._counts[name] += count

    def result(self) -> ErrorBreakdown:
        """The counts of everything added so far; more can be added after."""
        counts = {name: count.copy() for name, count in self._counts.items()}
        missed, objects = counts.pop("missed"), counts.pop("num_ground_truth")
        return ErrorBreakdown(counts, missed, objects)

    def _settings(self) -> dict[str, Any]:
        return {
            "num_classes": self._num_classes,
            "score_threshold": self._score_threshold,
            "iou_threshold": self._iou_threshold,
            "background_iou": self._background_iou,
        }

    def _match(self, iou: Array) -> Array:
        """For each object the detection that takes it, -1 for none."""
        taken_by = np.full(iou.shape[1], -1)
        for i, row in enumerate(iou):
            free = np.where(taken_by < 0, row, 0.0)
            if len(free) and free.max() >= self._iou_threshold:
                taken_by[free.argmax()] = i
        return taken_by

    def _forgiven(
        self, boxes: Array, classes: Array, record: Record, crowd: Array
    ) -> Array:
        """Whether each detection is of an object that does not count."""
        forgiven = np.zeros(len(boxes), bool)
        for kind, chosen in (("iou", record.difficult & ~crowd), ("ioa", crowd)):
            if chosen.any() and len(boxes):
                overlap = box_iou(boxes, record.boxes[chosen], kind=kind).numpy()
                same = classes[:, None] == record.labels[chosen][None, :]
                forgiven |= (same & (overlap >= self._iou_threshold)).any(axis=1)
        return forgiven

    def _kind(self, iou: Array, same: Array) -> tuple[str, int | None]:
        """The kind of one wrong detection, and the object of its error."""
        # An overlap below every threshold stands for "no such object".
        own = np.append(np.where(same, iou, 0.0), 0.0)
        other = np.append(np.where(same, 0.0, iou), 0.0)
        if self._background_iou <= own.max() < self._iou_threshold:
            return "localization", int(own.argmax())
        if other.max() >= self._iou_threshold:
            return "confusion", int(other.argmax())
        if own.max() >= self._iou_threshold:
            return "duplicate", None
        if other.max() >= self._background_iou:
            return "confusion_and_localization", None
        return "background", None
