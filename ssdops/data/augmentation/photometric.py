# SPDX-License-Identifier: Apache-2.0
"""Photometric distortion: brightness, contrast, saturation, hue.

Grey levels are rounded and limited to [0, 255] after every change, and hue and
saturation are changed in OpenCV's 8-bit units, because the official code does so: hue
in steps of 2 degrees from 0 to 179, without coming round below 0.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from ssdops.data.augmentation.settings import Augmentation

# Contrast factors this close to 1 are left out.
_NO_CONTRAST: Final = 1e-3
_CHANNELS: Final = 3

# OpenCV divides by multiplying with these and shifting.
_SHIFT: Final = 12
_DIVISORS: Final = np.arange(256)
_DIVISORS[0] = 1
_SATURATION_TABLE: Final = np.where(
    np.arange(256) > 0, np.rint((255 << _SHIFT) / _DIVISORS), 0
).astype(np.int32)
_HUE_TABLE: Final = np.where(
    np.arange(256) > 0, np.rint((180 << _SHIFT) / (6.0 * _DIVISORS)), 0
).astype(np.int32)


def _hue_weights() -> npt.NDArray[np.float32]:
    """Share of the chroma that every hue, in units of 2 degrees, takes from RGB."""
    position = np.arange(256, dtype=np.float32) * np.float32(6 / 180)
    shift = np.array([5, 3, 1], np.float32)
    k = np.mod(position[:, np.newaxis] + shift, np.float32(6))
    weights: npt.NDArray[np.float32] = np.clip(np.minimum(k, 4 - k), 0, 1)
    return weights


_HUE_WEIGHTS: Final = _hue_weights()


def distort(image: tf.Tensor, seed: tf.Tensor, settings: Augmentation) -> tf.Tensor:
    """The image with random changes of its colours.

    Args:
        image: uint8 `[H, W, 3]` RGB.
        seed: int32 or int64 `[2]`; the same seed gives the same image.
        settings: probabilities and ranges.

    Returns:
        uint8 `[H, W, 3]`.
    """
    # The order, a coin for each change, and how much of it.
    u = tf.unstack(tf.random.stateless_uniform([10], seed))
    brightness = _between(u[6], -settings.brightness_delta, settings.brightness_delta)
    contrast = _between(u[7], *settings.contrast_range)
    saturation = _between(u[8], *settings.saturation_range)
    hue = _between(u[9], -settings.hue_delta, settings.hue_delta)
    contrast_first = u[0] > 0.5
    has_contrast = (u[2] < settings.contrast_probability) & (
        tf.abs(contrast - 1.0) > _NO_CONTRAST
    )
    image = _if(
        u[1] < settings.brightness_probability,
        lambda x: adjust_brightness(x, brightness),
        image,
    )
    image = _if(
        has_contrast & contrast_first, lambda x: adjust_contrast(x, contrast), image
    )
    image = _if(
        u[3] < settings.saturation_probability,
        lambda x: adjust_saturation(x, saturation),
        image,
    )
    image = _if(u[4] < settings.hue_probability, lambda x: adjust_hue(x, hue), image)
    image = _if(
        has_contrast & ~contrast_first, lambda x: adjust_contrast(x, contrast), image
    )
    order = tf.random.experimental.stateless_shuffle(
        tf.range(_CHANNELS), tf.random.fold_in(seed, 1)
    )
    return _if(
        u[5] < settings.channel_shuffle_probability,
        lambda x: tf.gather(x, order, axis=-1),
        image,
    )


def adjust_brightness(image: tf.Tensor, delta: tf.Tensor) -> tf.Tensor:
    """The image with `delta` grey levels added, uint8."""
    return _to_uint8(tf.cast(image, tf.float32) + delta)


def adjust_contrast(image: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """The image with all channels multiplied, uint8."""
    return _to_uint8(tf.cast(image, tf.float32) * factor)


def adjust_saturation(image: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """The image with its saturation multiplied, uint8."""
    hue, saturation, value = rgb_to_hsv(image)
    saturation = tf.clip_by_value(tf.round(saturation * factor), 0.0, 255.0)
    return hsv_to_rgb(hue, saturation, value)


def adjust_hue(image: tf.Tensor, delta: tf.Tensor) -> tf.Tensor:
    """The image with `delta` units of 2 degrees added to its hue, uint8.

    A hue below 0 becomes 0; one above 179 begins again.
    """
    hue, saturation, value = rgb_to_hsv(image)
    hue = tf.clip_by_value(tf.round(hue + delta), 0.0, 255.0)
    return hsv_to_rgb(hue, saturation, value)


def rgb_to_hsv(image: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Hue 0 to 179, saturation and value 0 to 255 of a uint8 image.

    Returns:
        Three float32 `[H, W]` of whole numbers, those of OpenCV's 8-bit conversion.
    """
    red, green, blue = tf.unstack(tf.cast(image, tf.int32), axis=-1)
    value = tf.maximum(tf.maximum(red, green), blue)
    spread = value - tf.minimum(tf.minimum(red, green), blue)
    half = 1 << (_SHIFT - 1)
    saturation = tf.bitwise.right_shift(
        spread * tf.gather(_SATURATION_TABLE, value) + half, _SHIFT
    )
    sector = tf.where(
        value == red,
        green - blue,
        tf.where(value == green, blue - red + 2 * spread, red - green + 4 * spread),
    )
    hue = tf.bitwise.right_shift(sector * tf.gather(_HUE_TABLE, spread) + half, _SHIFT)
    hue = tf.where(hue < 0, hue + 180, hue)
    return (
        tf.cast(hue, tf.float32),
        tf.cast(saturation, tf.float32),
        tf.cast(value, tf.float32),
    )


def hsv_to_rgb(hue: tf.Tensor, saturation: tf.Tensor, value: tf.Tensor) -> tf.Tensor:
    """The uint8 image `[H, W, 3]` of float32 `[H, W]` in the units of `rgb_to_hsv`.

    A hue above 179 begins again. Grey levels are rounded, as OpenCV did until it
    began to cut them off.
    """
    chroma = value * saturation * (1.0 / 255.0)
    weights = tf.gather(_HUE_WEIGHTS, tf.cast(hue, tf.int32))
    pixels = value[..., tf.newaxis] - chroma[..., tf.newaxis] * weights
    # Between 0 and 255 already.
    return tf.cast(tf.round(pixels), tf.uint8)


def _between(u: tf.Tensor, low: float, high: float) -> tf.Tensor:
    return low + u * (high - low)


def _if(
    condition: tf.Tensor, change: Callable[[tf.Tensor], tf.Tensor], image: tf.Tensor
) -> tf.Tensor:
    return tf.cond(condition, lambda: change(image), lambda: image)


def _to_uint8(image: tf.Tensor) -> tf.Tensor:
    return tf.cast(tf.clip_by_value(tf.round(image), 0.0, 255.0), tf.uint8)
