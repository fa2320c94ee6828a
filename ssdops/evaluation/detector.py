# SPDX-License-Identifier: Apache-2.0
"""Evaluates a detector on a data set."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ssdops.data import Dataset
from ssdops.evaluation.detections import (
    DetectionEvaluator,
    detect_dataset,
    feed_evaluators,
)
from ssdops.evaluation.voc import Interpolation, VocEvaluator, VocResult
from ssdops.models import SSD


def evaluate(
    model: SSD,
    dataset: Dataset,
    *,
    batch_size: int = 32,
    iou_threshold: float = 0.5,
    interpolation: Interpolation = "area",
    score_threshold: float = 0.01,
    nms_iou_threshold: float | None = None,
    max_detections: int = 200,
    also: Sequence[DetectionEvaluator] = (),
    progress: Callable[[int], None] | None = None,
) -> VocResult:
    """Average precision of a detector on a data set.

    Images are detected, judged and forgotten batch by batch.

    Args:
        model: detector whose class ids are those of the data set.
        dataset: images with ground truth; difficult objects are left out.
        batch_size: images per call of the network.
        iou_threshold: smallest IoU of a true positive.
        interpolation: `"area"` or `"11point"`, see `VocEvaluator`.
        score_threshold: only detections with a higher score are counted.
        nms_iou_threshold: of the non-maximum suppression; None for the model's.
        max_detections: per image.
        also: evaluators that see the same detections, such as a `CocoEvaluator`; ask
            them for their results after.
        progress: called with the number of images done so far.

    Returns:
        The result of `VocEvaluator`.

    Raises:
        ValueError: if the model and the data set differ in their classes.
    """
    found = detect_dataset(
        model,
        dataset,
        batch_size=batch_size,
        score_threshold=score_threshold,
        nms_iou_threshold=nms_iou_threshold,
        max_detections=max_detections,
    )
    voc = VocEvaluator(
        dataset.num_classes, iou_threshold=iou_threshold, interpolation=interpolation
    )
    feed_evaluators(dataset, found, (voc, *also), progress=progress)
    return voc.result()
