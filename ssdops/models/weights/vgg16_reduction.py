# SPDX-License-Identifier: Apache-2.0
"""fc6 and fc7 of the detector from the fully connected layers of a VGG-16.

The customary reduction keeps every third tap of the 7 x 7 cells that the classifier
sees, and every fourth channel: 4096 become 1024, and the dilated 3 x 3 kernel looks at
the cells where the taps were.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np

from ssdops.models.weights.arrays import Array

__all__ = ["CHANNEL_STEP", "GRID", "TAP_STEP", "with_reduced_layers"]

GRID: Final = 7
TAP_STEP: Final = 3
CHANNEL_STEP: Final = 4


def with_reduced_layers(arrays: Mapping[str, Array]) -> dict[str, Array]:
    """Arrays of a VGG-16 by Caffe's names, with fully connected layers reduced.

    Those of a network that has convolutions in their place are returned as they are.

    Args:
        arrays: By names `<layer>|<blob>`, in Caffe's layouts.
    """
    reduced = dict(arrays)
    # Old files have four dimensions for every blob, the first of them 1 here.
    first = np.squeeze(reduced.get("fc6|0", np.zeros(0)))
    if first.ndim != 2 or not first.size or first.shape[1] % GRID**2:
        return reduced
    taps = first.reshape(len(first), -1, GRID, GRID)
    reduced["fc6|0"] = taps[::CHANNEL_STEP, :, ::TAP_STEP, ::TAP_STEP]
    second = np.squeeze(reduced.get("fc7|0", np.zeros(0)))
    if second.ndim == 2:
        reduced["fc7|0"] = second[::CHANNEL_STEP, ::CHANNEL_STEP, None, None]
    for bias in ("fc6|1", "fc7|1"):
        if bias in reduced:
            reduced[bias] = reduced[bias].reshape(-1)[::CHANNEL_STEP]
    return reduced
