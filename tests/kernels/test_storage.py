# SPDX-License-Identifier: Apache-2.0
"""Half types: every bit pattern widened, and narrowed on every instruction set.

The gradient of the IoU of two equal boxes is the incoming gradient times a constant
that the test sees in float32, so it shows both conversions of any number at all.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
import pytest
from support.bits import assert_equal_bits
from support.buffers import run_kernel


def half_type(name: str) -> Any:
    """The NumPy dtype of a half type."""
    if name == "float16":
        return np.dtype(np.float16)
    return np.dtype(pytest.importorskip("ml_dtypes").bfloat16)


def every_pattern(dtype: Any) -> Any:
    return np.arange(2**16, dtype=np.uint16).view(dtype)


# The slope is the inverse of the side: 0.5 rounds subnormal numbers, 1 / 3 rounds all,
# and large numbers times 1024 overflow.
@pytest.mark.parametrize("side", [1.0, 2.0, 3.0, 2.0**-10])
@pytest.mark.parametrize("name", ["float16", "bfloat16"])
def test_every_pattern_and_its_multiples(
    native: ModuleType, name: str, side: float
) -> None:
    dtype = half_type(name)
    grad = every_pattern(dtype)
    boxes = np.tile(np.array([0, 0, side, side], np.float32), (len(grad), 1))
    ones = np.ones(1, np.float32)
    slopes = native.box_iou_grad(ones, boxes[:1], boxes[:1], aligned=True)
    narrow = boxes.astype(dtype)
    results = run_kernel(native.box_iou_grad, grad, narrow, narrow, aligned=True)
    with np.errstate(all="ignore"):
        for result, slope in zip(results, slopes, strict=True):
            expected = (grad.astype(np.float32)[:, None] * slope).astype(dtype)
            assert_equal_bits(result, expected)


@pytest.mark.parametrize("name", ["float16", "bfloat16"])
def test_quotients_are_rounded_once(native: ModuleType, name: str) -> None:
    dtype = half_type(name)
    rng = np.random.default_rng(1)
    bits = rng.integers(
        1, np.float32(1).astype(dtype).view(np.uint16) + 1, (2, 100_000)
    )
    inner, outer = np.sort(bits.astype(np.uint16).view(dtype).astype(np.float32), 0)
    zero, one = np.zeros_like(inner), np.ones_like(inner)
    a, b = (
        np.stack([zero, zero, side, one], -1).astype(dtype) for side in (inner, outer)
    )
    result = run_kernel(native.box_iou, a, b, aligned=True)
    union = (inner + outer) - inner
    assert_equal_bits(result, (inner / union).astype(dtype))
