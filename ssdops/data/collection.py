# SPDX-License-Identifier: Apache-2.0
"""From what an annotation says to records: the part that all readers share."""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from ssdops.data.records import Dataset, ImageSource, Record

BACKGROUND: Final = "background"

# Why a box cannot be used; 0 if it can.
_CAUSES: Final = {
    1: "with a corner that is not finite",
    2: "degenerate (no width or no height)",
    3: "outside the image",
}

RelativeBox: TypeAlias = tuple[float, float, float, float]


class DroppedObjectsWarning(UserWarning):
    """Some objects of a data set cannot be used; says how many and why."""


@dataclass(frozen=True)
class AnnotatedObject:
    """An object as a file describes it, usable or not.

    Attributes:
        name: of its class.
        box: `(ymin, xmin, ymax, xmax)` relative to the image.
        difficult: as in `Record`.
        crowd: as in `Record`.
        area: pixels that it covers; None for the area of the box.
    """

    name: str
    box: RelativeBox
    difficult: bool = False
    crowd: bool = False
    area: float | None = None


@dataclass(frozen=True)
class AnnotatedImage:
    """An image as a file describes it.

    Attributes:
        image: path or pixels, as in `Record`.
        image_id: unique in the data set.
        objects: in the order that decides ties in matching.
        annotation: the file that says so, for messages.
        image_size: height and width in pixels, if the file tells.
    """

    image: ImageSource
    image_id: str
    objects: Sequence[AnnotatedObject]
    annotation: Path
    image_size: tuple[int, int] | None = None


def collect_dataset(
    images: Sequence[AnnotatedImage],
    class_names: Sequence[str] | None,
    source: Path,
) -> Dataset:
    """The data set of annotated images.

    Objects whose box is degenerate, not finite or outside the image are left out,
    counted by cause in `Dataset.dropped` and reported in one `DroppedObjectsWarning`. A
    box that reaches over the border is clipped to the image.

    Args:
        images: in the order of the records.
        class_names: names of all classes, with or without `"background"` in front;
            None for the names that occur, sorted.
        source: folder or file of the data set, for messages.

    Raises:
        ValueError: if an object has a class that is not named, or two names or two
            image ids are the same.
    """
    foreground = _foreground(images, class_names)
    class_id = {name: number for number, name in enumerate(foreground, start=1)}
    ids: set[str] = set()
    labels = []
    for image in images:
        if image.image_id in ids:
            raise ValueError(
                f"{image.annotation}: there are two images {image.image_id!r}"
            )
        ids.add(image.image_id)
        for item in image.objects:
            if item.name not in class_id:
                raise ValueError(
                    f"{image.annotation}: class {item.name!r} is not one of"
                    f" {', '.join(foreground)}"
                )
            labels.append(class_id[item.name])
    records, dropped = _records(images, np.array(labels, np.int32))
    if dropped:
        causes = ", ".join(f"{count} {cause}" for cause, count in dropped.items())
        warnings.warn(
            f"{source}: {sum(dropped.values())} objects left out: {causes}",
            DroppedObjectsWarning,
            stacklevel=3,
        )
    return Dataset(records, (BACKGROUND, *foreground), dropped)


def read_class_names(file: str | os.PathLike[str]) -> tuple[str, ...]:
    """Names of classes from a text file, one a line; empty lines do not count.

    Raises:
        OSError: if the file cannot be read.
        ValueError: if it holds no name, the same one twice, or is no text.
    """
    try:
        lines = Path(file).read_text("utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{file}: not a text file in UTF-8: {error}") from None
    names = tuple(line.strip() for line in lines if line.strip())
    if not names:
        raise ValueError(f"{file}: no class names in it")
    if len(set(names)) < len(names):
        twice = next(name for name, count in Counter(names).items() if count > 1)
        raise ValueError(f"{file}: the class name {twice!r} occurs twice")
    return names


def _foreground(
    images: Iterable[AnnotatedImage], class_names: Sequence[str] | None
) -> list[str]:
    if class_names is None:
        found = {item.name for image in images for item in image.objects}
        return sorted(found - {BACKGROUND})
    names = [str(name) for name in class_names]
    if names and names[0] == BACKGROUND:
        names = names[1:]
    if len(set(names)) < len(names):
        raise ValueError(f"class_names must differ, got {names}")
    return names


def _records(
    images: Sequence[AnnotatedImage], labels: npt.NDArray[np.int32]
) -> tuple[list[Record], dict[str, int]]:
    """Records of the usable objects, and the number of others by cause.

    All objects of the data set are looked at together: large data sets have a million.
    """
    objects = [item for image in images for item in image.objects]
    boxes = np.array([item.box for item in objects], np.float64).reshape(-1, 4)
    boxes32, causes = _clip(boxes)
    usable = causes == 0
    boxes32, labels = boxes32[usable], labels[usable]
    difficult = np.array([item.difficult for item in objects], bool)[usable]
    crowd = np.array([item.crowd for item in objects], bool)[usable]
    has_area = np.array([item.area is not None for item in objects], bool)[usable]
    area = np.array([item.area or 0 for item in objects], np.float32)[usable]

    ends = np.cumsum([len(image.objects) for image in images], dtype=np.int64)
    kept = np.concatenate([[0], np.cumsum(usable)])[ends].tolist()
    records = []
    start = 0
    for image, stop in zip(images, kept, strict=True):
        here = slice(start, stop)
        areas_known = stop > start and has_area[here].all()
        records.append(
            Record(
                image=image.image,
                boxes=boxes32[here],
                labels=labels[here],
                difficult=difficult[here],
                image_id=image.image_id,
                crowd=crowd[here] if crowd[here].any() else None,
                area=area[here] if areas_known else None,
                image_size=image.image_size,
            )
        )
        start = stop
    counts = Counter(causes[~usable].tolist())
    return records, {_CAUSES[cause]: count for cause, count in counts.items()}


def _clip(
    boxes: npt.NDArray[np.float64],
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Boxes `[N, 4]` inside the image, and why one cannot be used: see `_CAUSES`."""
    # As the record stores them: a sliver may vanish in float32.
    clipped = np.clip(boxes, 0.0, 1.0).astype(np.float32)
    causes = np.zeros(len(boxes), np.int64)
    causes[~(clipped[:, 2:] > clipped[:, :2]).all(1)] = 3
    causes[(boxes[:, 2:] <= boxes[:, :2]).any(1)] = 2
    causes[~np.isfinite(boxes).all(1)] = 1
    return clipped, causes
