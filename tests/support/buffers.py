# SPDX-License-Identifier: Apache-2.0
"""Poisoned outputs between guard bytes, and the runs that every kernel must survive."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from support.bits import assert_equal_bits
from support.device import Comparison, equal_up_to_libm, run_on_device

Array = npt.NDArray[Any]

GUARD_BYTES = 64
THREADS = 3


class Guarded:
    """An output array filled with one byte value, between guard bytes.

    Attributes:
        array: C-contiguous view for the kernel to write, aligned to its item size
            and no more.
    """

    def __init__(self, shape: tuple[int, ...], dtype: Any, poison: int) -> None:
        dtype = np.dtype(dtype)
        size = int(np.prod(shape)) * dtype.itemsize
        self._start = GUARD_BYTES + dtype.itemsize
        self._end = self._start + size
        self._poison = poison
        self._memory = np.full(self._end + GUARD_BYTES, poison, np.uint8)
        body = self._memory[self._start : self._end]
        self.array: Array = body.view(dtype).reshape(shape)

    def check(self) -> None:
        """Assert that nothing around the array was written."""
        before = self._memory[: self._start]
        after = self._memory[self._end :]
        assert (before == self._poison).all(), "bytes before the output were written"
        assert (after == self._poison).all(), "bytes after the output were written"


def run_kernel(
    function: Callable[..., Any],
    *inputs: Array,
    compare_device: Comparison | None = equal_up_to_libm,
    **options: Any,
) -> Any:
    """Call a native function in several ways that must all agree, and return one.

    It is called without `out`; with poisoned and guarded `out` of two poison values
    on one thread; on several threads; with inputs that are not contiguous; with every
    lower instruction set; and on the GPU, if there is one or its emulation. The results
    must be equal in every bit and the inputs unchanged.

    Args:
        function: function of `ssdops._native` that returns an array or a tuple.
        inputs: its arrays.
        compare_device: asserts that a result of the GPU is right, given the result of
            the CPU and a name, where the contract promises less than equal bits. None
            for what is a matter of the CPU alone.
        options: its keywords.

    Returns:
        What the function returns.
    """
    from ssdops import _native

    copies = [array.copy() for array in inputs]
    result = function(*inputs, **options)
    results = _tuple(result)
    for array, copy in zip(inputs, copies, strict=True):
        assert_equal_bits(array, copy, "an input")

    for poison, threads in ((0xA5, 1), (0x5A, 1), (0xFF, THREADS)):
        outs = [Guarded(r.shape, r.dtype, poison) for r in results]
        arrays = tuple(out.array for out in outs)
        out = arrays if isinstance(result, tuple) else arrays[0]
        again = function(*inputs, **options, out=out, num_threads=threads)
        for guarded, returned, expected in zip(
            outs, _tuple(again), results, strict=True
        ):
            guarded.check()
            assert np.shares_memory(returned, guarded.array) or returned.size == 0
            assert_equal_bits(guarded.array, expected, f"out on {threads} threads")

    strided = [_strided(array) for array in inputs]
    for again, expected in zip(
        _tuple(function(*strided, **options)), results, strict=True
    ):
        assert_equal_bits(again, expected, "result of strided inputs")

    best = _native.active_isa()
    for isa in _native.isas():
        if isa == best:
            continue
        _native.set_active_isa(isa)
        try:
            again = function(*inputs, **options)
        finally:
            _native.set_active_isa(best)
        for other, expected in zip(_tuple(again), results, strict=True):
            assert_equal_bits(other, expected, f"result of {isa}")

    if compare_device is not None:
        run_on_device(function, inputs, options, results, compare_device)
    return result


def _strided(array: Array) -> Array:
    """The same values in every second element of a larger array."""
    wide = np.zeros((*array.shape[:-1], 2 * array.shape[-1]), array.dtype)
    view = wide[..., ::2]
    view[...] = array
    return view


def _tuple(value: Any) -> tuple[Array, ...]:
    return tuple(value) if isinstance(value, tuple) else (value,)
