# SPDX-License-Identifier: Apache-2.0
"""Small data sets to write and read, and what it means that two are the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from ssdops.data import Dataset, Record

NAMES = ("background", "cat", "Hündin 犬", "never seen")
WIDTH, HEIGHT = 37, 23


def make_image(path: Path, size: tuple[int, int] = (HEIGHT, WIDTH)) -> Path:
    """An image file; width and height differ so that mixing them up shows."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size[::-1], (200, 30, 60)).save(path)
    return path


def make_record(image_id: str, count: int, image=None, seed: int = 0, **changes):
    """A record with random boxes; every second object is difficult."""
    rng = np.random.default_rng((seed, count))
    low = rng.uniform(0, 0.5, (count, 2))
    boxes = np.concatenate([low, low + rng.uniform(0.1, 0.5, (count, 2))], axis=1)
    if image is None:
        image = rng.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    values = {
        "image": image,
        "boxes": boxes.astype(np.float32),
        "labels": (1 + np.arange(count) % 2).astype(np.int32),
        "difficult": np.arange(count) % 2 == 1,
        "image_id": image_id,
        "image_size": (HEIGHT, WIDTH),
    }
    return Record(**{**values, **changes})


def make_dataset() -> Dataset:
    """Images in memory: none, one and many objects; crowds and areas."""
    return Dataset(
        [
            make_record("7", 0),
            make_record("3", 1, area=np.array([12.25], np.float32)),
            make_record(
                "12",
                5,
                crowd=np.array([0, 0, 1, 0, 1], bool),
                area=np.arange(1, 6).astype(np.float32),
            ),
        ],
        NAMES,
    )


def assert_same(found: Dataset, expected: Dataset) -> None:
    """Names, ids, sizes and objects are equal, bit by bit."""
    assert found.class_names == expected.class_names
    assert len(found) == len(expected)
    for one, other in zip(found.records, expected.records, strict=True):
        assert one.image_id == other.image_id
        assert one.image_size == other.image_size
        for name in ("boxes", "labels", "difficult", "crowd", "area"):
            left, right = getattr(one, name), getattr(other, name)
            assert (left is None) == (right is None), f"{name} of {one.image_id}"
            if left is not None:
                np.testing.assert_array_equal(left, right, name)
