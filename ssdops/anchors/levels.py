# SPDX-License-Identifier: Apache-2.0
"""Levels of a grid: what shapes every cell of a feature map carries.

`AnchorLevel` lists sizes and aspect ratios, and derives the shapes by the rule of the
original SSD. `ShapeLevel` lists the shapes themselves.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ssdops.anchors.checked import checked_fields, flag, positive_numbers, size_pair

__all__ = ["AnchorLevel", "ShapeLevel", "level_from_dict"]

MAX_SIZES: Final = 64
_RATIO_TOLERANCE: Final = 1e-6


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
            self, "feature_size", size_pair("feature_size", self.feature_size)
        )
        for name in ("min_sizes", "max_sizes", "aspect_ratios"):
            values = positive_numbers(name, getattr(self, name))
            if len(values) > MAX_SIZES:
                raise ValueError(
                    f"{name} may hold at most {MAX_SIZES} values, got {len(values)}"
                )
            object.__setattr__(self, name, values)
        if self.step is not None:
            object.__setattr__(self, "step", positive_numbers("step", self.step, 2))
        flag("flip", self.flip)
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
            self, "feature_size", size_pair("feature_size", self.feature_size)
        )
        if not isinstance(self.shapes, tuple | list) or not self.shapes:
            raise ValueError(
                f"shapes must list at least one (height, width), got {self.shapes!r}"
            )
        object.__setattr__(
            self,
            "shapes",
            tuple(positive_numbers("shapes", shape, 2) for shape in self.shapes),
        )
        if self.step is not None:
            object.__setattr__(self, "step", positive_numbers("step", self.step, 2))

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


def level_from_dict(data: Any, where: str) -> AnchorLevel | ShapeLevel:
    """Builds one level from plain JSON values."""
    kind: type[AnchorLevel | ShapeLevel] = (
        ShapeLevel if isinstance(data, Mapping) and "shapes" in data else AnchorLevel
    )
    try:
        return kind(**checked_fields(kind, data, where))
    except TypeError as error:
        raise ValueError(f"{where} is incomplete: {error}") from None
