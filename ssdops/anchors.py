# SPDX-License-Identifier: Apache-2.0
"""Grids of anchors (default boxes): rules, the published grids, and their boxes.

A grid is a list of feature levels. Every cell of a level carries the same shapes,
centred on the cell; the order of the anchors is level, row, column, shape, the order
in which the convolutional heads emit their predictions.

Two kinds of level exist. `AnchorLevel` lists sizes and aspect ratios, and derives the
shapes by the rule of the original SSD. `ShapeLevel` lists the shapes themselves.

This module needs NumPy only.

References:
    Liu et al., "SSD: Single Shot MultiBox Detector", arXiv:1512.02325, section 2.2,
    and the layer `PriorBox` of the original Caffe implementation.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ssdops.constants import VARIANCES

__all__ = [
    "AnchorGrid",
    "AnchorLevel",
    "ShapeLevel",
    "anchor_grid",
    "anchor_grid_names",
    "recipe_grid",
    "recipe_sizes",
    "ssd300_coco",
    "ssd300_face",
    "ssd300_mobilenet_v1_coco",
    "ssd300_nvidia",
    "ssd300_voc",
    "ssd512_coco",
    "ssd512_voc",
    "ssd_small",
]

MAX_IMAGE_SIDE = 16384
MAX_ANCHORS = 4_000_000
MAX_LEVELS = 64
MAX_SIZES = 64
_RATIO_TOLERANCE = 1e-6


def _numbers(name: str, values: Any, length: int | None = None) -> tuple[float, ...]:
    """Returns `values` as a tuple of finite positive numbers, integers kept."""
    if not isinstance(values, tuple | list):
        raise ValueError(f"{name} must be a list of numbers, got {values!r}")
    if length is not None and len(values) != length:
        raise ValueError(
            f"{name} must have {length} values, got {len(values)}: {list(values)}"
        )
    for value in values:
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            # Integers may be too large to be numbers.
            or not 0 < value <= sys.float_info.max
        ):
            raise ValueError(
                f"{name} must be positive finite numbers, got {value!r} in "
                f"{list(values)}"
            )
    return tuple(values)


def _size(name: str, values: Any) -> tuple[int, int]:
    """Returns `values` as a pair (height, width) of positive integers."""
    height, width = _numbers(name, values, 2)
    if not (isinstance(height, int) and isinstance(width, int)):
        raise ValueError(f"{name} must be two integers, got {list(values)}")
    if max(height, width) > MAX_IMAGE_SIDE:
        raise ValueError(
            f"{name} must be at most {MAX_IMAGE_SIDE} in each direction, "
            f"got {list(values)}"
        )
    return height, width


def _flag(name: str, value: Any) -> bool:
    """Returns `value`, checked to be a boolean."""
    if not isinstance(value, bool):
        raise ValueError(f"{name} must be true or false, got {value!r}")
    return value


def _arguments(cls: type[Any], data: Any, where: str) -> dict[str, Any]:
    """Returns `data` checked to hold only fields of the dataclass `cls`."""
    if not isinstance(data, Mapping):
        raise ValueError(f"{where} must be an object, got {data!r}")
    known = {field.name for field in fields(cls)}
    unknown = sorted(str(key) for key in data if key not in known)
    if unknown:
        raise ValueError(
            f"{where} has unknown entries {unknown}; known are {sorted(known)}"
        )
    return dict(data)


@dataclass(frozen=True)
class AnchorLevel:
    """One feature level whose shapes follow the rule of the original SSD.

    Per cell, for every minimum size in turn: the square of that side; the square of
    side sqrt(min * max) if there are maximum sizes; and for every ratio `a` other than
    1 a box of width min * sqrt(a) and height min / sqrt(a).

    Attributes:
        feature_size: Rows and columns of the feature map.
        min_sizes: Sides in pixels of the input image.
        max_sizes: As many sides as `min_sizes`, each larger, or none.
        aspect_ratios: Width / height. The ratio 1 is always there and is not listed.
            Of each kind there may be 64.
        step: Distance (y, x) between cell centres in pixels, or None for image size /
            feature size.
        flip: Whether every ratio is followed by its reciprocal.

    Raises:
        ValueError: For sizes, ratios or steps that are not positive finite numbers,
            or maximum sizes that do not pair with the minimum sizes.
    """

    feature_size: tuple[int, int]
    min_sizes: tuple[float, ...]
    max_sizes: tuple[float, ...] = ()
    aspect_ratios: tuple[float, ...] = ()
    step: tuple[float, float] | None = None
    flip: bool = True

    def __post_init__(self) -> None:
        """Checks every value and turns lists into tuples."""
        object.__setattr__(
            self, "feature_size", _size("feature_size", self.feature_size)
        )
        for name in ("min_sizes", "max_sizes", "aspect_ratios"):
            values = _numbers(name, getattr(self, name))
            if len(values) > MAX_SIZES:
                raise ValueError(
                    f"{name} may hold at most {MAX_SIZES} values, got {len(values)}"
                )
            object.__setattr__(self, name, values)
        if self.step is not None:
            object.__setattr__(self, "step", _numbers("step", self.step, 2))
        _flag("flip", self.flip)
        if not self.min_sizes:
            raise ValueError("min_sizes must list at least one size, got none")
        if self.max_sizes:
            if len(self.max_sizes) != len(self.min_sizes):
                raise ValueError(
                    f"max_sizes must be empty or pair with the "
                    f"{len(self.min_sizes)} min_sizes, got {len(self.max_sizes)}"
                )
            for low, high in zip(self.min_sizes, self.max_sizes, strict=True):
                if high <= low:
                    raise ValueError(
                        f"max_sizes must each be larger than their min_sizes, got "
                        f"max {high:g} for min {low:g}"
                    )

    def effective_ratios(self) -> tuple[float, ...]:
        """Returns all ratios in order: 1, then the listed ones with reciprocals.

        A listed ratio that is already present is skipped. The test is made before the
        reciprocal is appended and the reciprocal itself is not tested, as in Caffe.
        """
        ratios = [1.0]
        for ratio in self.aspect_ratios:
            if any(abs(ratio - known) < _RATIO_TOLERANCE for known in ratios):
                continue
            ratios.append(ratio)
            if self.flip:
                ratios.append(1.0 / ratio)
        return tuple(ratios)

    def cell_shapes(self, size_rounding: str = "none") -> npt.NDArray[np.float32]:
        """Returns the shapes (height, width) of one cell in pixels, float32 [K, 2].

        Args:
            size_rounding: "trunc" cuts minimum and maximum sizes to integers first, as
                the original implementation does; "none" keeps them.
        """
        shapes: list[tuple[float, float]] = []
        for index, low in enumerate(self.min_sizes):
            side = float(int(low)) if size_rounding == "trunc" else float(low)
            shapes.append((side, side))
            if self.max_sizes:
                high = self.max_sizes[index]
                high = float(int(high)) if size_rounding == "trunc" else float(high)
                shapes.append((math.sqrt(side * high),) * 2)
            for ratio in self.effective_ratios():
                if abs(ratio - 1.0) >= _RATIO_TOLERANCE:
                    root = math.sqrt(ratio)
                    shapes.append((side / root, side * root))
        return np.array(shapes, np.float32)

    @property
    def boxes_per_cell(self) -> int:
        """Number of shapes in each cell."""
        return len(self.cell_shapes())


@dataclass(frozen=True)
class ShapeLevel:
    """One feature level with its shapes given outright.

    Attributes:
        feature_size: Rows and columns of the feature map.
        shapes: (height, width) in pixels of every box of a cell, in order.
        step: Distance (y, x) between cell centres in pixels, or None for image size /
            feature size.

    Raises:
        ValueError: For values that are not positive finite numbers.
    """

    feature_size: tuple[int, int]
    shapes: tuple[tuple[float, float], ...]
    step: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        """Checks every value and turns lists into tuples."""
        object.__setattr__(
            self, "feature_size", _size("feature_size", self.feature_size)
        )
        if not isinstance(self.shapes, tuple | list) or not self.shapes:
            raise ValueError(
                f"shapes must list at least one (height, width), got {self.shapes!r}"
            )
        object.__setattr__(
            self, "shapes", tuple(_numbers("shapes", shape, 2) for shape in self.shapes)
        )
        if self.step is not None:
            object.__setattr__(self, "step", _numbers("step", self.step, 2))

    def cell_shapes(self, size_rounding: str = "none") -> npt.NDArray[np.float32]:
        """Returns the shapes (height, width) of one cell in pixels, float32 [K, 2].

        Args:
            size_rounding: "trunc" cuts the sizes to integers, "none" keeps them.
        """
        shapes = np.array(self.shapes, np.float32)
        return np.trunc(shapes) if size_rounding == "trunc" else shapes

    @property
    def boxes_per_cell(self) -> int:
        """Number of shapes in each cell."""
        return len(self.shapes)


@dataclass(frozen=True)
class AnchorGrid:
    """All anchors of a detector.

    Attributes:
        image_size: Height and width of the network input in pixels.
        levels: Feature levels in the order of the heads.
        offset: Position of a centre inside its cell, 0.5 is the middle.
        clip: Whether coordinates are clamped to [0, 1]. The published grids do not.
        size_rounding: "trunc" cuts sizes to whole pixels as the original code does,
            which changes the SSD512 grids by up to 1.6e-3; "none" keeps fractions.
        variances: Divisors (y, x, h, w) of the encoded offsets.
        clip_centers: Whether centres beyond the image are moved to its border. Cells
            lie there where the feature size times the step exceeds the image size.

    Raises:
        ValueError: For any value outside its range, or more than 4 000 000 anchors.
    """

    image_size: tuple[int, int]
    levels: tuple[AnchorLevel | ShapeLevel, ...]
    offset: float = 0.5
    clip: bool = False
    size_rounding: str = "trunc"
    variances: tuple[float, float, float, float] = VARIANCES
    clip_centers: bool = False

    def __post_init__(self) -> None:
        """Checks every value and turns lists into tuples."""
        object.__setattr__(self, "image_size", _size("image_size", self.image_size))
        object.__setattr__(self, "levels", tuple(self.levels))
        if not self.levels:
            raise ValueError("levels must hold at least one level, got none")
        if len(self.levels) > MAX_LEVELS:
            raise ValueError(
                f"levels may hold at most {MAX_LEVELS} levels, got {len(self.levels)}"
            )
        for level in self.levels:
            if not isinstance(level, AnchorLevel | ShapeLevel):
                raise ValueError(
                    f"levels must be AnchorLevel or ShapeLevel, got {level!r}"
                )
        if isinstance(self.offset, bool) or not isinstance(self.offset, int | float):
            raise ValueError(f"offset must be a number, got {self.offset!r}")
        if not 0.0 <= self.offset <= 1.0:
            raise ValueError(f"offset must lie in [0, 1], got {self.offset!r}")
        _flag("clip", self.clip)
        _flag("clip_centers", self.clip_centers)
        if self.size_rounding not in ("trunc", "none"):
            raise ValueError(
                f'size_rounding must be "trunc" or "none", got {self.size_rounding!r}'
            )
        object.__setattr__(self, "variances", _numbers("variances", self.variances, 4))
        if self.num_anchors > MAX_ANCHORS:
            raise ValueError(
                f"a grid may hold at most {MAX_ANCHORS} anchors, got {self.num_anchors}"
            )
        for index, level in enumerate(self.levels):
            smallest = float(level.cell_shapes(self.size_rounding).min())
            if smallest <= 0.0:
                raise ValueError(
                    f"level {index} has a box of size {smallest:g} after rounding; "
                    f'use sizes of at least 1 pixel or size_rounding="none"'
                )

    @property
    def anchors_per_cell(self) -> list[int]:
        """Number of shapes in each cell, one number per level."""
        return [level.boxes_per_cell for level in self.levels]

    @property
    def anchors_per_level(self) -> list[int]:
        """Number of anchors of each level."""
        return [
            level.feature_size[0] * level.feature_size[1] * level.boxes_per_cell
            for level in self.levels
        ]

    @property
    def num_anchors(self) -> int:
        """Number of all anchors."""
        return sum(self.anchors_per_level)

    def level_step(self, index: int) -> tuple[float, float]:
        """Returns the distance (y, x) in pixels between the centres of a level."""
        level = self.levels[index]
        if level.step is not None:
            return level.step
        return (
            self.image_size[0] / level.feature_size[0],
            self.image_size[1] / level.feature_size[1],
        )

    def level_boxes(self, index: int) -> npt.NDArray[np.float32]:
        """Returns the boxes of one level, relative corners, float32 [h, w, K, 4].

        Centres are rounded to float32 pixels, corners computed in float64 and stored
        as float32: the precision of the original implementation.
        """
        level = self.levels[index]
        step = self.level_step(index)
        rows, columns = (
            ((np.arange(count) + self.offset) * length).astype(np.float32)
            for count, length in zip(level.feature_size, step, strict=True)
        )
        if self.clip_centers:
            rows, columns = (
                np.minimum(places, np.float32(side))
                for places, side in zip((rows, columns), self.image_size, strict=True)
            )
        centers = np.stack(
            np.meshgrid(rows, columns, indexing="ij"), axis=-1, dtype=np.float64
        )[:, :, np.newaxis]
        half = level.cell_shapes(self.size_rounding).astype(np.float64) / 2.0
        boxes = np.concatenate(
            [
                (centers - half) / np.array(self.image_size, np.float64),
                (centers + half) / np.array(self.image_size, np.float64),
            ],
            axis=-1,
        ).astype(np.float32)
        return np.clip(boxes, 0.0, 1.0) if self.clip else boxes

    def boxes(self) -> npt.NDArray[np.float32]:
        """Returns all anchors, float32 [A, 4] relative (ymin, xmin, ymax, xmax).

        Anchors at the border reach outside [0, 1] unless `clip` is set.
        """
        return np.concatenate(
            [self.level_boxes(i).reshape(-1, 4) for i in range(len(self.levels))]
        )

    def to_dict(self) -> dict[str, Any]:
        """Returns the grid as plain JSON values; `from_dict` is the inverse."""
        data = asdict(self)
        for name in ("image_size", "variances"):
            data[name] = list(data[name])
        data["levels"] = [
            {
                key: [list(v) if isinstance(v, tuple) else v for v in value]
                if isinstance(value, tuple)
                else value
                for key, value in level.items()
            }
            for level in data["levels"]
        ]
        return data

    @classmethod
    def from_dict(cls, data: Any) -> AnchorGrid:
        """Builds a grid from plain JSON values.

        Args:
            data: An object as returned by `to_dict`. A level with `shapes` becomes a
                `ShapeLevel`, any other an `AnchorLevel`.

        Raises:
            ValueError: For unknown or missing entries and values outside their range.
        """
        arguments = _arguments(cls, data, "anchors")
        levels = arguments.get("levels")
        if not isinstance(levels, list):
            raise ValueError(f"anchors.levels must be a list, got {levels!r}")
        arguments["levels"] = tuple(
            _level(level, f"anchors.levels[{index}]")
            for index, level in enumerate(levels)
        )
        try:
            return cls(**arguments)
        except TypeError as error:
            raise ValueError(f"anchors is incomplete: {error}") from None


def _level(data: Any, where: str) -> AnchorLevel | ShapeLevel:
    """Builds one level from plain JSON values."""
    kind: type[AnchorLevel | ShapeLevel] = (
        ShapeLevel if isinstance(data, Mapping) and "shapes" in data else AnchorLevel
    )
    try:
        return kind(**_arguments(kind, data, where))
    except TypeError as error:
        raise ValueError(f"{where} is incomplete: {error}") from None


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


def _caffe_grid(
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
    height, width = _size("image_size", image_size)
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


def ssd300_voc() -> AnchorGrid:
    """Returns the grid of the SSD300 trained on Pascal VOC, 8732 anchors."""
    return _caffe_grid(
        300, (38, 19, 10, 5, 3, 1), (8, 16, 32, 64, 100, 300), (10, 20), 20, "trunc"
    )


def ssd300_coco() -> AnchorGrid:
    """Returns the grid of the SSD300 trained on COCO, 8732 anchors.

    Models trained on COCO and fine-tuned on VOC use this grid as well.
    """
    return _caffe_grid(
        300, (38, 19, 10, 5, 3, 1), (8, 16, 32, 64, 100, 300), (7, 15), 15, "trunc"
    )


def ssd300_torchvision() -> AnchorGrid:
    """Returns the grid of torchvision's `ssd300_vgg16`, 8732 anchors.

    It is that of SSD300 trained on COCO, except that no side is longer than the image:
    this concerns the last two anchors.
    """
    grid = ssd300_coco()
    last = grid.levels[-1]
    sides = np.minimum(last.cell_shapes(grid.size_rounding), grid.image_size)
    shapes = tuple((float(height), float(width)) for height, width in sides)
    level = ShapeLevel(last.feature_size, shapes, last.step)
    return replace(grid, levels=(*grid.levels[:-1], level), size_rounding="none")


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
    return _caffe_grid(512, _MAPS_512, _STEPS_512, (7, 15), 15, size_rounding)


def ssd512_coco(size_rounding: str = "trunc") -> AnchorGrid:
    """Returns the grid of the SSD512 trained on COCO, 24564 anchors.

    Args:
        size_rounding: "trunc" for the released weights, "none" for the sizes of the
            paper without the rounding of the original code.
    """
    return _caffe_grid(512, _MAPS_512, _STEPS_512, (4, 10), 10, size_rounding)


def ssd300_mobilenet_v1_coco() -> AnchorGrid:
    """Returns the grid of the COCO MobileNet-V1 SSD, 1917 anchors.

    The layout is that of TensorFlow's Object Detection API: scales spaced evenly from
    0.2 to 0.95, ratios 1, 2, 1/2, 3, 1/3 and then the square between this scale and
    the next, but on the first level a square of 0.1 and ratios 2 and 1/2 of 0.2.
    """
    side = 300
    maps = (19, 10, 5, 3, 2, 1)
    scales = [0.2 + 0.75 * index / (len(maps) - 1) for index in range(len(maps))]
    scales.append(1.0)
    levels = []
    for index, cells in enumerate(maps):
        scale = scales[index]
        boxes = [(scale, ratio) for ratio in (1.0, 2.0, 0.5, 3.0, 1.0 / 3.0)]
        boxes.append((math.sqrt(scale * scales[index + 1]), 1.0))
        if index == 0:
            boxes = [(0.1, 1.0), (scale, 2.0), (scale, 0.5)]
        levels.append(
            ShapeLevel(
                feature_size=(cells, cells),
                shapes=tuple(
                    (side * size / math.sqrt(ratio), side * size * math.sqrt(ratio))
                    for size, ratio in boxes
                ),
            )
        )
    return AnchorGrid(
        image_size=(side, side), levels=tuple(levels), size_rounding="none"
    )


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
    height, width = _size("image_size", image_size)
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
