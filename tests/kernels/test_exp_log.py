# SPDX-License-Identifier: Apache-2.0
"""Error of the float exponential and logarithm behind box coding."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
import pytest
from oracles.exp_log import exp
from support.bits import assert_equal_bits
from support.tolerances import FUNCTION_ULPS

F32 = np.float32
SAMPLES = 400_000


def ulps(actual: Any, exact: Any) -> Any:
    """Distance of float32 results from float64 ones, in ULP of the latter."""
    with np.errstate(over="ignore"):
        rounded = exact.astype(F32)
    unit = np.spacing(np.abs(rounded)).astype(np.float64)
    return np.abs(actual.astype(np.float64) - exact) / unit


def test_exp_over_its_range(native: ModuleType) -> None:
    x = np.linspace(-104, 88.72, SAMPLES, dtype=F32)
    x = np.concatenate([x, np.linspace(-1, 1, SAMPLES, dtype=F32)])
    # Where the result is subnormal, its own last place is the unit.
    assert ulps(native.exp(x), np.exp(x.astype(np.float64))).max() <= FUNCTION_ULPS


def test_exp_near_the_points_where_it_changes_interval(native: ModuleType) -> None:
    halves = (np.arange(-150, 128) + 0.5) * np.log(2)
    x = halves.astype(F32)[:, None]
    offsets = np.arange(-50, 51, dtype=np.int32)
    x = (x.view(np.int32) + offsets).view(F32).ravel()
    x = x[x <= F32(88.72)]
    assert ulps(native.exp(x), np.exp(x.astype(np.float64))).max() <= FUNCTION_ULPS


def test_exp_of_special_arguments(native: ModuleType) -> None:
    tiny = np.finfo(F32).smallest_subnormal
    x = np.array([0.0, -0.0, tiny, -tiny, -105, -1e30, -np.inf, np.nan], F32)
    expected = np.array([1, 1, 1, 1, 0, 0, 0, np.nan], F32)
    assert_equal_bits(native.exp(x), expected)


def test_exp_is_monotonic_between_neighbours(native: ModuleType) -> None:
    start = F32(1.0).view(np.int32)
    x = (start + np.arange(SAMPLES, dtype=np.int32)).view(F32)
    steps = np.diff(native.exp(x).astype(np.float64))
    assert (steps >= 0).all()


@pytest.mark.parametrize(("low", "high"), [(0, 0x7F800000), (0x3F000000, 0x40000000)])
def test_log_over_its_range(native: ModuleType, low: int, high: int) -> None:
    # Equal steps in bits: every exponent alike, subnormal numbers included.
    x = np.linspace(low + 1, high - 1, SAMPLES).astype(np.int64)
    x = x.astype(np.int32).view(F32)
    exact = np.log(x.astype(np.float64))
    assert ulps(native.log(x), exact)[exact != 0].max() <= FUNCTION_ULPS


def test_log_near_one_and_near_powers_of_two(native: ModuleType) -> None:
    for centre in [F32(1), F32(np.sqrt(0.5)), *(F32(2) ** np.arange(-20, 21))]:
        start = F32(centre).view(np.int32)
        x = (start + np.arange(-2000, 2001, dtype=np.int32)).view(F32)
        exact = np.log(x.astype(np.float64))
        assert ulps(native.log(x), exact)[exact != 0].max() <= FUNCTION_ULPS


def test_log_of_one_is_zero(native: ModuleType) -> None:
    assert_equal_bits(native.log(np.array([1.0], F32)), np.zeros(1, F32))


def test_oracle_of_exp(native: ModuleType) -> None:
    x = np.linspace(-110, 88.72, 100_000, dtype=np.float32)
    x = np.concatenate([x, np.array([-0.0, -1e6, -1e-40, -104], np.float32)])
    assert_equal_bits(exp(x), native.exp(x))
