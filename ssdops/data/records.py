# SPDX-License-Identifier: Apache-2.0
"""The record that every reader gives, whatever format it reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from ssdops.image_io import ImageError, decode_image, load_image


@dataclass(frozen=True)
class EncodedImage:
    """An image that stands inside a larger file; it is read when it is needed.

    Attributes:
        file: the file.
        offset: bytes before the image.
        length: bytes of the image, in a format of `ssdops.image_io.load_image`.
    """

    file: Path
    offset: int
    length: int

    def read(self) -> bytes:
        """The encoded image.

        Raises:
            ImageError: if the file is gone or has become shorter.
        """
        try:
            with self.file.open("rb") as opened:
                opened.seek(self.offset)
                data = opened.read(self.length)
        except OSError as error:
            raise ImageError(f"{self} cannot be read: {error}") from None
        if len(data) < self.length:
            raise ImageError(
                f"{self} must have {self.length} bytes, there are {len(data)}"
            )
        return data

    def __str__(self) -> str:
        """Name of the image for messages."""
        return f"{self.file}, image at byte {self.offset},"


ImageSource: TypeAlias = "Path | EncodedImage | bytes | npt.NDArray[np.uint8]"


@dataclass(frozen=True, eq=False)
class Record:
    """One image with its objects.

    Attributes:
        image: path of an image file; a place in a larger file; what an image file
            holds; or uint8 `[H, W, 3]` RGB.
        boxes: float32 `[N, 4]`, `(ymin, xmin, ymax, xmax)` relative to the image, each
            with a positive area.
        labels: int32 `[N]`, class ids from 1.
        difficult: bool `[N]`; evaluation leaves these objects out, training uses them.
        image_id: name of the image, unique in its data set.
        crowd: bool `[N]`; the box is around many objects of the class that have no
            boxes of their own. Training ignores what lies in it, evaluation forgives
            detections there. None for no such region.
        area: float32 `[N]`, pixels that each object covers, where a data set tells:
            by it, COCO's metrics call an object small or large. None for the areas of
            the boxes.
        image_size: height and width of the image in pixels, or None if they are not
            known without opening it.

    Raises:
        ValueError: if shapes or dtypes do not fit, or a box has no positive area.
    """

    image: ImageSource
    boxes: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int32]
    difficult: npt.NDArray[np.bool_]
    image_id: str
    crowd: npt.NDArray[np.bool_] | None = None
    area: npt.NDArray[np.float32] | None = None
    image_size: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        """Checks shapes, dtypes and areas, so that nothing behind a reader has to."""
        count = len(self.boxes)
        for name, shape, dtype in (
            ("boxes", (count, 4), np.float32),
            ("labels", (count,), np.int32),
            ("difficult", (count,), np.bool_),
            ("crowd", (count,), np.bool_),
            ("area", (count,), np.float32),
        ):
            value = getattr(self, name)
            if value is None and name in ("crowd", "area"):
                continue
            if value.shape != shape or value.dtype != dtype:
                raise ValueError(
                    f"{name} of {self.image_id} must be {np.dtype(dtype)} of shape"
                    f" {list(shape)}, got {value.dtype} of shape {list(value.shape)}"
                )
        if count and self.labels.min() < 1:
            raise ValueError(
                f"labels of {self.image_id} must be at least 1, got {self.labels.min()}"
            )
        # Written so that NaN fails as well.
        if not (self.boxes[:, 2:] > self.boxes[:, :2]).all():
            raise ValueError(f"boxes of {self.image_id} must each have an area above 0")
        if isinstance(self.image, np.ndarray):
            height, width = self.image.shape[:2]
            if self.image_size not in (None, (height, width)):
                raise ValueError(
                    f"image_size of {self.image_id} must be that of the image,"
                    f" {(height, width)}, got {self.image_size}"
                )
            object.__setattr__(self, "image_size", (height, width))

    def load_image(self) -> npt.NDArray[np.uint8]:
        """The image as RGB, uint8 `[H, W, 3]`.

        Raises:
            ImageError: if it cannot be read or decoded.
        """
        if isinstance(self.image, np.ndarray):
            return self.image
        if isinstance(self.image, EncodedImage):
            return decode_image(self.image.read(), str(self.image))
        if isinstance(self.image, bytes):
            return decode_image(self.image, f"image {self.image_id}")
        return load_image(self.image)


@dataclass(frozen=True, eq=False)
class Dataset:
    """Records with the names of their classes.

    Attributes:
        records: the images, in the order of the list they were read from.
        class_names: names in the order of the class ids; index 0 is `"background"`.
        dropped: number of objects that the reader left out, by cause.
        category_ids: number of every class in the files of the data set, as COCO's
            have them, with gaps and in any order; that of the background has no
            meaning. None where classes have no numbers.

    Raises:
        ValueError: if a label has no name, or a class no number or that of another.
    """

    records: Sequence[Record]
    class_names: tuple[str, ...]
    dropped: Mapping[str, int] = field(default_factory=dict)
    category_ids: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        """Checks that every label has a name and every class its number."""
        ids = self.category_ids
        if ids is not None and (
            len(ids) != self.num_classes or len(set(ids[1:])) < len(ids) - 1
        ):
            raise ValueError(
                f"category_ids must be {self.num_classes} numbers, different from the"
                f" second on, got {list(ids)}"
            )
        for record in self.records:
            if len(record.labels) and record.labels.max() >= len(self.class_names):
                raise ValueError(
                    f"label {record.labels.max()} of {record.image_id} has no name;"
                    f" there are {len(self.class_names)} class names"
                )

    def __len__(self) -> int:
        """Number of images."""
        return len(self.records)

    @property
    def num_classes(self) -> int:
        """Number of classes, the background counted."""
        return len(self.class_names)

    @property
    def num_objects(self) -> int:
        """Number of objects in all images."""
        return sum(len(record.labels) for record in self.records)
