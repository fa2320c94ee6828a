# SPDX-License-Identifier: Apache-2.0
"""Checks that every function of the NumPy binding is put through."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest


def expect_error(
    function: Callable[..., Any], *inputs: Any, message: str, **options: Any
) -> None:
    """Assert a ValueError whose text contains `message`."""
    with pytest.raises(ValueError, match=re.escape(message)):
        function(*inputs, **options)


def expect_out_errors(function: Callable[..., Any], *inputs: Any) -> None:
    """Assert that every kind of unsuitable `out` is refused, one array at a time.

    Wrong are a shape, a dtype, a layout that is not C-contiguous, a read-only array,
    and, for functions of several outputs, their number.
    """
    result = function(*inputs)
    arrays = result if isinstance(result, tuple) else (result,)
    for position, array in enumerate(arrays):
        assert array.size > 1
        read_only = array.copy()
        read_only.flags.writeable = False
        for wrong in (
            np.zeros((*array.shape, 1), array.dtype),
            np.zeros(array.size + 1, array.dtype),
            np.zeros(array.shape, np.float16),
            np.zeros((*array.shape[:-1], 2 * array.shape[-1]), array.dtype)[..., ::2],
            read_only,
        ):
            replaced = [a.copy() for a in arrays]
            replaced[position] = wrong
            out = tuple(replaced) if isinstance(result, tuple) else wrong
            with pytest.raises(ValueError, match=r"^out"):
                function(*inputs, out=out)
    if isinstance(result, tuple):
        expect_error(function, *inputs, out=result[:-1], message="out must have")


def expect_thread_count_error(function: Callable[..., Any], *inputs: Any) -> None:
    """Assert that fewer than one thread is refused."""
    for count in (0, -1):
        expect_error(
            function,
            *inputs,
            num_threads=count,
            message=f"num_threads must be at least 1, got {count}",
        )
