# SPDX-License-Identifier: Apache-2.0
"""Prediction heads: feature maps of a backbone become offsets and logits per anchor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras

from ssdops.models.layers import conv, conv_bn
from ssdops.models.spec import ModelSpec

__all__ = ["detection_network", "joined_outputs"]


def detection_network(
    inputs: Any,
    sources: Sequence[tuple[str, Any]],
    spec: ModelSpec,
    *,
    kernel: int = 3,
    head: str = "ssd",
) -> keras.Model:
    """Returns the network with one pair of linear convolutions per feature map.

    The heads of a source are called `<source>_mbox_loc` and `<source>_mbox_conf`. The
    channels of a head are box-major (box * 4 + coordinate, box * C + class), so that a
    reshape alone yields rows in the order of the anchors.

    Args:
        inputs: Symbolic input of the backbone [B, h, w, 3].
        sources: Names and symbolic feature maps [B, fh, fw, c], one per level of
            `spec.anchors`.
        spec: Gives the number of classes and the anchors of every level.
        kernel: Side of the square kernels.
        head: "ssd", or "ssdlite" for a depthwise convolution `<head>_dw` with batch
            normalisation and ReLU6 before a linear one of 1x1.

    Returns:
        A model from preprocessed images [B, h, w, 3] to a dictionary of `offsets`
        float32 [B, A, 4] and `logits` float32 [B, A, C].

    Raises:
        ValueError: If the feature maps do not fit the levels of the grid.
    """
    levels = spec.anchors.levels
    if len(sources) != len(levels):
        raise ValueError(
            f"model {spec.name} has {len(sources)} feature maps, got a grid of "
            f"{len(levels)} levels"
        )
    heads = []
    for index, ((name, features), level) in enumerate(
        zip(sources, levels, strict=True)
    ):
        size = tuple(features.shape[1:3])
        if size != level.feature_size:
            raise ValueError(
                f"feature map {name} of model {spec.name} has size {size}, level "
                f"{index} of the grid has feature_size {level.feature_size}"
            )
        heads.append(
            {
                layer: _head(
                    features, level.boxes_per_cell * values, kernel, layer, head
                )
                for layer, values in (
                    (f"{name}_mbox_loc", 4),
                    (f"{name}_mbox_conf", spec.num_classes),
                )
            }
        )
    return joined_outputs(inputs, heads, spec)


def _head(features: Any, filters: int, kernel: int, name: str, kind: str) -> Any:
    """Returns what one head predicts."""
    if kind == "ssdlite":
        features = conv_bn(
            features,
            None,
            f"{name}_dw",
            kernel=kernel,
            activation="relu6",
            momentum=0.97,
        )
        kernel = 1
    return conv(features, filters, kernel, name, activation=None)


def joined_outputs(
    inputs: Any, heads: Sequence[Mapping[str, Any]], spec: ModelSpec
) -> keras.Model:
    """Returns the network whose outputs are the rows of all heads.

    Args:
        inputs: Symbolic input of the backbone [B, h, w, 3].
        heads: Per level the symbolic outputs of the convolutions that predict offsets
            [B, fh, fw, K * 4] and logits [B, fh, fw, K * C], box-major, by the names of
            these layers.
        spec: Gives the name and the number of classes.

    Returns:
        As `detection_network`.
    """
    outputs: dict[str, list[Any]] = {"offsets": [], "logits": []}
    for parts in heads:
        for key, name, values in zip(
            outputs, parts, (4, spec.num_classes), strict=True
        ):
            flat = keras.layers.Reshape((-1, values), name=f"{name}_flat")
            outputs[key].append(flat(parts[name]))
    # float32 whatever the compute dtype: losses and box decoding need the precision.
    return keras.Model(
        inputs,
        {key: _join(parts, key) for key, parts in outputs.items()},
        name=spec.name,
    )


def _join(parts: list[Any], name: str) -> Any:
    """Returns the rows of all levels as one float32 tensor called `name`."""
    if len(parts) == 1:
        return keras.layers.Identity(name=name, dtype="float32")(parts[0])
    return keras.layers.Concatenate(axis=1, name=name, dtype="float32")(parts)
