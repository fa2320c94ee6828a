# SPDX-License-Identifier: Apache-2.0
"""How far a result with an exp or a log may be from the oracle, and why.

Everything else (+ - x / min max and comparisons) is equal in every bit and has no
tolerance. The oracle takes exp and log in float64 and rounds once: an error of half
an ULP. An implementation may be `FUNCTION_ULPS` off. With `eps`, the distance from 1
to the next number, an error of n ULP is at most `n * eps` relative, and each written
operation adds half an `eps` on either side of the comparison.

TensorFlow's graph optimizer rewrites `x / constant` to a product with the rounded
reciprocal, and XLA also `x / a / b` to `x / (a * b)`; the divisions of `encode_boxes`
are therefore compared with a tolerance wherever the reference is compiled.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

FUNCTION_ULPS = 2.0
"""Largest error of an exp or a log, in ULP of its result."""

ATAN_ULPS = 2.5
"""The same of an arctangent."""

SMALLEST = {"float32": 2.0**-126, "float64": 2.0**-1022}
"""Numbers below this are flushed to zero by TensorFlow."""

VARIANCES = (0.1, 0.1, 0.2, 0.2)


def encode_tolerance(offsets: Array, *, exact_divisions: bool = True) -> Array:
    """Largest allowed difference of `encode_boxes` from the oracle.

    `th = log(ratio) / v`: the two logs are `FUNCTION_ULPS + 1/2` apart, the two
    divisions add half an `eps` each. `ty` has no function: it is equal, or, where
    the two divisions may be replaced by a product, three roundings of half an `eps`
    against two.

    Args:
        offsets: the oracle's result `[..., 4]`.
        exact_divisions: False where the compiler may rewrite divisions.
    """
    eps = np.finfo(offsets.dtype).eps
    relative = np.array([0.0, 0.0, 1.0, 1.0]) * (FUNCTION_ULPS + 0.5 + 1.0)
    if not exact_divisions:
        relative += 2.5
    return np.abs(offsets.astype(np.float64)) * relative * eps


def decode_tolerance(
    boxes: Array, offsets: Array, anchors: Array, variances: Sequence[float] = VARIANCES
) -> Array:
    """Largest allowed difference of `decode_boxes` from the oracle.

    The corners are `c -/+ s / 2`, `c` equal. The two sizes are `FUNCTION_ULPS + 1/2`
    and two roundings of the product apart, relative to `s`; the last sum adds half
    an `eps` of the corner on either side.

    Args:
        boxes: the oracle's result `[..., A, 4]`.
        offsets: `[..., A, 4]`.
        anchors: `[A, 4]`.
        variances: 4 positive numbers.
    """
    eps = float(np.finfo(boxes.dtype).eps)
    with np.errstate(all="ignore"):
        wide = offsets.astype(np.float64)
        size = np.exp(wide[..., 2:] * np.asarray(variances)[2:])
        size = np.abs(size * np.subtract(anchors[:, 2:], anchors[:, :2], dtype="f8"))
        half = np.concatenate([size, size], -1) / 2
        # The argument of the exponential is a rounded product: equal on both sides,
        # but not equal to the float64 product here, which only scales the bound.
        half *= 1.01
        rounding = np.abs(boxes.astype(np.float64)) * eps
    return half * (FUNCTION_ULPS + 1.5) * eps + rounding + SMALLEST[boxes.dtype.name]


def decay_tolerance(scores: Array, decays: int, largest_exponent: float) -> Array:
    """Largest allowed difference of a Gaussian decay from the oracle.

    A weight is `exp(x / sigma)`: either exponential is `FUNCTION_ULPS` off, the
    quotient may be a product with the rounded reciprocal, and `x` be fused, so that
    the arguments are 3 eps apart, relative to themselves; the product with the score
    adds half an `eps` on either side.

    Args:
        scores: the oracle's result.
        decays: how often a score is multiplied at most.
        largest_exponent: magnitude of the largest argument.
    """
    wide = np.abs(scores.astype(np.float64))
    each = 2 * FUNCTION_ULPS + 3 * largest_exponent + 1
    return wide * decays * each * float(np.finfo(scores.dtype).eps)


def gradient_tolerance(magnitude: Array, dtype: Any) -> Array:
    """Largest allowed difference of a gradient from its float64 value.

    A gradient is a sum of two terms of at most six roundings and one function each;
    sizes and centres of the boxes are differences of coordinates, rounded once.

    Args:
        magnitude: sum of the magnitudes of the terms.
        dtype: in which the implementation computes.
    """
    roundings = 2 * 6 + FUNCTION_ULPS
    kind = np.dtype(dtype)
    return magnitude * roundings * float(np.finfo(kind).eps) + SMALLEST[kind.name]


def ciou_tolerance(dtype: Any) -> float:
    """Largest allowed difference of a CIoU from the oracle.

    The angles, at most pi / 2, are `ATAN_ULPS + 1/2` ULP apart, at most as many
    `eps`. `v = 4 / pi^2 * d^2` moves by less than 2 units per unit of either angle;
    `v^2 / (1 - IoU + v)` by at most one per unit of `v`. Three further roundings of
    numbers of at most 1 on either side.

    Args:
        dtype: of the result. Half types are computed in float32 and rounded once,
            perhaps to two neighbours, at most `eps` apart below 2.
    """
    eps = float(np.finfo(np.float32 if _is_half(dtype) else dtype).eps)
    tolerance = (2 * 2 * (ATAN_ULPS + 0.5) + 6) * eps
    return tolerance + (_eps_of_half(dtype) if _is_half(dtype) else 0)


def diou_tolerance(dtype: Any) -> float:
    """Largest allowed difference of a DIoU from the oracle where XLA compiles it.

    XLA may round `y * y + x * x` once instead of twice, in the distance and in the
    diagonal: their quotient, at most 1, moves by 2 roundings, the result by one more.

    Args:
        dtype: of the result.
    """
    return 3 * float(np.finfo(dtype).eps)


def iou_gradient_tolerance(boxes_a: Array, boxes_b: Array, grad: Array) -> Array:
    """Largest allowed difference of two gradients of one value of `box_iou`.

    Every term of a derivative is at most 2 over the smallest height or width of the
    two boxes, `s`; with at most 8 terms of at most 8 roundings each on either side,
    an error is at most 256 `eps / s`.

    Args:
        boxes_a: aligned boxes `[..., 4]`, none of them empty.
        boxes_b: same.
        grad: incoming gradient `[...]`.

    Returns:
        `[..., 1]`.
    """
    eps = float(np.finfo(boxes_a.dtype).eps)
    sizes = [(b[..., 2:] - b[..., :2]).min(-1) for b in (boxes_a, boxes_b)]
    smallest = np.minimum(*sizes).astype(np.float64)
    bound = 256 * eps * np.abs(grad.astype(np.float64)) / smallest
    return np.asarray(bound[..., None])


def _is_half(dtype: Any) -> bool:
    return np.dtype(dtype).itemsize == 2


def _eps_of_half(dtype: Any) -> float:
    return 2.0**-10 if np.dtype(dtype).name == "float16" else 2.0**-7
