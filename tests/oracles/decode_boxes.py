# SPDX-License-Identifier: Apache-2.0
"""Centre-size box decoding, row by row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

MAX_EXPONENT = {"float32": 88.72, "float64": 709.78}
"""Largest argument of the exponential that is not limited, just below ln(max)."""


def decode_boxes(
    offsets: Array, anchors: Array, *, variances: Sequence[float] = (0.1, 0.1, 0.2, 0.2)
) -> Array:
    """Boxes that offsets at anchors stand for.

    Args:
        offsets: `[..., A, 4]`, float32 or float64.
        anchors: `[A, 4]`, same dtype.
        variances: 4 positive numbers.

    Returns:
        `[..., A, 4]`; every step is limited to the finite range of the dtype, a NaN
        stays NaN. The exponential is taken in float64 and rounded once.
    """
    result = np.zeros_like(offsets)
    scale = np.asarray(variances, offsets.dtype)
    half = offsets.dtype.type(0.5)
    with np.errstate(all="ignore"):
        for index in np.ndindex(*offsets.shape[:-1]):
            t, anchor = offsets[index], anchors[index[-1]]
            for low, high in ((0, 2), (1, 3)):
                anchor_size = anchor[high] - anchor[low]
                anchor_centre = (anchor[low] + anchor[high]) * half
                shift = limit(t[low] * scale[low])
                centre = limit(shift * anchor_size + anchor_centre)
                size = limit(limited_exp(t[high] * scale[high]) * anchor_size)
                result[index][low] = limit(centre - size * half)
                result[index][high] = limit(centre + size * half)
    return result


def decode_boxes_grad(
    grad_boxes: Array,
    offsets: Array,
    anchors: Array,
    *,
    variances: Sequence[float] = (0.1, 0.1, 0.2, 0.2),
) -> tuple[Array, Array]:
    """Gradient with respect to the offsets; 0 through a value that was limited.

    Args:
        grad_boxes: `[..., A, 4]`.
        offsets: `[..., A, 4]`; its dtype decides what is limited.
        anchors: `[A, 4]`.
        variances: 4 positive numbers.

    Returns:
        float64 gradient `[..., A, 4]`, and the sum of the magnitudes of its terms,
        to which a rounding error is relative.
    """
    dtype = offsets.dtype
    scale = np.asarray(variances, dtype)
    half = dtype.type(0.5)
    grad = np.zeros(offsets.shape, np.float64)
    magnitude = np.zeros(offsets.shape, np.float64)
    with np.errstate(all="ignore"):
        for index in np.ndindex(*offsets.shape[:-1]):
            t, anchor = offsets[index], anchors[index[-1]]
            for low, high in ((0, 2), (1, 3)):
                anchor_size = anchor[high] - anchor[low]
                anchor_centre = (anchor[low] + anchor[high]) * half
                raw_shift = t[low] * scale[low]
                raw_centre = limit(raw_shift) * anchor_size + anchor_centre
                exponential = limited_exp(t[high] * scale[high])
                raw_size = exponential * anchor_size
                centre, size = limit(raw_centre), limit(raw_size)
                g = np.zeros(2, np.float64)
                for k, corner in enumerate(
                    (centre - size * half, centre + size * half)
                ):
                    if not is_limited(corner):
                        g[k] = grad_boxes[index][(low, high)[k]]
                if not is_limited(raw_shift) and not is_limited(raw_centre):
                    slope = np.float64(anchor_size) * np.float64(scale[low])
                    grad[index][low] = (g[0] + g[1]) * slope
                    magnitude[index][low] = (abs(g[0]) + abs(g[1])) * abs(slope)
                exponent = t[high] * scale[high]
                if not overflows(exponent) and not is_limited(raw_size):
                    slope = 0.5 * np.float64(raw_size) * np.float64(scale[high])
                    grad[index][high] = (g[1] - g[0]) * slope
                    magnitude[index][high] = (abs(g[0]) + abs(g[1])) * abs(slope)
    return grad, magnitude


def limit(x: Any) -> Any:
    """`x` within the finite range of its dtype; NaN stays NaN."""
    largest = np.finfo(x.dtype).max
    if x > largest:
        return largest
    return -largest if x < -largest else x


def is_limited(x: Any) -> bool:
    """Whether `limit` changes `x`."""
    return bool(np.isinf(x))


def limited_exp(x: Any) -> Any:
    """exp(x) rounded to the dtype of `x`, or its largest finite number."""
    if overflows(x):
        return np.finfo(x.dtype).max
    return x.dtype.type(np.exp(np.float64(x)))


def overflows(x: Any) -> bool:
    """Whether exp(x) is limited."""
    return bool(x > x.dtype.type(MAX_EXPONENT[x.dtype.name]))
