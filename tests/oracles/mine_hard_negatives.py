# SPDX-License-Identifier: Apache-2.0
"""Hard negative mining, by sorting the candidates of each image."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def mine_hard_negatives(
    losses: Array, target_classes: Array, *, negative_ratio: float = 3.0
) -> Array:
    """The candidates with the largest losses.

    Args:
        losses: `[B, A]`.
        target_classes: `[B, A]`; above 0 positive, 0 candidate, below 0 ignored.
        negative_ratio: at least 0.

    Returns:
        bool `[B, A]`.
    """
    mined = np.zeros(losses.shape, bool)
    for image, (row, classes) in enumerate(zip(losses, target_classes, strict=True)):
        candidates = [int(anchor) for anchor in np.flatnonzero(classes == 0)]
        wanted = float((classes > 0).sum()) * negative_ratio
        count = int(min(wanted, len(candidates)))
        candidates.sort(key=lambda anchor, row=row: (*hardness(row[anchor]), anchor))
        mined[image, candidates[:count]] = True
    return mined


def hardness(loss: Any) -> tuple[bool, float]:
    """Sorts before that of every smaller loss; a NaN before every number."""
    is_number = not np.isnan(loss)
    return is_number, -float(loss) if is_number else 0.0
