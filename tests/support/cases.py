# SPDX-License-Identifier: Apache-2.0
"""Inputs of the box ops: seeded, in corners (ymin, xmin, ymax, xmax)."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

# 0, 1, primes, and one to either side of the usual vector widths.
SIZES = (0, 1, 2, 7, 15, 16, 17, 31, 32, 33, 61)


def random_boxes(rng: np.random.Generator, *shape: int, dtype: Any) -> Array:
    """Boxes `[*shape, 4]` of positive size, some of them reaching over [0, 1]."""
    centre = rng.uniform(0, 1, (*shape, 2))
    size = np.exp(rng.uniform(np.log(0.02), np.log(0.9), (*shape, 2)))
    return np.concatenate([centre - size / 2, centre + size / 2], -1).astype(dtype)


def quantised_boxes(
    rng: np.random.Generator, *shape: int, dtype: Any, steps: int = 8
) -> Array:
    """Boxes `[*shape, 4]` on a grid of `1 / steps`: equal IoUs, empty and inverted."""
    return (rng.integers(0, steps + 1, (*shape, 4)) / steps).astype(dtype)


def special_boxes(dtype: Any) -> Array:
    """Boxes `[N, 4]` in every relation: equal, touching, nested, empty, not finite.

    No IoU among them is a subnormal number, which TensorFlow flushes to zero.
    """
    inf, nan, big = np.inf, np.nan, float(np.finfo(dtype).max)
    return np.array(
        [
            [0.0, 0.0, 1.0, 1.0],
            [0.0, 0.0, 1.0, 1.0],
            [0.25, 0.25, 0.75, 0.75],
            [0.0, 0.0, 0.5, 1.0],
            [0.5, 0.0, 1.0, 1.0],
            [0.0, 1.0, 1.0, 2.0],
            [1.0, 1.0, 2.0, 2.0],
            [0.25, 0.0, 0.25, 1.0],
            [0.0, 0.25, 1.0, 0.25],
            [0.25, 0.25, 0.25, 0.25],
            [0.75, 0.75, 0.25, 0.25],
            [0.75, 0.25, 0.25, 0.75],
            [-1.0, -1.0, 2.0, 2.0],
            [-0.0, -0.0, 1.0, 1.0],
            [0.0, 0.0, 1e-7, 1e-7],
            [0.0, 0.0, 0.3, 0.7],
            [0.1, 0.2, 0.4, 0.9],
            [nan, 0.0, 1.0, 1.0],
            [0.0, 0.0, 1.0, nan],
            [nan, nan, nan, nan],
            [0.0, 0.0, inf, 1.0],
            [0.0, 0.0, inf, inf],
            [-inf, -inf, inf, inf],
            [inf, inf, inf, inf],
            [-inf, 0.0, 0.5, 1.0],
            [-big, -big, big, big],
            [0.0, 0.0, big, big],
            [0.0, 0.0, 1e20, 1.0],
        ],
        dtype,
    )


def tied_scores(
    rng: np.random.Generator, *shape: int, dtype: Any, steps: int = 4
) -> Array:
    """Scores `[*shape]` of only `steps + 1` different values in [0, 1]."""
    return (rng.integers(0, steps + 1, shape) / steps).astype(dtype)


def random_labels(rng: np.random.Generator, *shape: int) -> Array:
    """Labels of ground truth: classes, padding and ignore regions in any order."""
    return rng.choice([-1, 0, 1, 2, 3], shape, p=[0.15, 0.15, 0.3, 0.2, 0.2]).astype(
        np.int32
    )


def ssd300_anchors(dtype: Any = np.float32) -> Array:
    """The 8732 anchors `[8732, 4]` of SSD300 on VOC."""
    from ssdops.anchors import ssd300_voc

    return np.asarray(ssd300_voc().boxes(), dtype)


def beside(value: Any) -> tuple[float, float, float]:
    """The number one ULP below, the number, and the number one ULP above."""
    kind = value.dtype.type
    return (
        float(np.nextafter(value, kind(-np.inf))),
        float(value),
        float(np.nextafter(value, kind(np.inf))),
    )
