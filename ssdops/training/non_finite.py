# SPDX-License-Identifier: Apache-2.0
"""Where a NaN or an infinity came from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from ssdops.models import SSD
from ssdops.training.step import compute_dtype


def first_non_finite(
    model: SSD, images: Any, variables: Sequence[Any], precision: str
) -> str:
    """The first tensor of a step that is not finite, in words.

    Weights, then images, then the outputs of the layers in their order; if all of them
    are finite, the loss or its gradient is it. The network is run once more: what
    batch normalization has gathered changes.

    Args:
        model: detector with the weights before the step.
        images: `[B, h, w, 3]` of the batch.
        variables: trained ones.
        precision: as in `TrainingConfig`.
    """
    for variable in variables:
        if not _is_finite(variable.value):
            return f"the weight {variable.path}"
    if not _is_finite(images):
        return "the images"
    network = model.network
    probe = keras.Model(network.inputs, [layer.output for layer in network.layers])
    with compute_dtype(network, precision):
        # As in the step: the averages of batch normalization have seen the NaN.
        outputs = probe(
            model.spec.preprocessing(tf.convert_to_tensor(images)), training=True
        )
    for layer, output in zip(network.layers, outputs, strict=True):
        if not all(_is_finite(tensor) for tensor in tf.nest.flatten(output)):
            return f"the output of the layer {layer.name}"
    return "the loss or its gradient"


def _is_finite(tensor: Any) -> bool:
    tensor = tf.convert_to_tensor(tensor)
    if not tensor.dtype.is_floating:
        return True
    return bool(tf.reduce_all(tf.math.is_finite(tf.cast(tensor, tf.float32))))
