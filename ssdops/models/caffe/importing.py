# SPDX-License-Identifier: Apache-2.0
"""Detectors made of a `.prototxt` file and weights."""

from __future__ import annotations

import os
from collections.abc import Sequence

from ssdops.models.caffe.prototxt import read_prototxt
from ssdops.models.registry import build_from_spec
from ssdops.models.ssd import SSD
from ssdops.models.weights.arrays import LoadReport
from ssdops.models.weights.caffe import load_caffe_arrays
from ssdops.models.weights.files import read_weights

__all__ = ["build_from_prototxt"]


def build_from_prototxt(
    prototxt: str | os.PathLike[str],
    weights: str | os.PathLike[str] | None = None,
    class_names: Sequence[str] | None = None,
    *,
    mean: Sequence[float] | None = None,
    scale: float | Sequence[float] | None = None,
    strict: bool = True,
) -> tuple[SSD, LoadReport]:
    """Builds the detector that a Caffe network describes, and loads its weights.

    Network, anchors, thresholds and what the file says of the preprocessing are taken
    from it. The detector can be saved, loaded, trained and given other classes like
    any other; its model is called "caffe_network".

    Args:
        prototxt: Description of the network, for deployment, testing or training.
        weights: `.caffemodel` file, or `.npz` file of arrays `<layer>|<blob>`; None for
            random weights.
        class_names: Names of all classes, index 0 the background; None for numbers.
        mean: Three values to subtract from the channels (blue, green, red); None for
            those of the file, or zero. Files for deployment do not say them: the
            official models need (104, 117, 123).
        scale: Factor or three factors after that; None as for `mean`.
        strict: Whether the weights must be those of the network and no others.

    Returns:
        The detector, and what was loaded.

    Raises:
        FileNotFoundError: If `prototxt` is not there.
        ValueError: If a file cannot be used, or they do not belong together; the
            message names file and layer.
    """
    model = build_from_spec(read_prototxt(prototxt, mean, scale), class_names)
    if weights is None:
        shapes = {weight.path: tuple(weight.shape) for weight in model.network.weights}
        return model, LoadReport(missing=shapes)
    try:
        return model, load_caffe_arrays(model, read_weights(weights), strict)
    except ValueError as error:
        raise ValueError(f"{os.fspath(weights)}: {error}") from None
