# SPDX-License-Identifier: Apache-2.0
"""The exponential of `exp_log.h` in float32 NumPy: same operations, same bits."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def exp(x: Array) -> Array:
    """exp(x) as the kernels compute it, element by element.

    Args:
        x: float32, not above 88.72; or float64, for which it is that of the C library.
    """
    if x.dtype == np.float64:
        return np.vectorize(math.exp, otypes=[np.float64])(x) if x.size else x
    f = np.float32
    with np.errstate(all="ignore"):
        limited = np.where(x >= f(-104), x, f(-104))
        shift = f(12582912)
        n = (limited * f(1.44269504) + shift) - shift
        r = (limited - n * f(0.693359375)) - n * f(-2.12194440e-4)
        z = r * r
        p01 = r * f(1.6666665459e-1) + f(5.0000001201e-1)
        p23 = r * f(8.3334519073e-3) + f(4.1665795894e-2)
        p45 = r * f(1.9875691500e-4) + f(1.3981999507e-3)
        p = (p45 * z + p23) * z + p01
        p = (p * z + r) + f(1)
        exponent = n.astype(np.int32)
        half = np.trunc(exponent / 2).astype(np.int32)
        y = p * _power_of_two(half) * _power_of_two(exponent - half)
        return np.where(x >= f(-104), y, np.where(x < f(-104), f(0), x)).astype(f)


def _power_of_two(n: Array) -> Array:
    return ((n + 127) << 23).astype(np.int32).view(np.float32)
