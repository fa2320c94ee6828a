# SPDX-License-Identifier: Apache-2.0
"""Comparison of arrays: in every bit, or within a derived tolerance."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

_BITS = {2: np.uint16, 4: np.uint32, 8: np.uint64}


def assert_equal_bits(actual: Any, expected: Any, what: str = "result") -> None:
    """Assert equal dtype, shape and bits; any NaN equals any NaN."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.dtype == expected.dtype, (
        f"{what}: dtype {actual.dtype}, expected {expected.dtype}"
    )
    assert actual.shape == expected.shape, (
        f"{what}: shape {actual.shape}, expected {expected.shape}"
    )
    different = _bits(actual) != _bits(expected)
    if actual.dtype.kind not in "iub":
        wide = np.float64
        both_nan = np.isnan(actual.astype(wide)) & np.isnan(expected.astype(wide))
        different &= ~both_nan
    _report(different, actual, expected, what)


def assert_within(
    actual: Any, expected: Any, tolerance: Any, what: str = "result"
) -> None:
    """Assert equal dtype and shape and `|actual - expected| <= tolerance`.

    Infinities and NaN must be equal.
    """
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.dtype == expected.dtype, (
        f"{what}: dtype {actual.dtype}, expected {expected.dtype}"
    )
    assert actual.shape == expected.shape, (
        f"{what}: shape {actual.shape}, expected {expected.shape}"
    )
    a, e = actual.astype(np.float64), expected.astype(np.float64)
    with np.errstate(invalid="ignore"):
        fine = np.abs(a - e) <= tolerance
    fine |= (a == e) | (np.isnan(a) & np.isnan(e))
    _report(~fine, actual, expected, what)


def assert_all_equal_bits(actual: Any, expected: Any, names: tuple[str, ...]) -> None:
    """`assert_equal_bits` on tuples of arrays."""
    assert len(actual) == len(expected) == len(names)
    for name, a, e in zip(names, actual, expected, strict=True):
        assert_equal_bits(a, e, name)


def _bits(array: Array) -> Array:
    if array.dtype.kind in "iub":
        return array
    return np.ascontiguousarray(array).view(_BITS[array.dtype.itemsize])


def _report(different: Array, actual: Array, expected: Array, what: str) -> None:
    if not different.any():
        return
    index = tuple(int(i) for i in np.argwhere(different)[0])
    a, e = actual[index], expected[index]
    raise AssertionError(
        f"{what}: {int(different.sum())} of {different.size} elements differ, first at"
        f" {list(index)}: got {a!r}, expected {e!r}"
    )
