# SPDX-License-Identifier: Apache-2.0
"""Images of any kind as RGB arrays."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import numpy.typing as npt

from ssdops.image_io import MAX_PIXELS, ImageError, load_image

__all__ = ["image_array", "is_one_image"]

_GREY, _RGB, _RGBA = 1, 3, 4
_WHITE = 255


def is_one_image(images: Any) -> bool:
    """Whether the argument is one image: a path, or an array of 2 or 3 dimensions."""
    if isinstance(images, str | os.PathLike):
        return True
    return getattr(images, "ndim", 0) in (2, 3)


def image_array(image: Any) -> npt.NDArray[np.uint8]:
    """Returns an image as RGB, uint8 [H, W, 3].

    Files are read as `ssdops.image_io.load_image` does. Arrays and tensors are taken as
    RGB: grey ones get three equal channels, transparent pixels are laid over white, of
    16 bits the high byte is taken; all others are in [0, 255], and floating ones are
    rounded.

    Args:
        image: Path of a file, or array or tensor of shape [H, W], [H, W, 1], [H, W, 3]
            or [H, W, 4], integers or floating.

    Raises:
        ssdops.image_io.ImageError: If a file cannot be read, or an array has another
            shape or dtype, values that are no pixels, or more than 100 million of them.
    """
    if isinstance(image, str | os.PathLike):
        return load_image(image)
    array = np.asarray(image)
    if array.ndim == 2:
        array = array[..., np.newaxis]
    if array.ndim != 3 or array.shape[-1] not in (_GREY, _RGB, _RGBA) or not array.size:
        raise ImageError(
            f"an image must be a path or have shape [H, W], [H, W, 1], [H, W, 3] or "
            f"[H, W, 4], got {type(image).__name__} of shape {list(np.shape(image))}"
        )
    if array.shape[0] * array.shape[1] > MAX_PIXELS:
        raise ImageError(
            f"an image of {array.shape[1]} x {array.shape[0]} pixels has more than the "
            f"{MAX_PIXELS} allowed"
        )
    array = _bytes(array)
    if array.shape[-1] == _RGBA:
        opacity = array[..., 3:].astype(np.uint32)
        shown = array[..., :3] * opacity + _WHITE * (_WHITE - opacity)
        array = ((shown + _WHITE // 2) // _WHITE).astype(np.uint8)
    if array.shape[-1] == _GREY:
        array = np.repeat(array, _RGB, axis=-1)
    return np.ascontiguousarray(array)


def _bytes(array: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Returns pixels as uint8."""
    if array.dtype == np.uint8:
        return array
    if array.dtype == np.uint16:
        return (array >> 8).astype(np.uint8)
    # bfloat16 is of no kind that NumPy knows.
    is_floating = array.dtype.kind == "f" or array.dtype.name == "bfloat16"
    if is_floating:
        array = array.astype(np.float32)
    elif array.dtype.kind not in "iu":
        raise ImageError(f"pixels must be numbers, got {array.dtype}")
    low, high = array.min(), array.max()
    if not (low >= 0 and high <= 255):  # nor NaN
        kind = "floating" if is_floating else array.dtype.name
        raise ImageError(f"{kind} pixels must lie in [0, 255], got {low:g} to {high:g}")
    return (np.rint(array) if is_floating else array).astype(np.uint8)
