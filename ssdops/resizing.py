# SPDX-License-Identifier: Apache-2.0
"""Images at the size of a network's input: stretched, or whole with borders.

This module needs NumPy only.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["boxes_from_window", "letterbox", "letterbox_window", "resize_image"]

Image = npt.NDArray[np.uint8]
Window = tuple[float, float, float, float]

# Weights are multiples of 1/2048, as in OpenCV.
_ONE = 2048


def resize_image(image: Image, image_size: tuple[int, int]) -> Image:
    """Returns the image stretched to a size, uint8 [h, w, 3].

    Bilinear, with pixel centres at half coordinates and without smoothing before
    shrinking: every number is that of OpenCV's `INTER_LINEAR`, which the original code
    and most programs that run such detectors use. Pillow's bilinear filter always
    smooths and differs visibly.

    Args:
        image: uint8 [H, W, 3]; returned itself if it has the size already.
        image_size: Height and width to return.

    Raises:
        ValueError: If the image does not have three dimensions with three channels, or
            another dtype.
    """
    if image.ndim != 3 or image.shape[-1] != 3 or 0 in image.shape:
        raise ValueError(f"image must have shape [H, W, 3], got {list(image.shape)}")
    if image.dtype != np.uint8:
        raise ValueError(f"image must have dtype uint8, got {image.dtype}")
    rows, columns, channels = image.shape
    height, width = image_size
    if (rows, columns) == (height, width):
        return image
    if (rows, columns) == (2 * height, 2 * width):
        # Of this factor OpenCV takes the means, which it rounds otherwise.
        pairs = image[0::2].astype(np.int32) + image[1::2]
        return np.asarray((pairs[:, 0::2] + pairs[:, 1::2] + 2) >> 2, np.uint8)
    top, bottom, upper, lower = _taps(rows, height)
    used = np.unique(np.concatenate([top, bottom]))
    if len(used) < rows:
        image = image.take(used, axis=0)
        top, bottom = np.searchsorted(used, top), np.searchsorted(used, bottom)
    left, right, before, after = _taps(columns, width, at_border=True)
    flat = image.reshape(len(image), -1)
    mixed = np.zeros((len(image), width * channels), np.int32)
    for column, weight in ((left, before), (right, after)):
        places = (column[:, np.newaxis] * channels + np.arange(channels)).reshape(-1)
        weights = np.repeat(weight, channels)
        mixed += np.multiply(flat.take(places, axis=1), weights, dtype=np.int32)
    mixed >>= 4
    result = np.full((height, width * channels), 2, np.int32)
    for row, weight in ((top, upper), (bottom, lower)):
        part = mixed.take(row, axis=0)
        part *= weight[:, np.newaxis]
        part >>= 16
        result += part
    result >>= 2
    return result.astype(np.uint8).reshape(height, width, channels)


def _taps(
    count: int, new_count: int, at_border: bool = False
) -> tuple[npt.NDArray[np.int64], ...]:
    """Returns for every new cell the two cells that it mixes, and their weights.

    Args:
        count: Cells of a row or column.
        new_count: Cells to make of them.
        at_border: Whether cells beyond the border have no weight, as OpenCV has it for
            columns; for rows the border is there twice.
    """
    places = ((np.arange(new_count) + 0.5) * (count / new_count) - 0.5).astype(
        np.float32
    )
    first = np.floor(places).astype(np.int64)
    share = places - first.astype(np.float32)
    if at_border:
        share[(first < 0) | (first >= count - 1)] = 0.0
        first = np.clip(first, 0, count - 1)
    weights = (
        np.rint(part * np.float32(_ONE)).astype(np.int32)
        for part in (np.float32(1.0) - share, share)
    )
    cells = (np.clip(first + step, 0, count - 1) for step in (0, 1))
    return (*cells, *weights)


def letterbox_window(
    size: tuple[int, int], image_size: tuple[int, int]
) -> tuple[int, int, int, int]:
    """Returns where an image lies that is fitted whole into the middle.

    Args:
        size: Height and width of the image.
        image_size: Height and width that it is fitted into.

    Returns:
        First row and column, and those after the last, in pixels.
    """
    factor = min(new / old for old, new in zip(size, image_size, strict=True))
    window = []
    for old, new in zip(size, image_size, strict=True):
        side = min(new, max(1, round(old * factor)))
        window.append(((new - side) // 2, (new - side) // 2 + side))
    (top, bottom), (left, right) = window
    return top, left, bottom, right


def letterbox(
    image: Image, image_size: tuple[int, int], fill: tuple[int, int, int]
) -> Image:
    """Returns the whole image in the middle of a picture, uint8 [h, w, 3].

    Its aspect ratio is kept up to the rounding to whole pixels.

    Args:
        image: uint8 [H, W, 3].
        image_size: Height and width to return.
        fill: Colour of the borders.

    Raises:
        ValueError: As `resize_image`.
    """
    top, left, bottom, right = letterbox_window(
        (image.shape[0], image.shape[1]), image_size
    )
    picture = np.empty((*image_size, 3), np.uint8)
    picture[:] = fill
    picture[top:bottom, left:right] = resize_image(image, (bottom - top, right - left))
    return picture


def boxes_from_window(
    boxes: npt.NDArray[np.floating], window: Window
) -> npt.NDArray[np.floating]:
    """Returns boxes in a picture as boxes in the image that is a part of it.

    Args:
        boxes: Relative corners [..., 4] (ymin, xmin, ymax, xmax), floating dtype.
        window: Relative corners of the image in the picture.

    Returns:
        Relative corners [..., 4] of the same dtype, unclipped.
    """
    corner = np.array([window[0], window[1]] * 2, boxes.dtype)
    size = np.array([window[2] - window[0], window[3] - window[1]] * 2, boxes.dtype)
    return (boxes - corner) / size
