# SPDX-License-Identifier: Apache-2.0
"""How pixels become the input of a network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from ssdops.models.plain_values import checked_keys, finite, whole_number
from ssdops.resizing import (
    boxes_from_window,
    letterbox,
    letterbox_window,
    resize_image,
)

__all__ = ["IMAGENET_MEAN", "IMAGENET_SCALE", "Preprocessing"]

MAX_SIDE = 16_384
CHANNEL_ORDERS = ("rgb", "bgr")
RESIZE_MODES = ("stretch", "letterbox")

_Channels = tuple[float, float, float]

# Of the weights of PyTorch, which takes pixels in [0, 1].
IMAGENET_MEAN: Final = (0.485 * 255, 0.456 * 255, 0.406 * 255)
IMAGENET_SCALE: Final = (1 / (0.229 * 255), 1 / (0.224 * 255), 1 / (0.225 * 255))


@dataclass(frozen=True)
class Preprocessing:
    """How pixels become the network input: (pixel - mean) * scale.

    Attributes:
        image_size: Height and width of the network input in pixels.
        channel_order: "rgb" or "bgr", the order of the network input.
        mean: Three values subtracted from the channels, in `channel_order`.
        scale: Three factors after the subtraction, in `channel_order`; a number is
            taken for all three.
        resize: How an image of another size gets to `image_size`: "stretch" in both
            directions, as the original code, or "letterbox", which keeps the aspect
            ratio, puts the image into the middle and fills the rest with `mean`.

    Raises:
        ValueError: For an unknown channel order or way of resizing, sizes outside
            [1, 16384] and values that are not finite.
    """

    image_size: tuple[int, int]
    channel_order: str = "rgb"
    mean: _Channels = (0.0, 0.0, 0.0)
    scale: _Channels | float = 1.0
    resize: str = "stretch"

    def __post_init__(self) -> None:
        """Checks every value and turns lists into tuples."""
        for name, known in (
            ("channel_order", CHANNEL_ORDERS),
            ("resize", RESIZE_MODES),
        ):
            if getattr(self, name) not in known:
                raise ValueError(
                    f'{name} must be "{known[0]}" or "{known[1]}", '
                    f"got {getattr(self, name)!r}"
                )
        if not isinstance(self.image_size, tuple | list) or len(self.image_size) != 2:
            raise ValueError(
                f"image_size must be (height, width), got {self.image_size!r}"
            )
        size = tuple(
            whole_number("image_size", side, 1, MAX_SIDE) for side in self.image_size
        )
        object.__setattr__(self, "image_size", size)
        scale = self.scale
        if not isinstance(scale, tuple | list):
            scale = (scale,) * 3
        object.__setattr__(self, "mean", _channels("mean", self.mean))
        object.__setattr__(self, "scale", _channels("scale", scale))

    def fit(self, image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """Returns an image at the size of the network input, uint8 [h, w, 3].

        Args:
            image: RGB, uint8 [H, W, 3].

        Raises:
            ValueError: For another shape or dtype.
        """
        if self.resize == "stretch":
            return resize_image(image, self.image_size)
        colour = self.mean if self.channel_order == "rgb" else self.mean[::-1]
        red, green, blue = (int(min(255, max(0, round(value)))) for value in colour)
        return letterbox(image, self.image_size, (red, green, blue))

    def to_image(
        self, boxes: npt.NDArray[np.floating], size: tuple[int, int]
    ) -> npt.NDArray[np.floating]:
        """Returns boxes in what `fit` gives as boxes in the image it was given.

        Args:
            boxes: Relative corners [..., 4], floating dtype.
            size: Height and width of the image.

        Returns:
            Relative corners [..., 4] of the same dtype, unclipped.
        """
        if self.resize == "stretch":
            return boxes
        height, width = self.image_size
        top, left, bottom, right = letterbox_window(size, self.image_size)
        window = (top / height, left / width, bottom / height, right / width)
        return boxes_from_window(boxes, window)

    def __call__(self, images: tf.Tensor) -> tf.Tensor:
        """Returns the network input, float32 [B, h, w, 3].

        Args:
            images: RGB images [B, h, w, 3] with values in [0, 255], uint8 or floating,
                already of `image_size`.
        """
        values = tf.cast(images, tf.float32)
        if self.channel_order == "bgr":
            values = tf.reverse(values, axis=[-1])
        return (values - tf.constant(self.mean, tf.float32)) * tf.constant(
            self.scale, tf.float32
        )

    def to_dict(self) -> dict[str, Any]:
        """Returns plain JSON values; `from_dict` is the inverse."""
        assert isinstance(self.scale, tuple)
        return {
            "image_size": list(self.image_size),
            "channel_order": self.channel_order,
            "mean": list(self.mean),
            "scale": list(self.scale),
            "resize": self.resize,
        }

    @classmethod
    def from_dict(cls, data: Any) -> Preprocessing:
        """Builds the value from plain JSON values.

        Raises:
            ValueError: For unknown or missing entries and values outside their range.
        """
        keys = ("image_size", "channel_order", "mean", "scale", "resize")
        checked = checked_keys(data, "preprocessing", keys, optional=("resize",))
        try:
            return cls(**checked)
        except ValueError as error:
            raise ValueError(f"preprocessing.{error}") from None


def _channels(name: str, values: Any) -> _Channels:
    if not isinstance(values, tuple | list) or len(values) != 3:
        raise ValueError(f"{name} must be three numbers, got {values!r}")
    red, green, blue = (finite(name, value) for value in values)
    return red, green, blue
