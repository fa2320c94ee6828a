# SPDX-License-Identifier: Apache-2.0
"""A data set that is learnt in seconds."""

from __future__ import annotations

import numpy as np

from ssdops.data import Dataset, Record

NAMES = ("background", "red", "blue")


def make_dataset(count: int = 6) -> Dataset:
    """Grey pictures with one red and, in every second one, one blue square."""
    rng = np.random.default_rng(0)
    records = []
    for i in range(count):
        image = np.full((64, 64, 3), 120, np.uint8)
        boxes, labels = [], []
        for label, channel in ((1, 0), (2, 2))[: 1 + i % 2]:
            side = int(rng.integers(16, 26))
            top = int(rng.integers(0, 64 - side))
            left = int(rng.integers(0, 6)) + (32 if label == 2 else 0)
            image[top : top + side, left : left + side] = 0
            image[top : top + side, left : left + side, channel] = 255
            boxes.append([top, left, top + side, left + side])
            labels.append(label)
        records.append(
            Record(
                image=image,
                boxes=np.array(boxes, np.float32) / 64,
                labels=np.array(labels, np.int32),
                difficult=np.zeros(len(labels), bool),
                image_id=f"picture{i}",
            )
        )
    return Dataset(records, NAMES)
