# SPDX-License-Identifier: Apache-2.0
"""Inputs of `encode_boxes` and `decode_boxes`, ordinary and hard."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from support.cases import random_boxes

Array = npt.NDArray[Any]


def ordinary(rng: np.random.Generator, *shape: int, dtype: Any) -> tuple[Array, ...]:
    """`(boxes, offsets, anchors)` of shapes `[*shape, 4]` and `[shape[-1], 4]`."""
    boxes = random_boxes(rng, *shape, dtype=dtype)
    offsets = rng.normal(0, 2, (*shape, 4)).astype(dtype)
    anchors = random_boxes(rng, shape[-1], dtype=dtype)
    return boxes, offsets, anchors


def unencodable(dtype: Any) -> tuple[Array, Array]:
    """`(boxes [N, 4], anchors [N, 4])` without an encoding, all but row 0."""
    inf, nan, big = np.inf, np.nan, float(np.finfo(dtype).max)
    unit = [0, 0, 1, 1]
    tiny = 2.0 ** (-100 if dtype == np.float32 else -1000)
    huge = 1 / tiny
    return _columns(
        dtype,
        (unit, unit),
        ([0, 0, 0, 1], unit),
        ([0, 0, 1, 0], unit),
        ([1, 0, 0, 1], unit),
        ([0, 1, 1, 0], unit),
        (unit, [0, 0, 0, 1]),
        (unit, [0, 0, 1, 0]),
        (unit, [1, 1, 0, 0]),
        (unit, [nan, 0, 1, 1]),
        ([0, nan, 1, 1], unit),
        ([0, 0, inf, 1], unit),
        ([-inf, 0, 1, 1], unit),
        (unit, [0, -inf, 1, inf]),
        ([-big, 0, big, 1], unit),  # an infinite height
        ([0, 0, huge, 1], [0, 0, tiny, 1]),  # an infinite ratio
        ([0, 0, tiny, 1], [0, 0, huge, 1]),  # a ratio of 0
        ([big / 4, 0, big / 2, 1], unit),  # an offset beyond the largest number
    )


def overflowing(dtype: Any) -> tuple[Array, Array]:
    """`(offsets [N, 4], anchors [N, 4])` with steps beyond the largest number."""
    big = float(np.finfo(dtype).max)
    ln_max = 443.6 if dtype == np.float32 else 3548.9
    unit = [0, 0, 1, 1]
    return _columns(
        dtype,
        ([0, 0, 0, 0], unit),
        ([0, 0, ln_max + 1, 0], unit),
        ([0, 0, 0, 2 * ln_max], unit),
        ([0, 0, big, big], unit),
        ([0, 0, -big, -2 * ln_max], unit),
        ([big, -big, 0, 0], unit),
        ([big, -big, big, big], unit),
        ([big, 0, 0, 0], [0, 0, 100, 1]),
        ([0, -big, 0, 0], [0, 0, 1, 100]),
        ([0, 0, ln_max - 10, 0], [0, 0, 1e6, 1]),
        ([1, -2, 1, -1], [1, 1, 0, 0]),  # inverted
        ([1, -2, 1, -1], [0.5, 0.5, 0.5, 0.5]),  # empty
        ([big, big, big, big], [0.5, 0.5, 0.5, 0.5]),
        ([big, 1, big, 1], [1, 1, 0, 0]),
    )


def _columns(dtype: Any, *rows: tuple[Any, Any]) -> tuple[Array, Array]:
    first, second = zip(*rows, strict=True)
    return np.array(first, dtype), np.array(second, dtype)
