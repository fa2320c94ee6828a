# SPDX-License-Identifier: Apache-2.0
"""How often and how strongly training images are changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Final

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
        jpeg_quality: what is shown of the image is encoded as JPEG and decoded again,
            after the change of its colours and on its canvas, with this quality from 1
            to 100; 0 for never. The official code does so, with 95, where its data are
            stored as JPEG.

    Raises:
        TypeError: if a setting is of another type than its default.
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
    jpeg_quality: int = 0

    def __post_init__(self) -> None:
        """Checks every type and range; lists, as files have them, become tuples."""
        for entry in fields(self):
            value = getattr(self, entry.name)
            if isinstance(value, list):
                value = tuple(value)
            if not _is_like(value, entry.default):
                raise TypeError(
                    f"{entry.name} must be like {entry.default!r}, got {value!r}"
                )
            object.__setattr__(self, entry.name, value)
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
            limits = getattr(self, name)
            if len(limits) != 2 or not 0 < limits[0] <= limits[1]:
                raise ValueError(
                    f"{name} must be two numbers above 0 and in order, got {limits}"
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
        fill = self.expand_fill
        if len(fill) != 3 or not all(0 <= value <= 255 for value in fill):
            raise ValueError(f"expand_fill must be 3 levels in [0, 255], got {fill}")
        if not 0 <= self.jpeg_quality <= 100:
            raise ValueError(
                f"jpeg_quality must be in [0, 100], got {self.jpeg_quality}"
            )
        if self.crop_trials < 1:
            raise ValueError(f"crop_trials must be at least 1, got {self.crop_trials}")
        if not self.interpolations or not set(self.interpolations) <= set(
            INTERPOLATIONS
        ):
            raise ValueError(
                f"interpolations must be some of {INTERPOLATIONS},"
                f" got {self.interpolations}"
            )


def _is_like(value: object, default: object) -> bool:
    """Whether a value has the type of a default; tuples by their items."""
    if isinstance(default, tuple):
        return isinstance(value, tuple) and all(
            _is_like(item, default[0]) for item in value
        )
    if isinstance(default, float):
        return type(value) in (int, float)
    return type(value) is type(default)


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
_AUGMENTATIONS: Final[dict[str, Augmentation | None]] = dict(
    zip(
        AUGMENTATION_NAMES,
        (Augmentation(), Augmentation(**_UNCHANGED), None),  # type: ignore[arg-type]
        strict=True,
    )
)


def make_augmentation(
    name: str, options: Mapping[str, Any] | None = None
) -> Augmentation | None:
    """The settings behind a name, with changes.

    Args:
        name: `"ssd"`, all of the official code; `"mirror"`, only that; or `"none"`.
        options: attributes of `Augmentation` that shall be different; with `"none"`
            there are none.

    Returns:
        The settings, None for images that are resized and no more.

    Raises:
        ValueError: for an unknown name or option, or a value that is out of range or
            of another type.
    """
    if name not in _AUGMENTATIONS:
        raise ValueError(
            f"augmentation must be one of {', '.join(_AUGMENTATIONS)}, got {name!r}"
        )
    settings = _AUGMENTATIONS[name]
    options = dict(options or {})
    known = [entry.name for entry in fields(Augmentation)] if settings else []
    for option in options:
        if option not in known:
            raise ValueError(
                f"augmentation {name!r} has no option {option!r}; there are"
                f" {', '.join(known) or 'none'}"
            )
    try:
        return None if settings is None else replace(settings, **options)
    except (TypeError, ValueError) as error:
        raise ValueError(f"augmentation {name!r}: {error}") from None
