# SPDX-License-Identifier: Apache-2.0
"""All anchors of a detector."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ssdops.anchors.checked import checked_fields, flag, positive_numbers, size_pair
from ssdops.anchors.levels import AnchorLevel, ShapeLevel, level_from_dict
from ssdops.constants import VARIANCES

__all__ = ["MAX_LEVELS", "AnchorGrid"]

MAX_ANCHORS: Final = 4_000_000
MAX_LEVELS: Final = 64


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
        object.__setattr__(self, "image_size", size_pair("image_size", self.image_size))
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
        flag("clip", self.clip)
        flag("clip_centers", self.clip_centers)
        if self.size_rounding not in ("trunc", "none"):
            raise ValueError(
                f'size_rounding must be "trunc" or "none", got {self.size_rounding!r}'
            )
        object.__setattr__(
            self, "variances", positive_numbers("variances", self.variances, 4)
        )
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
        arguments = checked_fields(cls, data, "anchors")
        levels = arguments.get("levels")
        if not isinstance(levels, list):
            raise ValueError(f"anchors.levels must be a list, got {levels!r}")
        arguments["levels"] = tuple(
            level_from_dict(level, f"anchors.levels[{index}]")
            for index, level in enumerate(levels)
        )
        try:
            return cls(**arguments)
        except TypeError as error:
            raise ValueError(f"anchors is incomplete: {error}") from None
