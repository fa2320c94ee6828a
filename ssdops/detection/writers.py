# SPDX-License-Identifier: Apache-2.0
"""Files of what was found: COCO's results, and Pascal VOC's folders."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ssdops.data import Record
from ssdops.data import write_voc as write_voc_records
from ssdops.detection.result import DetectedImage
from ssdops.evaluation.result_files import coco_entries, write_coco_entries

__all__ = ["write_coco", "write_voc"]


def write_coco(
    file: str | os.PathLike[str],
    results: Iterable[DetectedImage],
    category_ids: Mapping[int, int] | None = None,
) -> None:
    """Writes what was found as COCO's results, a JSON list with one object each.

    Args:
        file: An old one is replaced.
        results: Of any number of images. An image is called as its file, without the
            suffix, or by its number.
        category_ids: `category_id` of every class id; None for the class ids.

    Raises:
        OSError: If the place cannot be written.
        ValueError: If a class has no category.
    """
    entries: list[dict[str, Any]] = []
    for result in results:
        name = result.source if isinstance(result.source, int) else result.stem()
        for label in set(result.labels.tolist()):
            if category_ids is not None and label not in category_ids:
                raise ValueError(f"class {label} has no category_id")
        entries += coco_entries(
            str(name),
            result.boxes_pixels.astype(np.float64),
            result.scores,
            [
                label if category_ids is None else category_ids[label]
                for label in result.labels.tolist()
            ],
        )
    write_coco_entries(file, entries)


def write_voc(
    folder: str | os.PathLike[str], results: Iterable[DetectedImage], split: str
) -> None:
    """Writes what was found as a Pascal VOC folder, to correct by hand and train on.

    Args:
        folder: Made if it is not there; other splits in it stay as they are.
        results: Of any number of images; those that could not be read are left out.
        split: Name of the list in `ImageSets/Main`.

    Raises:
        OSError: If the place cannot be written.
        ssdops.image_io.ImageError: If an image cannot be read.
        ValueError: If two images have the same name, or one has spaces.
    """
    records: list[Record] = []
    names: tuple[str, ...] = ()
    seen: set[str] = set()
    for result in results:
        if result.error is not None:
            continue
        name = result.stem()
        if name in seen:
            raise ValueError(f"there are two images called {name}")
        seen.add(name)
        names = result.class_names
        # A box of no size is none of an object.
        sides = result.boxes[:, 2:] - result.boxes[:, :2]
        used = (sides > 0).all(axis=-1)
        records.append(
            Record(
                image=(
                    Path(result.source)
                    if isinstance(result.source, str)
                    else result.image()
                ),
                boxes=result.boxes[used],
                labels=result.labels[used],
                difficult=np.zeros(int(used.sum()), bool),
                image_id=name,
            )
        )
    write_voc_records(Path(folder), records, split, names)
