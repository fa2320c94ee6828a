# SPDX-License-Identifier: Apache-2.0
"""What a detector is, apart from its weights: the plain values of `model.json`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import tensorflow as tf

from ssdops.anchors import AnchorGrid

__all__ = ["ModelSpec", "Preprocessing"]

MAX_CLASSES = 20_000


def _finite(name: str, value: Any) -> float:
    """Returns `value`, checked to be a finite number."""
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or not math.isfinite(value)
    ):
        raise ValueError(f"{name} must be a finite number, got {value!r}")
    return float(value)


def _checked_keys(data: Any, where: str, keys: tuple[str, ...]) -> Mapping[str, Any]:
    """Returns `data`, checked to be an object with exactly these keys."""
    if not isinstance(data, Mapping):
        raise ValueError(f"{where} must be an object, got {data!r}")
    missing = [key for key in keys if key not in data]
    unknown = sorted(str(key) for key in data if key not in keys)
    if missing or unknown:
        raise ValueError(
            f"{where} must have the entries {list(keys)}: missing {missing}, "
            f"unknown {unknown}"
        )
    return data


@dataclass(frozen=True)
class Preprocessing:
    """How pixels become the network input: (pixel - mean) * scale.

    Attributes:
        image_size: Height and width of the network input in pixels.
        channel_order: "rgb" or "bgr", the order of the network input.
        mean: Three values subtracted from the channels, in `channel_order`.
        scale: Factor after the subtraction.

    Raises:
        ValueError: For an unknown channel order or values that are not finite.
    """

    image_size: tuple[int, int]
    channel_order: str = "rgb"
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    scale: float = 1.0

    def __post_init__(self) -> None:
        """Checks every value and turns lists into tuples."""
        if self.channel_order not in ("rgb", "bgr"):
            raise ValueError(
                f'channel_order must be "rgb" or "bgr", got {self.channel_order!r}'
            )
        if not isinstance(self.mean, tuple | list) or len(self.mean) != 3:
            raise ValueError(f"mean must be three numbers, got {self.mean!r}")
        object.__setattr__(self, "mean", tuple(_finite("mean", v) for v in self.mean))
        object.__setattr__(self, "scale", _finite("scale", self.scale))
        object.__setattr__(self, "image_size", tuple(self.image_size))

    def __call__(self, images: tf.Tensor) -> tf.Tensor:
        """Returns the network input, float32 [B, h, w, 3].

        Args:
            images: RGB images [B, h, w, 3] with values in [0, 255], uint8 or floating,
                already of `image_size`.
        """
        values = tf.cast(images, tf.float32)
        if self.channel_order == "bgr":
            values = tf.reverse(values, axis=[-1])
        return (values - tf.constant(self.mean, tf.float32)) * self.scale

    def to_dict(self) -> dict[str, Any]:
        """Returns plain JSON values; `from_dict` is the inverse."""
        return {
            "image_size": list(self.image_size),
            "channel_order": self.channel_order,
            "mean": list(self.mean),
            "scale": self.scale,
        }

    @classmethod
    def from_dict(cls, data: Any) -> Preprocessing:
        """Builds the value from plain JSON values.

        Raises:
            ValueError: For unknown or missing entries and values outside their range.
        """
        checked = _checked_keys(
            data, "preprocessing", ("image_size", "channel_order", "mean", "scale")
        )
        size = checked["image_size"]
        if not isinstance(size, list) or len(size) != 2:
            raise ValueError(
                f"preprocessing.image_size must be [height, width], got {size!r}"
            )
        return cls(**checked)


@dataclass(frozen=True)
class ModelSpec:
    """Everything that fixes a detector except its weights.

    Attributes:
        name: Entry of the model table that builds the network.
        num_classes: Number of classes including class 0, the background.
        anchors: Grid of anchors; its image size is that of the network input.
        preprocessing: How pixels become the network input.
        score_activation: "softmax" or "sigmoid", how logits become scores.
        options: Further choices of the backbone, by name, for example a width.

    Raises:
        ValueError: For fewer than 2 classes, an unknown activation, or sizes of grid
            and preprocessing that differ.
    """

    name: str
    num_classes: int
    anchors: AnchorGrid
    preprocessing: Preprocessing
    score_activation: str = "softmax"
    options: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Checks that the values fit together."""
        if not isinstance(self.name, str):
            raise ValueError(f"name must be a string, got {self.name!r}")
        if (
            isinstance(self.num_classes, bool)
            or not isinstance(self.num_classes, int)
            or not 2 <= self.num_classes <= MAX_CLASSES
        ):
            raise ValueError(
                f"num_classes must be an integer in [2, {MAX_CLASSES}] and counts the "
                f"background, got {self.num_classes!r}"
            )
        if self.score_activation not in ("softmax", "sigmoid"):
            raise ValueError(
                f'score_activation must be "softmax" or "sigmoid", '
                f"got {self.score_activation!r}"
            )
        if tuple(self.preprocessing.image_size) != self.anchors.image_size:
            raise ValueError(
                f"preprocessing.image_size {list(self.preprocessing.image_size)} must "
                f"equal anchors.image_size {list(self.anchors.image_size)}"
            )
        if not isinstance(self.options, Mapping):
            raise ValueError(f"options must be an object, got {self.options!r}")
        for key, value in self.options.items():
            _finite(f"options.{key}", value)

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of the network input in pixels."""
        return self.anchors.image_size

    @property
    def variances(self) -> tuple[float, float, float, float]:
        """Divisors (y, x, h, w) of the encoded offsets."""
        return self.anchors.variances

    def to_dict(self) -> dict[str, Any]:
        """Returns plain JSON values; `from_dict` is the inverse."""
        return {
            "name": self.name,
            "num_classes": self.num_classes,
            "anchors": self.anchors.to_dict(),
            "preprocessing": self.preprocessing.to_dict(),
            "score_activation": self.score_activation,
            "options": dict(self.options),
        }

    @classmethod
    def from_dict(cls, data: Any) -> ModelSpec:
        """Builds a specification from plain JSON values.

        Raises:
            ValueError: For unknown or missing entries and values outside their range.
        """
        keys = (
            "name",
            "num_classes",
            "anchors",
            "preprocessing",
            "score_activation",
            "options",
        )
        checked = dict(_checked_keys(data, "spec", keys))
        checked["anchors"] = AnchorGrid.from_dict(checked["anchors"])
        checked["preprocessing"] = Preprocessing.from_dict(checked["preprocessing"])
        return cls(**checked)
