# SPDX-License-Identifier: Apache-2.0
"""The same calls on a GPU, or on its emulation by the CPU.

Without either, nothing is run. With `SSDOPS_REQUIRE_DEVICE=1` that is a failure.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from support.bits import assert_equal_bits, assert_within
from support.requirements import absent

Array = npt.NDArray[Any]
Comparison = Callable[[Any, Any, str], None]

# The order in which the emulator runs the threads of a block and the blocks of a
# grid: a result that depends on it misses a barrier.
EMULATOR_ORDERS = ("forward", "reverse", "7")
POISONS = (0xA5, 0x5A, 0xFF)


def have_device() -> bool:
    """Whether the native module has a GPU to run on, real or emulated."""
    from ssdops import _native

    return _native.cuda_device_count() > 0


def require_device() -> None:
    """Skip the running test without a GPU, real or emulated."""
    if not have_device():
        absent("ssdops._native has no GPU to run on", "SSDOPS_REQUIRE_DEVICE")


def on_device(value: Any) -> Any:
    """A copy on the GPU of what is an array; everything else as it is."""
    from ssdops import _native

    return _native.DeviceArray(value) if isinstance(value, np.ndarray) else value


def equal_up_to_libm(actual: Any, expected: Any, what: str) -> None:
    """Assert equal bits; of float64 on a real GPU, up to its own exp, log and atan."""
    from ssdops import _native

    expected = np.asarray(expected)
    if expected.dtype == np.float64 and not _native.cuda_is_emulated():
        finite = np.nan_to_num(np.abs(expected), posinf=0.0)
        assert_within(actual, expected, 1e-12 * finite + 1e-300, what)
    else:
        assert_equal_bits(actual, expected, what)


def run_on_device(
    function: Callable[..., Any],
    inputs: tuple[Array, ...],
    options: dict[str, Any],
    expected: tuple[Array, ...],
    compare: Comparison,
) -> None:
    """Call a native function with arrays on the GPU, several times.

    Once without `out`, then with outputs of different poison; emulated, each time with
    another order of threads. All results must be equal in every bit, the inputs
    unchanged, and the result right.

    Args:
        function: function of `ssdops._native`.
        inputs: its arrays, in host memory.
        options: its keywords.
        expected: what it gives on the CPU.
        compare: asserts that a result is right, given it, the expected one and a name.
    """
    from ssdops import _native

    if not have_device():
        return
    arrays = [on_device(array) for array in inputs]
    keywords = {name: on_device(value) for name, value in options.items()}
    first: list[Array] = []
    for poison, order in zip(POISONS, EMULATOR_ORDERS, strict=True):
        if _native.cuda_is_emulated():
            _native.set_emulator_order(order)
        if first:
            outs = tuple(_native.DeviceArray(_poisoned(r, poison)) for r in expected)
            keywords["out"] = outs if len(expected) > 1 else outs[0]
        returned = function(*arrays, **keywords)
        several = isinstance(returned, tuple)
        results = [r.numpy() for r in (returned if several else (returned,))]
        if not first:
            first = results
        for index, (result, again) in enumerate(zip(first, results, strict=True)):
            assert_equal_bits(again, result, f"result {index} of the GPU, run again")
    for index, (result, wanted) in enumerate(zip(first, expected, strict=True)):
        compare(result, wanted, f"result {index} of the GPU")
    for array, copy in zip(arrays, inputs, strict=True):
        assert_equal_bits(array.numpy(), copy, "an input of the GPU")


def _poisoned(like: Array, poison: int) -> Array:
    return np.full(like.nbytes, poison, np.uint8).view(like.dtype).reshape(like.shape)
