# SPDX-License-Identifier: Apache-2.0
"""Error of the float arctangent behind CIoU."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
from support.bits import assert_equal_bits
from support.tolerances import ATAN_ULPS

F32 = np.float32
SAMPLES = 400_000


def check(native: ModuleType, x: Any) -> None:
    exact = np.arctan(x.astype(np.float64))
    unit = np.spacing(np.abs(exact.astype(F32))).astype(np.float64)
    assert (np.abs(native.atan(x) - exact) / unit).max() <= ATAN_ULPS


def test_over_its_range(native: ModuleType) -> None:
    # Equal steps in bits: every exponent alike, subnormal numbers included.
    bits = np.linspace(0, 0x7F7FFFFF, SAMPLES).astype(np.int64).astype(np.int32)
    check(native, bits.view(F32))
    check(native, -bits.view(F32))


def test_near_the_points_where_it_changes_interval(native: ModuleType) -> None:
    for centre in (np.sqrt(2) - 1, 1.0, np.sqrt(2) + 1):
        start = F32(centre).view(np.int32)
        check(native, (start + np.arange(-5000, 5001, dtype=np.int32)).view(F32))


def test_special_arguments(native: ModuleType) -> None:
    quarter = F32(np.pi / 2)
    x = np.array([0.0, -0.0, np.inf, -np.inf, np.nan], F32)
    expected = np.array([0.0, 0.0, quarter, -quarter, np.nan], F32)
    assert_equal_bits(native.atan(x), expected)


def test_is_monotonic_between_neighbours(native: ModuleType) -> None:
    for start in (0.5, 3.0):
        bits = F32(start).view(np.int32) + np.arange(SAMPLES // 4, dtype=np.int32)
        steps = np.diff(native.atan(bits.view(F32)).astype(np.float64))
        assert (steps >= 0).all()
