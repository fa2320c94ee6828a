# SPDX-License-Identifier: Apache-2.0
"""What a detector finds on one image."""

from __future__ import annotations

import json
import os
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ssdops.boxes import relative_to_pixels, yxyx_to_xyxy
from ssdops.detection.images import image_array
from ssdops.visualization import draw_detections, enlarged

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["DetectedImage"]


@dataclass(frozen=True, eq=False)
class DetectedImage:
    """The objects on one image, best first.

    Attributes:
        source: Path of the image, or its position among the images or frames.
        image_size: Height and width in pixels; (0, 0) if it could not be read.
        boxes: float32 [N, 4] relative (ymin, xmin, ymax, xmax), clipped to the image.
        scores: float32 [N], sorted downwards.
        labels: int32 [N], ids of classes.
        names: N names of classes.
        class_names: Names of all classes; index 0 is the background.
        seconds: Time of a frame of a video; None for images.
        error: Why the image could not be used; None if it could.
    """

    source: str | int
    image_size: tuple[int, int]
    boxes: npt.NDArray[np.float32]
    scores: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int32]
    names: tuple[str, ...]
    class_names: tuple[str, ...]
    seconds: float | None = None
    error: str | None = None
    # Of an array that is nowhere else; files are read again.
    _image: Any = field(default=None, repr=False)

    @classmethod
    def unreadable(
        cls, source: str | int, error: str, class_names: tuple[str, ...]
    ) -> DetectedImage:
        """Returns what stands for an image that could not be used."""
        return cls(
            source,
            (0, 0),
            np.zeros((0, 4), np.float32),
            np.zeros(0, np.float32),
            np.zeros(0, np.int32),
            (),
            class_names,
            error=error,
        )

    def __len__(self) -> int:
        """Returns the number of objects."""
        return len(self.labels)

    @property
    def boxes_pixels(self) -> npt.NDArray[np.float32]:
        """Corners (ymin, xmin, ymax, xmax) in pixels, float32 [N, 4]."""
        pixels: npt.NDArray[np.float32] = relative_to_pixels(
            self.boxes, self.image_size
        )
        return pixels

    def filter(
        self,
        *,
        names: Collection[str] | None = None,
        min_score: float = 0.0,
    ) -> DetectedImage:
        """Returns the objects of some classes, or with some score at least.

        Args:
            names: Names of classes; None for all.
            min_score: Smallest score.

        Raises:
            ValueError: If there is no class of a name.
        """
        unknown = sorted(set(names or ()) - set(self.class_names))
        if unknown:
            raise ValueError(f"there are no classes {', '.join(unknown)}")
        keep = self.scores >= min_score
        if names is not None:
            keep &= np.array([name in names for name in self.names], bool)
        return replace(
            self,
            boxes=self.boxes[keep],
            scores=self.scores[keep],
            labels=self.labels[keep],
            names=tuple(
                name for name, kept in zip(self.names, keep, strict=True) if kept
            ),
        )

    def image(self) -> npt.NDArray[np.uint8]:
        """Returns the image, RGB, uint8 [H, W, 3]; a file is read again.

        Raises:
            ValueError: If the image was not usable.
            ssdops.image_io.ImageError: If the file is gone.
        """
        if self.error is not None:
            raise ValueError(self.error)
        return image_array(self.source if self._image is None else self._image)

    def draw(self) -> Image:
        """Returns the image with named frames; a small one is enlarged.

        Raises:
            ValueError: If the image was not usable.
            ssdops.image_io.ImageError: If the file is gone.
        """
        return draw_detections(
            enlarged(self.image()),
            self.boxes,
            self.labels,
            class_names=self.class_names,
            scores=self.scores,
        )

    def to_dict(self) -> dict[str, Any]:
        """Returns plain JSON values; boxes in pixels."""
        found: dict[str, Any] = {
            "image": self.source,
            "width": self.image_size[1],
            "height": self.image_size[0],
            "detections": [
                {
                    "label": int(label),
                    "name": name,
                    "score": float(score),
                    "box": [float(value) for value in box],
                }
                for label, name, score, box in zip(
                    self.labels,
                    self.names,
                    self.scores,
                    relative_to_pixels(self.boxes.astype(float), self.image_size),
                    strict=True,
                )
            ],
        }
        for key in ("seconds", "error"):
            if getattr(self, key) is not None:
                found[key] = getattr(self, key)
        return found

    def to_json(self) -> str:
        """Returns `to_dict` as a text."""
        return json.dumps(self.to_dict(), ensure_ascii=False, allow_nan=False)

    def to_supervision(self) -> Any:
        """Returns `supervision.Detections`: corners x first in pixels, ids, scores.

        Raises:
            ImportError: If the package `supervision` is not installed.
        """
        import supervision  # noqa: PLC0415

        return supervision.Detections(
            xyxy=yxyx_to_xyxy(self.boxes_pixels),
            confidence=self.scores.copy(),
            class_id=self.labels.astype(int),
            data={"class_name": np.array(self.names, str)},
        )

    def stem(self) -> str:
        """Returns a name for files about the image, without a suffix."""
        if isinstance(self.source, int):
            return f"{self.source:06}"
        return Path(os.fspath(self.source)).stem
