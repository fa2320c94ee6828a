# SPDX-License-Identifier: Apache-2.0
"""Weights of a trained detector as the first ones of another."""

from __future__ import annotations

import keras

from ssdops.models.weights.arrays import LoadReport

__all__ = ["transfer_weights"]


def transfer_weights(source: keras.Model, target: keras.Model) -> LoadReport:
    """Copies every weight that has the same name and shape in both networks.

    So a detector for other classes begins with everything but the layers that predict
    classes.

    Args:
        source: Network with the weights to copy.
        target: Network to change in place.

    Returns:
        What was copied (`loaded`), what of the source had no place (`skipped`) and what
        of the target keeps its values (`missing`), with shapes.
    """
    given = {weight.path: weight for weight in source.weights}
    loaded, missing = {}, {}
    for weight in target.weights:
        match = given.get(weight.path)
        if match is None or tuple(match.shape) != tuple(weight.shape):
            missing[weight.path] = tuple(weight.shape)
            continue
        weight.assign(match.value)
        loaded[weight.path] = tuple(weight.shape)
    skipped = {
        path: tuple(weight.shape)
        for path, weight in given.items()
        if path not in loaded
    }
    return LoadReport(loaded, skipped, missing)
