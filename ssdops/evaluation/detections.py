# SPDX-License-Identifier: Apache-2.0
"""The detections of one image, and the stream of them that every metric reads."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt

from ssdops.boxes import relative_to_pixels
from ssdops.data import Dataset, Record, evaluation_batches, readable
from ssdops.models import SSD

_PIXEL_DECIMALS: Final = 3


@dataclass(frozen=True, eq=False)
class ImageDetections:
    """What a detector found in one image.

    Attributes:
        image_id: `Record.image_id` of the image.
        boxes: float32 `[N, 4]`, `(ymin, xmin, ymax, xmax)` relative to the image, not
            necessarily inside it.
        scores: float32 `[N]`, larger is surer.
        classes: int32 `[N]`, class ids from 1.

    Raises:
        ValueError: if shapes or dtypes do not fit, a number is not finite, or a class
            id is below 1.
    """

    image_id: str
    boxes: npt.NDArray[np.float32]
    scores: npt.NDArray[np.float32]
    classes: npt.NDArray[np.int32]

    def __post_init__(self) -> None:
        """Checks everything, so that no metric has to."""
        count = len(self.boxes)
        for name, shape, dtype in (
            ("boxes", (count, 4), np.float32),
            ("scores", (count,), np.float32),
            ("classes", (count,), np.int32),
        ):
            value = getattr(self, name)
            if value.shape != shape or value.dtype != dtype:
                raise ValueError(
                    f"{name} of {self.image_id} must be {np.dtype(dtype)} of shape"
                    f" {list(shape)}, got {value.dtype} of shape {list(value.shape)}"
                )
            bad = np.argwhere(~np.isfinite(value))
            if len(bad):
                raise ValueError(
                    f"{name} of {self.image_id} must be finite, got"
                    f" {value[tuple(bad[0])]} in row {bad[0][0]}"
                )
        if count and self.classes.min() < 1:
            raise ValueError(
                f"classes of {self.image_id} must be at least 1, got"
                f" {self.classes.min()}"
            )

    def __len__(self) -> int:
        """Number of detections."""
        return len(self.boxes)

    def above(self, score_threshold: float) -> ImageDetections:
        """The detections with a higher score, in the same order."""
        kept = self.scores > score_threshold
        return ImageDetections(
            self.image_id, self.boxes[kept], self.scores[kept], self.classes[kept]
        )

    @classmethod
    def from_lists(
        cls, image_id: str, boxes: Any = (), scores: Any = (), classes: Any = ()
    ) -> ImageDetections:
        """Detections from sequences of numbers; without them, none.

        Raises:
            ValueError: as the class, and if classes are not integers.
        """
        ids = np.asarray(classes)
        if ids.size and not np.issubdtype(ids.dtype, np.integer):
            raise ValueError(f"classes of {image_id} must be integers, got {ids.dtype}")
        return cls(
            image_id,
            np.asarray(boxes, np.float32).reshape(-1, 4),
            np.asarray(scores, np.float32).reshape(-1),
            ids.astype(np.int32).reshape(-1),
        )


class DetectionEvaluator(Protocol):
    """What collects images with their detections, one at a time."""

    def add(self, record: Record, detections: ImageDetections) -> None:
        """Add one image."""


class DetectionCollector:
    """Keeps the detections of the images that it is given.

    Attributes:
        detections: in the order of adding.
    """

    def __init__(self) -> None:
        self.detections: list[ImageDetections] = []

    def add(self, record: Record, detections: ImageDetections) -> None:
        """Add one image."""
        self.detections.append(detections)


def detect_dataset(
    model: SSD,
    dataset: Dataset,
    *,
    batch_size: int = 32,
    score_threshold: float = 0.01,
    nms_iou_threshold: float | None = None,
    max_detections: int = 200,
) -> Iterator[ImageDetections]:
    """The detections of a model on a data set, batch by batch as they are asked for.

    A box with a corner that is not finite, which a model that diverged can give,
    becomes a box of no size at the origin: it counts, and overlaps nothing.

    Args:
        model: detector whose class ids are those of the data set.
        dataset: images; ground truth is not looked at.
        batch_size: images per call of the network.
        score_threshold: only detections with a higher score are given.
        nms_iou_threshold: of the non-maximum suppression; None for the model's.
        max_detections: per image.

    Returns:
        One element per record, in their order.

    Raises:
        ValueError: if the model and the data set differ in their classes.
        ssdops.image_io.ImageError: while they are asked for, if an image cannot be
            read.
    """
    if tuple(model.class_names) != tuple(dataset.class_names):
        raise ValueError(
            f"the model finds {model.class_names},"
            f" the data set has {tuple(dataset.class_names)}"
        )
    # A function of its own: a generator would raise only when first asked.
    return _detect_batches(
        model,
        dataset,
        batch_size,
        score_threshold=score_threshold,
        iou_threshold=nms_iou_threshold,
        max_detections=max_detections,
    )


def _detect_batches(
    model: SSD, dataset: Dataset, batch_size: int, **options: Any
) -> Iterator[ImageDetections]:
    preprocessing = model.spec.preprocessing
    batches = evaluation_batches(
        dataset, model.spec.image_size, batch_size, preprocessing.fit
    )
    for batch in readable(batches):
        found = model.detect(batch["images"], **options)
        boxes, scores, classes, counts = (value.numpy() for value in found)
        finite = np.isfinite(boxes).all(axis=-1, keepdims=True)
        boxes = np.where(finite, boxes, np.zeros_like(boxes))
        for i, index in enumerate(batch["indices"].numpy()):
            record = dataset.records[index]
            of_image = boxes[i, : counts[i]]
            if preprocessing.resize != "stretch":
                of_image = preprocessing.to_image(of_image, pixel_size(record))
            yield ImageDetections(
                record.image_id,
                of_image,
                scores[i, : counts[i]],
                classes[i, : counts[i]],
            )


def feed_evaluators(
    dataset: Dataset,
    detections: Iterable[ImageDetections],
    evaluators: Sequence[DetectionEvaluator],
    *,
    progress: Callable[[int], None] | None = None,
) -> None:
    """Give every image of a data set with its detections to evaluators.

    Args:
        dataset: the ground truth.
        detections: at most one element per image, in any order; images without one
            are added last, with no detections.
        evaluators: each sees every image once.
        progress: called with the number of images done so far.

    Raises:
        ValueError: if an image id is not in the data set, or comes twice.
    """
    records = {record.image_id: record for record in dataset.records}
    if len(records) < len(dataset):
        raise ValueError(
            f"image ids must be unique in a data set, got {len(dataset)} images with"
            f" {len(records)} ids"
        )
    done = 0

    def add(record: Record, found: ImageDetections) -> None:
        nonlocal done
        for evaluator in evaluators:
            evaluator.add(record, found)
        done += 1
        if progress is not None:
            progress(done)

    known = frozenset(records)
    for found in detections:
        record = records.pop(found.image_id, None)
        if record is None:
            problem = "come twice" if found.image_id in known else "not in the data set"
            raise ValueError(f"detections of image {found.image_id!r}: {problem}")
        add(record, found)
    for record in records.values():
        add(record, ImageDetections.from_lists(record.image_id))


def check_pair(record: Record, detections: ImageDetections, num_classes: int) -> None:
    """Checks that an image and detections belong together.

    Raises:
        ValueError: if their image ids differ or a class id is not below
            `num_classes`.
    """
    if record.image_id != detections.image_id:
        raise ValueError(
            f"detections must be those of image {record.image_id!r}, got those of"
            f" {detections.image_id!r}"
        )
    for name, ids in (("labels", record.labels), ("classes", detections.classes)):
        if len(ids) and ids.max() >= num_classes:
            raise ValueError(
                f"{name} of {record.image_id} must lie in [1, {num_classes - 1}],"
                f" got {ids.max()}"
            )


def crowd_flags(record: Record) -> npt.NDArray[np.bool_]:
    """`Record.crowd` as an array in any case, bool `[N]`."""
    if record.crowd is None:
        return np.zeros(len(record.labels), bool)
    return record.crowd


def pixel_size(record: Record) -> tuple[int, int]:
    """Height and width of an image in pixels, from its file if the record lacks them.

    Raises:
        ssdops.image_io.ImageError: if the file has to be read and cannot be.
    """
    if record.image_size is not None:
        return record.image_size
    height, width = record.load_image().shape[:2]
    return height, width


def pixel_boxes(
    boxes: npt.NDArray[np.float32], size: tuple[int, int]
) -> npt.NDArray[np.float64]:
    """Relative corners as pixels, float64 `[N, 4]`, rounded to 1/1000 pixel.

    Relative float32 has moved the corners that a file gives by less than that. They
    are whole numbers or have few decimals, so that an IoU is often exactly at a
    threshold, and the smallest shift would decide.
    """
    return rounded_pixels(relative_to_pixels(boxes.astype(np.float64), size))


def rounded_pixels(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Numbers rounded to 1/1000, as `pixel_boxes` rounds them."""
    return np.asarray(np.round(values, _PIXEL_DECIMALS), np.float64)
