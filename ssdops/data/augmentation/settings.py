# SPDX-License-Identifier: Apache-2.0
"""How often and how strongly training images are changed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ssdops.constants import AUGMENTATION_NAMES, MEAN_RGB

INTERPOLATIONS: Final = ("bilinear", "area", "nearest", "bicubic", "lanczos5")


@dataclass(frozen=True)
class Augmentation:
    """Probabilities and ranges; the defaults are those of the official code.

    Attributes:
        brightness_probability: of adding a number to all channels.
        brightness_delta: it lies in +- this, in grey levels.
        contrast_probability: of multiplying all channels.
        contrast_range: of the factor.
        saturation_probability: of multiplying the saturation.
        saturation_range: of the factor.
        hue_probability: of adding to the hue.
        hue_delta: the number lies in +- this, in units of 2 degrees.
        channel_shuffle_probability: of putting the channels in another order.
        expand_probability: of laying the image onto a larger canvas.
        expand_ratio: largest ratio of the sides, at least 1.
        expand_fill: colour of the canvas, RGB grey levels.
        crop: whether to crop. Of the crops below that were found, and the whole
            image, one is taken, each with the same probability.
        crop_min_ious: for each, a crop that has at least this IoU with an object.
        crop_free: whether there is one more crop without such a condition.
        crop_trials: of finding each.
        crop_scale: range of the square root of the share of a crop in the area.
        crop_aspect_ratio: range of its width by its height, both relative.
        interpolations: one of these resizes the image, drawn at random; of
            `INTERPOLATIONS`. The official code has OpenCV's lanczos4 for lanczos5.
        mirror_probability: of exchanging left and right.

    Raises:
        ValueError: if a number is out of range.

    References:
        Liu et al., SSD, 2016, and its Caffe code (`im_transforms.cpp`, `sampler.cpp`).
    """

    brightness_probability: float = 0.5
    brightness_delta: float = 32.0
    contrast_probability: float = 0.5
    contrast_range: tuple[float, float] = (0.5, 1.5)
    saturation_probability: float = 0.5
    saturation_range: tuple[float, float] = (0.5, 1.5)
    hue_probability: float = 0.5
    hue_delta: float = 18.0
    channel_shuffle_probability: float = 0.0
    expand_probability: float = 0.5
    expand_ratio: float = 4.0
    expand_fill: tuple[int, int, int] = MEAN_RGB
    crop: bool = True
    crop_min_ious: tuple[float, ...] = (0.1, 0.3, 0.5, 0.7, 0.9)
    crop_free: bool = True
    crop_trials: int = 50
    crop_scale: tuple[float, float] = (0.3, 1.0)
    crop_aspect_ratio: tuple[float, float] = (0.5, 2.0)
    interpolations: tuple[str, ...] = INTERPOLATIONS
    mirror_probability: float = 0.5

    def __post_init__(self) -> None:
        """Checks every range."""
        for name, value in vars(self).items():
            if name.endswith("_probability") and not 0 <= value <= 1:
                raise ValueError(f"{name} must be in [0, 1], got {value}")
            if name.endswith("_delta") and not 0 <= value <= 255:
                raise ValueError(f"{name} must be in [0, 255], got {value}")
        for name in (
            "contrast_range",
            "saturation_range",
            "crop_scale",
            "crop_aspect_ratio",
        ):
            low, high = getattr(self, name)
            if not 0 < low <= high:
                raise ValueError(
                    f"{name} must be above 0 and in order, got {low, high}"
                )
        if self.crop_scale[1] > 1:
            raise ValueError(f"crop_scale must end at 1, got {self.crop_scale}")
        low, high = self.crop_aspect_ratio
        if not low <= 1 <= high:
            raise ValueError(f"crop_aspect_ratio must hold 1, got {low, high}")
        if not all(0 <= iou <= 1 for iou in self.crop_min_ious):
            raise ValueError(
                f"crop_min_ious must be in [0, 1], got {self.crop_min_ious}"
            )
        if not 1 <= self.expand_ratio <= 16:
            raise ValueError(
                f"expand_ratio must be in [1, 16], got {self.expand_ratio}"
            )
        if not all(0 <= value <= 255 for value in self.expand_fill):
            raise ValueError(f"expand_fill must be in [0, 255], got {self.expand_fill}")
        if self.crop_trials < 1:
            raise ValueError(f"crop_trials must be at least 1, got {self.crop_trials}")
        if not self.interpolations or not set(self.interpolations) <= set(
            INTERPOLATIONS
        ):
            raise ValueError(
                f"interpolations must be some of {INTERPOLATIONS},"
                f" got {self.interpolations}"
            )


_UNCHANGED: Final = {
    "brightness_probability": 0.0,
    "contrast_probability": 0.0,
    "saturation_probability": 0.0,
    "hue_probability": 0.0,
    "expand_probability": 0.0,
    "crop": False,
    "interpolations": ("bilinear",),
}
# None: the image is resized and no more.
AUGMENTATIONS: Final[dict[str, Augmentation | None]] = dict(
    zip(
        AUGMENTATION_NAMES,
        (Augmentation(), Augmentation(**_UNCHANGED), None),  # type: ignore[arg-type]
        strict=True,
    )
)
