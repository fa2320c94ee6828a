# SPDX-License-Identifier: Apache-2.0
"""Writes variables as the Object Detection API of TensorFlow 2 stores them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tensorflow as tf

FEATURE_MAPS = "ssd_mobile_net_keras_feature_extractor/FeatureMaps"
WORDS = {
    "weights": "kernel",
    "depthwise_weights": "depthwise_kernel",
    "biases": "bias",
}


def keras_name(name: str) -> str:
    """The name of a variable of slim in that code with Keras."""
    scope, _, word = name.replace("/BatchNorm/", "//").rpartition("/")
    normalized = scope.endswith("/")
    parts = scope.rstrip("/").split("/")
    if level := re.fullmatch(r"BoxPredictor_(\d)", parts[0]):
        kind = "Class" if parts[1].startswith("Class") else "Box"
        layer = f"BoxPredictor/Convolutional{kind}Head_{level[1]}/{parts[1]}"
        layer += "_batchnorm" * normalized
    elif "_Conv2d_" in parts[-1]:
        layer = f"{FEATURE_MAPS}/{parts[-1]}" + (
            "_batchnorm" if normalized else "_conv"
        )
    elif parts[1] == "MobilenetV1":
        _, index, *kind = parts[2].split("_")
        layer = f"conv_{kind[0][0]}w_{index}" if kind else "conv1"
        layer += "_bn" * normalized
    elif parts[2] == "Conv":
        layer = "bn_Conv1" if normalized else "Conv1"
    elif parts[2] == "Conv_1":
        layer = "Conv_1" + "_bn" * normalized
    else:
        block = parts[2].replace("expanded_conv_", "block_")
        layer = f"{block}_{parts[3]}" + "_BN" * normalized
    return f"{layer}/{WORDS.get(word, word)}"


def write_objects(folder: Path, variables: Mapping[str, Any], kind: str) -> None:
    """Writes variables of slim as objects with the names of Keras.

    The kind is "checkpoint", with the slots of an optimizer, or "saved model".
    """
    model = tf.Module()
    model._layers = [
        tf.Variable(value, name=keras_name(name)) for name, value in variables.items()
    ]
    if kind == "saved model":
        tf.saved_model.save(model, str(folder))
        return
    optimizer = tf.compat.v1.train.MomentumOptimizer(0.0, 0.9)
    gradients = [(tf.zeros_like(each), each) for each in model._layers]
    optimizer.apply_gradients(gradients)
    checkpoint = tf.train.Checkpoint(
        model=model, optimizer=optimizer, step=tf.Variable(3)
    )
    checkpoint.save(str(folder / "ckpt"))
