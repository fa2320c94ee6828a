# SPDX-License-Identifier: Apache-2.0
"""The twelve numbers of the COCO detection challenge, computed by pycocotools."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ssdops.boxes import yxyx_to_xywh
from ssdops.data import Record
from ssdops.evaluation.detections import (
    ImageDetections,
    check_pair,
    crowd_flags,
    pixel_boxes,
    pixel_size,
    rounded_pixels,
)

COCO_METRICS: Final = (
    "AP",
    "AP50",
    "AP75",
    "AP_small",
    "AP_medium",
    "AP_large",
    "AR1",
    "AR10",
    "AR100",
    "AR_small",
    "AR_medium",
    "AR_large",
)
MAX_DETECTIONS: Final = 100
"""Detections per image and class that COCO looks at, the best ones."""

_AREA_OF_IGNORED: Final = -1.0

Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class CocoResult:
    """COCO's numbers.

    Attributes:
        metrics: by the names in `COCO_METRICS`, in [0, 1]; NaN where no object is of
            the kind that a number is about. `AP` and `AR` are means over the IoU
            thresholds 0.50, 0.55, ..., 0.95 and over the classes; a number behind `AR`
            limits the detections per image and class; small objects are below 32**2
            pixels, large ones above 96**2.
        average_precision: float64 `[num_classes]`, `AP` of each class; NaN for the
            background and for classes without ground truth.
    """

    metrics: Mapping[str, float]
    average_precision: npt.NDArray[np.float64]


@dataclass(frozen=True)
class _Image:
    """Boxes are `(xmin, ymin, width, height)` in pixels."""

    size: tuple[int, int]
    gt_boxes: Array
    gt_labels: Array
    gt_areas: Array
    gt_crowd: Array
    boxes: Array
    scores: Array
    classes: Array


class CocoEvaluator:
    """Collects the detections of images and computes COCO's numbers.

    Crowd regions take any number of detections, which are left out. Difficult objects
    are left out as objects of an unwanted size are: each takes one detection with it.
    Images are put in the order of their ids, as numbers if all ids are decimal: equal
    scores rank in that order, whatever the order of adding. Boxes are compared in
    pixels, rounded to 1/1000.

    Args:
        num_classes: number of classes including the background, at least 2.

    Raises:
        ValueError: if the number is out of range.
    """

    def __init__(self, num_classes: int) -> None:
        if num_classes < 2:
            raise ValueError(f"num_classes must be at least 2, got {num_classes}")
        self._num_classes = num_classes
        self._images: dict[str, _Image] = {}

    def add(self, record: Record, detections: ImageDetections) -> None:
        """Add one image.

        Raises:
            ValueError: if the two are not of the same image, the image was added
                before, or a class id is out of range.
        """
        check_pair(record, detections, self._num_classes)
        if record.image_id in self._images:
            raise ValueError(f"image {record.image_id!r} was added before")
        size = pixel_size(record)
        gt_boxes = _to_pixel_xywh(record.boxes, size)
        areas = gt_boxes[:, 2] * gt_boxes[:, 3] if record.area is None else record.area
        # An area outside every range of sizes: the object is matched, not counted.
        areas = np.where(record.difficult, _AREA_OF_IGNORED, areas)
        kept = _best_per_class(detections)
        self._images[record.image_id] = _Image(
            size,
            gt_boxes,
            record.labels,
            areas,
            crowd_flags(record),
            _to_pixel_xywh(detections.boxes[kept], size),
            detections.scores[kept],
            detections.classes[kept],
        )

    def merge(self, other: CocoEvaluator) -> None:
        """Add the images of another evaluator.

        Evaluators can be pickled, so that workers of several processes can be joined.

        Raises:
            ValueError: if the other one has another number of classes, or both have
                seen the same image.
        """
        if self._num_classes != other._num_classes:
            raise ValueError(
                "evaluators must have the same num_classes, got"
                f" {self._num_classes} and {other._num_classes}"
            )
        both = self._images.keys() & other._images.keys()
        if both:
            raise ValueError(f"both evaluators have seen image {min(both)!r}")
        self._images |= other._images

    def result(self) -> CocoResult:
        """The numbers of everything added so far; more can be added after."""
        from pycocotools.cocoeval import COCOeval  # noqa: PLC0415

        # The library reports its progress on standard output.
        with contextlib.redirect_stdout(io.StringIO()):
            evaluation = COCOeval(*self._indexed(), "bbox")
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
        metrics = {
            name: float(value) if value >= 0 else float("nan")
            for name, value in zip(COCO_METRICS, evaluation.stats, strict=True)
        }
        # [thresholds, recalls, classes, areas, limits]; -1 without ground truth.
        precision = evaluation.eval["precision"][:, :, :, 0, -1]
        values = np.full(self._num_classes, np.nan)
        for label in range(1, self._num_classes):
            known = precision[:, :, label - 1]
            if (known >= 0).any():
                values[label] = known.mean()
        return CocoResult(metrics, values)

    def _indexed(self) -> tuple[Any, Any]:
        """Ground truth and detections as the library's objects."""
        images: list[dict[str, Any]] = []
        truth: list[dict[str, Any]] = []
        found: list[dict[str, Any]] = []
        for number, image_id in enumerate(_sorted_ids(self._images)):
            image = self._images[image_id]
            height, width = image.size
            images.append({"id": number, "height": height, "width": width})
            for box, label, area, crowd in zip(
                image.gt_boxes.tolist(),
                image.gt_labels.tolist(),
                image.gt_areas.tolist(),
                image.gt_crowd.tolist(),
                strict=True,
            ):
                truth.append(
                    {
                        # Matches are remembered by id, and 0 means none.
                        "id": len(truth) + 1,
                        "image_id": number,
                        "category_id": label,
                        "bbox": box,
                        "area": area,
                        "iscrowd": int(crowd),
                    }
                )
            for box, score, label in zip(
                image.boxes.tolist(),
                image.scores.tolist(),
                image.classes.tolist(),
                strict=True,
            ):
                found.append(
                    {
                        "id": len(found) + 1,
                        "image_id": number,
                        "category_id": label,
                        "bbox": box,
                        "area": box[2] * box[3],
                        "iscrowd": 0,
                        "score": score,
                    }
                )
        categories = [
            {"id": label, "name": str(label)} for label in range(1, self._num_classes)
        ]
        return (
            _library_object(images, categories, truth),
            _library_object(images, categories, found),
        )


def _library_object(images: Any, categories: Any, annotations: Any) -> Any:
    from pycocotools.coco import COCO  # noqa: PLC0415

    index = COCO()
    index.dataset = {
        "images": images,
        "categories": categories,
        "annotations": annotations,
    }
    index.createIndex()
    return index


def _to_pixel_xywh(boxes: Array, size: tuple[int, int]) -> Array:
    return rounded_pixels(yxyx_to_xywh(pixel_boxes(boxes, size)))


def _best_per_class(detections: ImageDetections) -> Array:
    """Indices of the detections that COCO looks at, in their order."""
    order = np.argsort(-detections.scores, kind="stable")
    classes = detections.classes[order]
    kept = [order[classes == label][:MAX_DETECTIONS] for label in np.unique(classes)]
    return np.sort(np.concatenate([np.zeros(0, np.int64), *kept]))


def _sorted_ids(ids: Mapping[str, Any]) -> list[str]:
    if all(image_id.isdecimal() for image_id in ids):
        return sorted(ids, key=lambda image_id: (int(image_id), image_id))
    return sorted(ids)
