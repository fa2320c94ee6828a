# SPDX-License-Identifier: Apache-2.0
"""Evaluates a detector on a data set."""

from __future__ import annotations

from collections.abc import Callable

from ssdops.data import Dataset, evaluation_batches
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
    nms_iou_threshold: float = 0.45,
    max_detections: int = 200,
    progress: Callable[[int], None] | None = None,
) -> VocResult:
    """Average precision of a detector on a data set.

    Args:
        model: detector whose class ids are those of the data set.
        dataset: images with ground truth; difficult objects are left out.
        batch_size: images per call of the network.
        iou_threshold: smallest IoU of a true positive.
        interpolation: `"area"` or `"11point"`, see `VocEvaluator`.
        score_threshold: only detections with a higher score are counted.
        nms_iou_threshold: of the non-maximum suppression.
        max_detections: per image.
        progress: called with the number of images done so far.

    Returns:
        The result of `VocEvaluator`.

    Raises:
        ValueError: if the model and the data set differ in their classes.
    """
    if tuple(model.class_names) != tuple(dataset.class_names):
        raise ValueError(
            f"the model finds {model.class_names},"
            f" the data set has {tuple(dataset.class_names)}"
        )
    evaluator = VocEvaluator(
        dataset.num_classes, iou_threshold=iou_threshold, interpolation=interpolation
    )
    done = 0
    for batch in evaluation_batches(dataset, model.spec.image_size, batch_size):
        found = model.detect(
            batch["images"],
            score_threshold=score_threshold,
            iou_threshold=nms_iou_threshold,
            max_detections=max_detections,
        )
        boxes, scores, classes, counts = (value.numpy() for value in found)
        for i, index in enumerate(batch["indices"].numpy()):
            record = dataset.records[index]
            evaluator.update(
                boxes[i, : counts[i]],
                scores[i, : counts[i]],
                classes[i, : counts[i]],
                record.boxes,
                record.labels,
                record.difficult,
            )
        done += len(counts)
        if progress is not None:
            progress(done)
    return evaluator.result()
