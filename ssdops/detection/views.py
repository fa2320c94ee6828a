# SPDX-License-Identifier: Apache-2.0
"""Test-time augmentation: an image is looked at in several ways, answers are merged."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt

from ssdops.ops import batched_nms

__all__ = ["TestTimeAugmentation", "View", "merge_views"]

MAX_SCALE = 8.0
# A box that ends this near to a border inside the image may be cut off there.
_BORDER = 0.05


@dataclass(frozen=True)
class TestTimeAugmentation:
    """In which ways an image is looked at besides as it is.

    Attributes:
        flip: Also mirrored.
        scales: Numbers in [1, 8]: 1 is the whole image; for 1.5 it is also cut into
            overlapping parts of 2/3 of its sides, in which small objects are 1.5 times
            as large.
        merge_iou: Boxes of a class that overlap by more are one object. Those of
            several views differ more than those of one, so that this is less than
            some models have for one view.

    Raises:
        ValueError: For values outside their range, or no scales.
    """

    # pytest would take it for a test.
    __test__ = False

    flip: bool = True
    scales: tuple[float, ...] = (1.0,)
    merge_iou: float = 0.45

    def __post_init__(self) -> None:
        """Checks the scales."""
        object.__setattr__(self, "scales", tuple(float(s) for s in self.scales))
        if not self.scales or not all(1.0 <= s <= MAX_SCALE for s in self.scales):
            raise ValueError(
                f"scales must be numbers in [1, {MAX_SCALE:g}], got {self.scales}"
            )
        if not 0.0 <= self.merge_iou <= 1.0:
            raise ValueError(f"merge_iou must lie in [0, 1], got {self.merge_iou}")

    def views(self) -> list[View]:
        """Returns all ways to look at an image."""
        windows = [window for scale in self.scales for window in _windows(scale)]
        flips = (False, True) if self.flip else (False,)
        return [View(window, flip) for window, flip in product(windows, flips)]


@dataclass(frozen=True)
class View:
    """One way to look at an image.

    Attributes:
        window: Relative corners (ymin, xmin, ymax, xmax) of what is looked at.
        flip: Whether it is mirrored.
    """

    window: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0)
    flip: bool = False

    def of(self, image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """Returns what is seen of an image [H, W, 3]."""
        top, left, bottom, right = self._pixels(image.shape[:2])
        part = image[top:bottom, left:right]
        return part[:, ::-1] if self.flip else part

    def to_image(
        self,
        boxes: npt.NDArray[np.floating],
        size: tuple[int, int],
    ) -> tuple[npt.NDArray[np.floating], npt.NDArray[np.bool_]]:
        """Returns boxes of what is seen as boxes in the image, and which are whole.

        Args:
            boxes: Relative corners [N, 4] in the view.
            size: Height and width of the image.

        Returns:
            Relative corners [N, 4] in the image, and bool [N]: whether no border inside
            the image may have cut it off.
        """
        top, left, bottom, right = self._pixels(size)
        if self.flip:
            boxes = np.stack(
                [boxes[:, 0], 1 - boxes[:, 3], boxes[:, 2], 1 - boxes[:, 1]], axis=-1
            )
        ends = np.array([top > 0, left > 0, bottom < size[0], right < size[1]])
        near = np.concatenate(
            [boxes[:, :2] < _BORDER, boxes[:, 2:] > 1 - _BORDER], axis=-1
        )
        whole = ~(near & ends).any(axis=-1)
        corner = np.array([top, left] * 2)
        sides = np.array([bottom - top, right - left] * 2)
        return (boxes * sides + corner) / np.array([*size] * 2), whole

    def _pixels(self, size: Sequence[int]) -> tuple[int, int, int, int]:
        """Returns the window of an image in pixels, at least one."""
        top, left, bottom, right = (
            round(edge * size[index % 2]) for index, edge in enumerate(self.window)
        )
        top, left = min(top, size[0] - 1), min(left, size[1] - 1)
        return top, left, max(bottom, top + 1), max(right, left + 1)


def _windows(scale: float) -> list[tuple[float, float, float, float]]:
    """Returns windows of 1 / scale of the sides; neighbours share half of one."""
    side = 1.0 / scale
    count = math.ceil(2 * (scale - 1)) + 1
    starts = (
        [i * (1.0 - side) / (count - 1) for i in range(count)] if count > 1 else [0]
    )
    return [(y, x, y + side, x + side) for y, x in product(starts, starts)]


def merge_views(
    boxes: npt.NDArray[np.floating],
    scores: npt.NDArray[np.floating],
    labels: npt.NDArray[np.integer],
    *,
    iou_threshold: float,
    max_detections: int,
) -> tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]]:
    """Returns the objects that several views show, each once.

    Of the boxes of one class that overlap, the best stays, with the mean of all of
    them, weighted by score (`batched_nms` with the method "weighted").

    Args:
        boxes: Relative corners [N, 4] of all views.
        scores: [N].
        labels: [N], ids of classes.
        iou_threshold: Boxes that overlap by more are one object.
        max_detections: Most objects.

    Returns:
        Boxes [M, 4], scores [M] and labels [M], best first.
    """
    if not len(boxes):
        return boxes, scores, labels
    present, columns = np.unique(labels, return_inverse=True)
    by_class = np.zeros((1, len(boxes), len(present)), np.float32)
    by_class[0, np.arange(len(boxes)), columns.reshape(-1)] = scores
    found = batched_nms(
        boxes[np.newaxis].astype(np.float32),
        by_class,
        method="weighted",
        score_threshold=0.0,
        iou_threshold=iou_threshold,
        pre_nms_top_k=None,
        max_detections=max_detections,
        background_class=None,
    )
    count = int(found.num_detections[0])
    return (
        found.boxes[0, :count].numpy(),
        found.scores[0, :count].numpy(),
        present[found.classes[0, :count].numpy()],
    )
