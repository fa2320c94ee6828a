# SPDX-License-Identifier: Apache-2.0
"""The multibox loss and its gradients by the formulas, in float64."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from oracles.mine_hard_negatives import mine_hard_negatives

Array = npt.NDArray[Any]


class Loss(NamedTuple):
    """Losses `[4]` (total, localization, confidence, number of positives), what was
    mined, and the gradients of the total."""

    losses: Array
    mined: Array
    grad_logits: Array
    grad_offsets: Array


def multibox_loss(
    logits: Array,
    offsets: Array,
    target_classes: Array,
    target_offsets: Array,
    *,
    negative_ratio: float = 3.0,
    localization_weight: float = 1.0,
    confidence_loss: str = "softmax",
    localization_loss: str = "smooth_l1",
    normalizer: float | None = None,
    focal_alpha: float = 0.25,
    focal_gamma: float = 2.0,
) -> Loss:
    """Everything in float64, whatever the input; offsets only, no losses on boxes.

    Args:
        logits: `[B, A, C]`.
        offsets: `[B, A, 4]`.
        target_classes: int32 `[B, A]`.
        target_offsets: `[B, A, 4]`.
        negative_ratio: mined negatives per positive.
        localization_weight: of the localization part.
        confidence_loss: `"softmax"`, `"sigmoid"` or `"sigmoid_focal"`.
        localization_loss: `"smooth_l1"` or `"l2"`.
        normalizer: number to divide by, or None for the number of positives.
        focal_alpha: weight of the target class.
        focal_gamma: exponent.
    """
    x, t = logits.astype(np.float64), target_classes
    one_hot = np.arange(x.shape[-1]) == t[..., None]
    positive = t > 0
    count = int(positive.sum())
    divisor = max(1.0, float(count) if normalizer is None else normalizer)
    exists = count > 0 or normalizer is not None

    background = np.broadcast_to(np.arange(x.shape[-1]) == 0, x.shape)
    if confidence_loss == "sigmoid_focal":
        mined = np.zeros_like(positive)
        counted = t >= 0
    else:
        hardness = _entropy(x, background, confidence_loss)[0]
        if confidence_loss == "softmax":  # probabilities are at least FLT_MIN
            hardness = np.minimum(hardness, 87.33655)
        mined = mine_hard_negatives(hardness, t, negative_ratio=negative_ratio)
        counted = positive | mined
    if confidence_loss == "sigmoid_focal":
        losses, grads = _focal(x, one_hot, focal_alpha, focal_gamma)
    else:
        losses, grads = _entropy(x, one_hot, confidence_loss)
    confidence = losses[counted].sum() / divisor
    grad_logits = np.where(counted[..., None], grads, 0) / divisor

    d = offsets.astype(np.float64) - target_offsets.astype(np.float64)
    near = (np.abs(d) < 1) | (localization_loss == "l2")
    smooth = np.where(near, 0.5 * d * d, np.abs(d) - 0.5)
    localization = smooth[positive].sum() / divisor
    slope = np.where(near, d, np.sign(d))
    grad_offsets = np.where(positive[..., None], slope, 0)
    grad_offsets = grad_offsets * localization_weight / divisor
    total = localization_weight * localization + confidence
    return Loss(
        np.array([total, localization, confidence, 0]) * exists + [0, 0, 0, count],
        mined,
        grad_logits * exists,
        grad_offsets * exists,
    )


def _entropy(x: Array, target: Array, kind: str) -> tuple[Array, Array]:
    """Cross-entropies `[B, A]` and their gradients `[B, A, C]`."""
    with np.errstate(over="ignore"):
        if kind == "sigmoid":
            right = np.where(target, x, -x)
            losses = np.logaddexp(0, -right).sum(-1)
            wrong = np.exp(-np.logaddexp(0, right))
            return losses, np.where(target, -wrong, wrong)
        log_sum = np.logaddexp.reduce(x, axis=-1, keepdims=True)
        probability = np.exp(x - log_sum)
        # As a sum over the others: exact where the target is nearly certain.
        own = np.where(target, x, 0).sum(-1, keepdims=True)
        others = np.where(target, -np.inf, x) - own
        losses = np.logaddexp.reduce(others, axis=-1, keepdims=True)
        return np.logaddexp(0, losses)[..., 0], probability - target


def _focal(x: Array, target: Array, alpha: float, gamma: float) -> tuple[Array, Array]:
    target = target.copy()
    right = np.where(target, x, -x)
    entropy = np.logaddexp(0, -right)
    wrong = np.exp(-np.logaddexp(0, right))
    weight = np.where(target, alpha, 1 - alpha) * wrong**gamma
    slope = weight * (gamma * (1 - wrong) * entropy + wrong)
    grads = np.where(target, -slope, slope)
    grads[..., 0] = 0
    return (weight * entropy)[..., 1:].sum(-1), grads
