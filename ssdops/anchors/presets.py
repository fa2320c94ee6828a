# SPDX-License-Identifier: Apache-2.0
"""The grids of published detectors, by name."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from ssdops.anchors.checked import size_pair
from ssdops.anchors.grid import AnchorGrid
from ssdops.anchors.levels import AnchorLevel, ShapeLevel
from ssdops.anchors.recipes import caffe_grid, object_detection_grid

__all__ = [
    "anchor_grid",
    "anchor_grid_names",
    "mobilenet_ssd_voc",
    "ssd300_coco",
    "ssd300_face",
    "ssd300_mobilenet_v1_coco",
    "ssd300_nvidia",
    "ssd300_torchvision",
    "ssd300_voc",
    "ssd512_coco",
    "ssd512_voc",
    "ssd_small",
    "ssdlite320_torchvision",
    "within_image",
]


def ssd300_voc() -> AnchorGrid:
    """Returns the grid of the SSD300 trained on Pascal VOC, 8732 anchors."""
    return caffe_grid(
        300, (38, 19, 10, 5, 3, 1), (8, 16, 32, 64, 100, 300), (10, 20), 20, "trunc"
    )


def ssd300_coco() -> AnchorGrid:
    """Returns the grid of the SSD300 trained on COCO, 8732 anchors.

    Models trained on COCO and fine-tuned on VOC use this grid as well.
    """
    return caffe_grid(
        300, (38, 19, 10, 5, 3, 1), (8, 16, 32, 64, 100, 300), (7, 15), 15, "trunc"
    )


def ssd300_torchvision() -> AnchorGrid:
    """Returns the grid of torchvision's `ssd300_vgg16`, 8732 anchors.

    It is that of SSD300 trained on COCO, except that no side is longer than the image:
    this concerns the last two anchors.
    """
    return within_image(ssd300_coco())


def within_image(grid: AnchorGrid) -> AnchorGrid:
    """Returns a grid whose anchors have no side that is longer than the image.

    Their centres stay, as in the programs of PyTorch.
    """
    levels: list[AnchorLevel | ShapeLevel] = []
    for level in grid.levels:
        sides = np.minimum(level.cell_shapes(grid.size_rounding), grid.image_size)
        if (sides == level.cell_shapes("none")).all():
            levels.append(level)
            continue
        shapes = tuple((float(height), float(width)) for height, width in sides)
        levels.append(ShapeLevel(level.feature_size, shapes, level.step))
    return replace(grid, levels=tuple(levels), size_rounding="none")


def ssdlite320_torchvision() -> AnchorGrid:
    """Returns the grid of torchvision's `ssdlite320_mobilenet_v3_large`, 3234 anchors.

    Scales are spaced evenly from 0.2 to 0.95 of the image. Per cell: the square of the
    scale, that of the geometric mean with the next scale, and boxes of ratio 2, 1/2, 3
    and 1/3; no side is longer than the image.
    """
    side = 320
    maps = (20, 10, 5, 3, 2, 1)
    scales = [0.2 + 0.75 * index / (len(maps) - 1) for index in range(len(maps))]
    levels = []
    for cells, scale, following in zip(maps, scales, [*scales[1:], 1.0], strict=True):
        middle = math.sqrt(scale * following)
        shapes = [(scale, scale), (middle, middle)]
        for ratio in (2.0, 3.0):
            root = math.sqrt(ratio)
            shapes += [(scale / root, scale * root), (scale * root, scale / root)]
        levels.append(
            ShapeLevel(
                feature_size=(cells, cells),
                shapes=tuple(
                    (side * min(height, 1.0), side * min(width, 1.0))
                    for height, width in shapes
                ),
            )
        )
    return AnchorGrid((side, side), tuple(levels), size_rounding="none")


def ssd300_nvidia() -> AnchorGrid:
    """Returns the grid of NVIDIA's SSD300 on ResNets, 8732 anchors.

    It is that of torchvision, except that no centre is beyond the image: the last row
    and column of the level of 10 x 10 cells, 32 pixels apart, are moved to its border.
    """
    return replace(ssd300_torchvision(), clip_centers=True)


_MAPS_512 = (64, 32, 16, 8, 4, 2, 1)
_STEPS_512 = (8, 16, 32, 64, 128, 256, 512)


def ssd512_voc(size_rounding: str = "trunc") -> AnchorGrid:
    """Returns the grid of the SSD512 trained on Pascal VOC, 24564 anchors.

    Args:
        size_rounding: "trunc" for the released weights, "none" for the sizes of the
            paper without the rounding of the original code.
    """
    return caffe_grid(512, _MAPS_512, _STEPS_512, (7, 15), 15, size_rounding)


def ssd512_coco(size_rounding: str = "trunc") -> AnchorGrid:
    """Returns the grid of the SSD512 trained on COCO, 24564 anchors.

    Args:
        size_rounding: "trunc" for the released weights, "none" for the sizes of the
            paper without the rounding of the original code.
    """
    return caffe_grid(512, _MAPS_512, _STEPS_512, (4, 10), 10, size_rounding)


def ssd300_mobilenet_v1_coco() -> AnchorGrid:
    """Returns the grid of the COCO MobileNet-V1 SSD, 1917 anchors.

    It is that of `object_detection_grid` for 300 x 300 pixels.
    """
    return object_detection_grid((300, 300))


def ssd300_face() -> AnchorGrid:
    """Returns the grid of OpenCV's face detector, 8892 anchors.

    It is that of SSD300 on Pascal VOC on larger last maps, whose cells still are as far
    apart as before: most of them are outside the image.
    """
    grid = ssd300_voc()
    levels = tuple(
        replace(level, feature_size=(cells, cells))
        for level, cells in zip(grid.levels, (38, 19, 10, 5, 5, 5), strict=True)
    )
    return replace(grid, levels=levels)


def mobilenet_ssd_voc() -> AnchorGrid:
    """Returns the grid of the Caffe MobileNet-SSD trained on Pascal VOC, 1917 anchors.

    Cells are as far apart as the size of the feature map says, which does not divide
    that of the image.
    """
    sides = (60, 105, 150, 195, 240, 285, 300)
    return AnchorGrid(
        image_size=(300, 300),
        levels=tuple(
            AnchorLevel(
                feature_size=(cells, cells),
                min_sizes=(sides[index],),
                # The first level has neither a second square nor the ratio 3.
                max_sizes=(sides[index + 1],) if index else (),
                aspect_ratios=(2, 3) if index else (2,),
            )
            for index, cells in enumerate((19, 10, 5, 3, 2, 1))
        ),
    )


def ssd_small(image_size: tuple[int, int] = (128, 128)) -> AnchorGrid:
    """Returns the grid of the small from-scratch detector.

    Levels have strides 8, 16, 32, ... as long as four strides fit into the shorter
    side. A level of stride `s` holds squares of 2 s and 2.83 s (the geometric mean of
    2 s and 4 s) pixels and boxes of ratio 2 and 1/2 with the area of the smaller
    square, so that neighbouring levels continue one geometric series of sizes.

    Args:
        image_size: Height and width of the input, multiples of 32.

    Raises:
        ValueError: If a side is not a multiple of 32.
    """
    height, width = size_pair("image_size", image_size)
    if height % 32 or width % 32:
        raise ValueError(f"image_size must be multiples of 32, got ({height}, {width})")
    levels = []
    stride = 8
    while 4 * stride <= min(height, width):
        levels.append(
            AnchorLevel(
                feature_size=(-(-height // stride), -(-width // stride)),
                min_sizes=(2 * stride,),
                max_sizes=(4 * stride,),
                aspect_ratios=(2,),
            )
        )
        stride *= 2
    return AnchorGrid((height, width), tuple(levels), size_rounding="none")


_GRIDS: dict[str, Callable[[], AnchorGrid]] = {
    "ssd300_voc": ssd300_voc,
    "ssd300_coco": ssd300_coco,
    "ssd300_torchvision": ssd300_torchvision,
    "ssd300_nvidia": ssd300_nvidia,
    "ssd512_voc": ssd512_voc,
    "ssd512_coco": ssd512_coco,
    "ssd300_mobilenet_v1_coco": ssd300_mobilenet_v1_coco,
    "mobilenet_ssd_voc": mobilenet_ssd_voc,
    "ssd300_face": ssd300_face,
    "ssdlite320_torchvision": ssdlite320_torchvision,
    "ssd_small": ssd_small,
}


def anchor_grid_names() -> tuple[str, ...]:
    """Returns the names that `anchor_grid` knows."""
    return tuple(_GRIDS)


def anchor_grid(name: str) -> AnchorGrid:
    """Returns the grid called `name`.

    Raises:
        ValueError: For an unknown name; the message lists the known ones.
    """
    if name not in _GRIDS:
        raise ValueError(f"unknown anchor grid {name!r}; known are {', '.join(_GRIDS)}")
    return _GRIDS[name]()
