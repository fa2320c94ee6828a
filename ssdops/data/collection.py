# SPDX-License-Identifier: Apache-2.0
"""From what an annotation says to records: the part that all readers share."""

from __future__ import annotations

import math
import os
import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from ssdops.data.records import Dataset, ImageSource, Record

BACKGROUND: Final = "background"

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


@dataclass
class _Columns:
    boxes: list[RelativeBox] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    difficult: list[bool] = field(default_factory=list)
    crowd: list[bool] = field(default_factory=list)
    area: list[float] = field(default_factory=list)


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
    dropped: Counter[str] = Counter()
    ids: set[str] = set()
    records = []
    for image in images:
        if image.image_id in ids:
            raise ValueError(
                f"{image.annotation}: there are two images {image.image_id!r}"
            )
        ids.add(image.image_id)
        columns = _Columns()
        for item in image.objects:
            if item.name not in class_id:
                raise ValueError(
                    f"{image.annotation}: class {item.name!r} is not one of"
                    f" {', '.join(foreground)}"
                )
            clipped, cause = _clip(item.box)
            if cause:
                dropped[cause] += 1
                continue
            columns.boxes.append(clipped)
            columns.labels.append(class_id[item.name])
            columns.difficult.append(item.difficult)
            columns.crowd.append(item.crowd)
            if item.area is not None:
                columns.area.append(item.area)
        records.append(_record(image, columns))
    if dropped:
        causes = ", ".join(f"{count} {cause}" for cause, count in dropped.items())
        warnings.warn(
            f"{source}: {sum(dropped.values())} objects left out: {causes}",
            DroppedObjectsWarning,
            stacklevel=3,
        )
    return Dataset(records, (BACKGROUND, *foreground), dict(dropped))


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


def _record(image: AnnotatedImage, columns: _Columns) -> Record:
    has_areas = len(columns.area) == len(columns.boxes) > 0
    area = np.array(columns.area, np.float32) if has_areas else None
    crowd: npt.NDArray[np.bool_] | None = None
    if any(columns.crowd):
        crowd = np.array(columns.crowd, bool)
    return Record(
        image=image.image,
        boxes=np.array(columns.boxes, np.float32).reshape(-1, 4),
        labels=np.array(columns.labels, np.int32),
        difficult=np.array(columns.difficult, bool),
        image_id=image.image_id,
        crowd=crowd,
        area=area,
        image_size=image.image_size,
    )


def _clip(box: RelativeBox) -> tuple[RelativeBox, str]:
    """The box inside the image, and why it cannot be used (empty if it can)."""
    if not all(math.isfinite(value) for value in box):
        return box, "with a corner that is not finite"
    if box[2] <= box[0] or box[3] <= box[1]:
        return box, "degenerate (no width or no height)"
    ymin, xmin, ymax, xmax = (min(max(value, 0.0), 1.0) for value in box)
    # As the record stores them: a sliver may vanish in float32.
    lower = np.array([ymin, xmin], np.float32)
    upper = np.array([ymax, xmax], np.float32)
    if not (upper > lower).all():
        return box, "outside the image"
    return (ymin, xmin, ymax, xmax), ""
