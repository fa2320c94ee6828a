# SPDX-License-Identifier: Apache-2.0
"""Grids by rule: that of the official scripts and that of the Object Detection API."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Final

from ssdops.anchors.checked import size_pair
from ssdops.anchors.grid import MAX_LEVELS, AnchorGrid
from ssdops.anchors.levels import AnchorLevel, ShapeLevel

__all__ = ["caffe_grid", "object_detection_grid", "recipe_grid", "recipe_sizes"]

# Of the published configurations of the Object Detection API, as they write them.
_SCALES: Final = (0.2, 0.35, 0.5, 0.65, 0.8, 0.95, 1.0)
_RATIOS: Final = (1.0, 2.0, 0.5, 3.0, 0.3333)
_FIRST_STRIDE: Final = 16


def recipe_sizes(
    image_side: int,
    levels: int,
    first: tuple[float, float],
    min_ratio: int,
    max_ratio: int,
) -> list[tuple[float, float]]:
    """Returns (min, max) sizes in pixels per level by the rule of the official scripts.

    Args:
        image_side: Side of the square input in pixels.
        levels: Number of feature levels, at least 3.
        first: Minimum and maximum of the first level in percent of the side.
        min_ratio: Minimum size of the second level in percent.
        max_ratio: Upper end of the range of minimum sizes in percent.
    """
    if levels < 3:
        raise ValueError(f"levels must be at least 3, got {levels}")
    stride = (max_ratio - min_ratio) // (levels - 2)
    percents = [first] + [
        (ratio, ratio + stride) for ratio in range(min_ratio, max_ratio + 1, stride)
    ]
    return [(image_side * low / 100, image_side * high / 100) for low, high in percents]


def caffe_grid(
    image_side: int,
    maps: tuple[int, ...],
    steps: tuple[int, ...],
    first: tuple[float, float],
    min_ratio: int,
    size_rounding: str,
) -> AnchorGrid:
    """Builds one of the published grids; the ratio 3 is left out on three levels."""
    sizes = recipe_sizes(image_side, len(maps), first, min_ratio, 90)
    plain = {0, len(maps) - 2, len(maps) - 1}
    return AnchorGrid(
        image_size=(image_side, image_side),
        levels=tuple(
            AnchorLevel(
                feature_size=(cells, cells),
                step=(step, step),
                min_sizes=(low,),
                max_sizes=(high,),
                aspect_ratios=(2,) if index in plain else (2, 3),
            )
            for index, (cells, step, (low, high)) in enumerate(
                zip(maps, steps, sizes, strict=True)
            )
        ),
        size_rounding=size_rounding,
    )


def recipe_grid(
    image_size: tuple[int, int], feature_sizes: Sequence[tuple[int, int]]
) -> AnchorGrid:
    """Returns the grid of an SSD on any feature maps, by the rule of the official ones.

    Sizes are those of SSD300 on Pascal VOC, 10 to 90 percent, of the shorter side. The
    first and the last two levels have the ratios 2 and 1/2 beside the squares, the
    others 3 and 1/3, too. Cells are as far apart as the size of the map says.

    Args:
        image_size: Height and width of the input in pixels.
        feature_sizes: Rows and columns of the feature maps, at least three.

    Raises:
        ValueError: For fewer than three or more than 64 maps.
    """
    height, width = size_pair("image_size", image_size)
    count = len(feature_sizes)
    if not 3 <= count <= MAX_LEVELS:
        raise ValueError(f"feature_sizes must list 3 to {MAX_LEVELS} maps, got {count}")
    sizes = recipe_sizes(min(height, width), count, (10, 20), 20, 90)
    plain = {0, count - 2, count - 1}
    return AnchorGrid(
        image_size=(height, width),
        levels=tuple(
            AnchorLevel(
                feature_size=cells,
                min_sizes=(low,),
                max_sizes=(high,),
                aspect_ratios=(2,) if index in plain else (2, 3),
            )
            # The rule can give more sizes than there are maps.
            for index, (cells, (low, high)) in enumerate(
                zip(feature_sizes, sizes, strict=False)
            )
        ),
        size_rounding="none",
    )


def object_detection_grid(image_size: tuple[int, int]) -> AnchorGrid:
    """Returns the grid of SSD on MobileNet in TensorFlow's Object Detection API.

    Six levels, the first of a sixteenth of the image, each further of half of the one
    before, rounded up. Scales are spaced evenly from 0.2 to 0.95 of the shorter side,
    ratios are 1, 2, 1/2, 3, 0.3333 (as its published configurations have it), and then
    there is the square between this scale and the next; but on the first level a square
    of 0.1 and ratios 2 and 1/2 of 0.2.

    Args:
        image_size: Height and width of the input.

    Raises:
        ValueError: If these are not two positive integers up to 16384.
    """
    height, width = size_pair("image_size", image_size)
    side = min(height, width)
    cells = (-(-height // _FIRST_STRIDE), -(-width // _FIRST_STRIDE))
    levels: list[ShapeLevel] = []
    for scale, following in pairwise(_SCALES):
        boxes = [(scale, ratio) for ratio in _RATIOS]
        boxes.append((math.sqrt(scale * following), 1.0))
        if not levels:
            boxes = [(0.1, 1.0), (scale, 2.0), (scale, 0.5)]
        shapes = tuple(
            (side * size / math.sqrt(ratio), side * size * math.sqrt(ratio))
            for size, ratio in boxes
        )
        levels.append(ShapeLevel(feature_size=cells, shapes=shapes))
        cells = (-(-cells[0] // 2), -(-cells[1] // 2))
    return AnchorGrid((height, width), tuple(levels), size_rounding="none")
