# SPDX-License-Identifier: Apache-2.0
"""What no implementation can be faster than on this machine."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any

import numpy as np

__all__ = ["copy_seconds", "multiply_add_rate"]


@functools.cache
def copy_seconds(count: int) -> float:
    """Shortest time to move `count` bytes, half read and half written, on one thread.

    Buffers of this very size are copied, so that a workload that stays in a cache is
    compared with a copy that stays there too.
    """
    source = np.ones(max(count // 2, 1), np.uint8)
    target = np.empty_like(source)
    return _shortest(lambda: np.copyto(target, source), 20)


@functools.cache
def multiply_add_rate() -> float:
    """Multiplications and additions per second of one thread, as a matrix product.

    The matrices are too small for the library to use several threads. No kernel of
    comparisons and quotients comes near this rate: the floor is a lower bound.
    """
    size = 64
    a = np.ones((size, size), np.float32)
    out = np.empty_like(a)
    repeats = 50

    def products() -> None:
        for _ in range(repeats):
            np.matmul(a, a, out=out)

    return 2 * size**3 * repeats / _shortest(products, 20)


def _shortest(function: Callable[[], Any], rounds: int) -> float:
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times)
