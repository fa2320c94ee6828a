# SPDX-License-Identifier: Apache-2.0
"""Weights of the Object Detection API as they were trained, in the form of inference.

Checkpoints and frozen graphs have batch normalisation beside the convolutions, which
are [h, w, in, out]. What TensorFlow Lite has, and `object_detection_api` reads, is one
kernel [out, h, w, in] and one bias.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final

import numpy as np

from ssdops.models.weights.arrays import Array

__all__ = ["averaged", "is_trained", "with_folded_normalization"]

_EPSILON: Final = 1e-3
_AVERAGE: Final = "/ExponentialMovingAverage"
_NORM: Final = "/BatchNorm/"
_STATISTICS: Final = ("gamma", "beta", "moving_mean", "moving_variance")
_KERNEL: Final = re.compile(r"(?P<layer>.+)/(?P<kind>depthwise_weights|weights)")
_MODEL: Final = ("FeatureExtractor/", "BoxPredictor_")


def is_trained(arrays: Mapping[str, Array]) -> bool:
    """Whether arrays are those of a model with batch normalisation."""
    return any(
        name.startswith(_MODEL[0]) and name.endswith(f"{_NORM}moving_variance")
        for name in arrays
    )


def averaged(arrays: Mapping[str, Array]) -> dict[str, Array]:
    """Returns the arrays, averages over the training in the place of last values."""
    values = dict(arrays)
    for name in arrays:
        if name.endswith(_AVERAGE):
            values[name.removesuffix(_AVERAGE)] = values.pop(name)
    return values


def with_folded_normalization(
    arrays: Mapping[str, Array], keep: Callable[[str], bool] = lambda layer: False
) -> dict[str, Array]:
    """Kernels and biases with the batch normalisation after them put in.

    Averages of the weights over the training are taken where they are there. What an
    optimizer keeps, and constants of the graph that are no weights, are left out.

    Args:
        arrays: By names of variables.
        keep: Whether the normalisation of a layer, given by its scope, stays apart.

    Returns:
        Kernels as `<layer>/weights`, biases as `<layer>/biases`, in the layouts of
        TensorFlow Lite; parts of normalisations as `<layer>/BatchNorm/<part>`.

    Raises:
        ValueError: If a normalisation lacks a part or does not fit its convolution.
    """
    values = averaged(arrays)
    folded: dict[str, Array] = {}
    for name, kernel in values.items():
        match = _KERNEL.fullmatch(name)
        if match is None or not name.startswith(_MODEL) or kernel.ndim != 4:
            continue
        layer = match["layer"]
        is_depthwise = match["kind"] == "depthwise_weights"
        # Depthwise: [h, w, channels, 1] -> [1, h, w, channels].
        stored = kernel.transpose((3, 0, 1, 2))
        parts: list[Array | None] = [
            values.get(f"{layer}{_NORM}{part}") for part in _STATISTICS
        ]
        bias: Array | None
        # Normalisations without a factor have none stored.
        if parts[0] is None and parts[1] is not None:
            parts[0] = np.ones_like(parts[1])
        if all(part is not None for part in parts) and keep(layer):
            bias = None
            for kept, part in zip(_STATISTICS, parts, strict=True):
                folded[f"{layer}{_NORM}{kept}"] = np.asarray(part)
        elif all(part is not None for part in parts):
            axis = -1 if is_depthwise else 0
            try:
                stored, bias = _folded(stored, axis, *(np.asarray(p) for p in parts))
            except ValueError as error:
                raise ValueError(f"{layer}{_NORM[:-1]} does not fit: {error}") from None
        elif any(part is not None for part in parts):
            raise ValueError(f"{layer}{_NORM[:-1]} must have {', '.join(_STATISTICS)}")
        else:
            bias = values.get(f"{layer}/biases")
        folded[f"{layer}/weights"] = stored
        if bias is not None:
            folded[f"{layer}/biases"] = bias
    return folded


def _folded(
    kernel: Array, axis: int, gamma: Array, beta: Array, mean: Array, variance: Array
) -> tuple[Array, Array]:
    """Returns kernel and bias of a convolution with what comes after it."""
    factor = gamma.astype(np.float64) / np.sqrt(variance.astype(np.float64) + _EPSILON)
    shape = [1] * kernel.ndim
    shape[axis] = -1
    return (
        (kernel * factor.reshape(shape)).astype(np.float32),
        (beta - mean * factor).astype(np.float32),
    )
