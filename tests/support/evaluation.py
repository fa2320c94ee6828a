# SPDX-License-Identifier: Apache-2.0
"""Small data sets and detections for the tests of metrics."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ssdops.data import Dataset, Record
from ssdops.evaluation import ImageDetections

NAMES = ("background", "cat", "dog", "fox")


def make_record(
    image_id: str,
    boxes: Any = (),
    labels: Any = (),
    *,
    difficult: Any = None,
    crowd: Any = None,
    area: Any = None,
    size: tuple[int, int] = (100, 200),
) -> Record:
    """A record of an image that is not there, of height and width `size`."""
    count = len(labels)
    return Record(
        image=Path(f"{image_id}.jpg"),
        boxes=np.array(boxes, np.float32).reshape(-1, 4),
        labels=np.array(labels, np.int32),
        difficult=np.array([False] * count if difficult is None else difficult, bool),
        image_id=image_id,
        crowd=None if crowd is None else np.array(crowd, bool),
        area=None if area is None else np.array(area, np.float32),
        image_size=size,
    )


def found(image_id: str, *rows: tuple[Any, float, int]) -> ImageDetections:
    """Detections from rows (box, score, class)."""
    boxes, scores, classes = zip(*rows, strict=True) if rows else ((), (), ())
    return ImageDetections.from_lists(image_id, boxes, scores, classes)


def random_dataset(
    rng: np.random.Generator, images: int
) -> tuple[Dataset, list[ImageDetections]]:
    """Objects and detections near them, with equal scores, difficult and crowd."""
    records, detections = [], []
    for i in range(images):
        count = int(rng.integers(0, 6))
        top_left = rng.uniform(0, 0.7, (count, 2))
        size = rng.uniform(0.05, 0.3, (count, 2))
        boxes = np.concatenate([top_left, top_left + size], axis=1)
        labels = rng.integers(1, len(NAMES), count)
        record = make_record(
            str(i + 1),
            boxes,
            labels,
            difficult=rng.random(count) < 0.15,
            crowd=rng.random(count) < 0.1,
            size=(int(rng.integers(50, 400)), int(rng.integers(50, 400))),
        )
        near = np.repeat(boxes, 3, axis=0) + rng.normal(0, 0.03, (3 * count, 4))
        near[:, 2:] = np.maximum(near[:, 2:], near[:, :2] + 0.001)
        rows = len(near)
        claimed = np.where(
            rng.random(rows) < 0.8, np.repeat(labels, 3), rng.integers(1, 4, rows)
        )
        scores = rng.integers(1, 1000, rows) / 1000
        records.append(record)
        detections.append(
            ImageDetections.from_lists(record.image_id, near, scores, claimed)
        )
    return Dataset(records, NAMES), detections
