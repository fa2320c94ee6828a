# SPDX-License-Identifier: Apache-2.0
"""The model `keras_backbone`: SSD on any functional Keras model.

The backbone is kept as plain values; of those, only plain layers of Keras are built.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import keras

from ssdops.anchors import AnchorGrid, recipe_grid
from ssdops.models.heads import detection_network
from ssdops.models.keras_config import MAX_WEIGHTS, layer_sizes
from ssdops.models.layers import conv_bn
from ssdops.models.plain_values import whole_number
from ssdops.models.preprocessing import Preprocessing
from ssdops.models.spec import ModelSpec

__all__ = ["NAME", "network", "spec"]

NAME: Final = "keras_backbone"
MAX_EXTRA_LEVELS: Final = 16
# Channels of the first extra level, and of all after it.
_EXTRAS: Final = (512, 256)


def spec(
    num_classes: int = 21,
    anchors: AnchorGrid | None = None,
    config: Mapping[str, Any] | None = None,
    sources: Sequence[str] = (),
    extra_levels: int | None = None,
) -> ModelSpec:
    """Returns the specification of SSD on a backbone, the backbone checked.

    Args:
        num_classes: Number of classes including the background.
        anchors: Grid; None for `recipe_grid` of the feature maps.
        config: Of the backbone, as `ssdops.models.keras_config.config_of` gives it.
        sources: Names of the layers whose outputs the first levels are.
        extra_levels: Number of levels after those, each half as large as the one
            before; None for as many as lead to a side of one cell.

    Raises:
        ValueError: If a layer cannot be or is not known, a source is not there or no
            feature map, or fewer than three levels have no anchors given.
    """
    if config is None or not sources:
        raise ValueError(
            f"model {NAME} is made of a Keras model, by `build_from_backbone`"
        )
    layers = layer_sizes(config)
    maps = _feature_sizes(layers, sources)
    if extra_levels is None:
        extra_levels = min(MAX_EXTRA_LEVELS, (min(maps[-1]) - 1).bit_length())
    whole_number("extra_levels", extra_levels, 0, MAX_EXTRA_LEVELS)
    for _ in range(extra_levels):
        height, width = maps[-1]
        maps.append((-(-height // 2), -(-width // 2)))
    image_size = next(iter(layers.values()))[:2]
    height, width = image_size
    anchors = anchors or recipe_grid((height, width), maps)
    if anchors.image_size != image_size:
        raise ValueError(
            f"anchors must be those of the input of the backbone, {list(image_size)}, "
            f"got image_size {list(anchors.image_size)}"
        )
    channels = [layers[name][2] for name in sources]
    _check_weights(channels, extra_levels, num_classes, anchors)
    found = [level.feature_size for level in anchors.levels]
    if found != maps:
        raise ValueError(
            f"anchors must have the feature sizes {maps} of the levels, got {found}"
        )
    return ModelSpec(
        name=NAME,
        num_classes=num_classes,
        anchors=anchors,
        preprocessing=Preprocessing(
            anchors.image_size, mean=(127.5, 127.5, 127.5), scale=1 / 127.5
        ),
        options={
            "config": config,
            "sources": list(sources),
            "extra_levels": extra_levels,
        },
    )


def _feature_sizes(
    layers: Mapping[str, tuple[int, ...]], sources: Any
) -> list[tuple[int, int]]:
    """Returns rows and columns of the sources, checked to be maps of falling size."""
    if (
        not isinstance(sources, list | tuple)
        or not all(isinstance(name, str) for name in sources)
        or len(set(sources)) < len(sources)
    ):
        raise ValueError(f"sources must be different names of layers, got {sources!r}")
    maps: list[tuple[int, int]] = []
    for name in sources:
        size = layers.get(name)
        if size is None or len(size) != 3:
            raise ValueError(
                f"source {name!r} must be a layer of the backbone with an output of "
                f"[B, height, width, channels], got {'none' if size is None else size}"
            )
        if maps and (size[0] > maps[-1][0] or size[1] > maps[-1][1]):
            raise ValueError(
                f"sources must be given from fine to coarse, got {name!r} of size "
                f"{size[:2]} after {maps[-1]}"
            )
        maps.append(size[:2])
    return maps


def _check_weights(
    channels: Sequence[int], extra_levels: int, num_classes: Any, anchors: AnchorGrid
) -> None:
    """Checks that heads and extra levels have a number of weights that can be."""
    # All extra levels have fewer than 2^21 weights, but for the first convolution.
    inputs = [*channels, *[_EXTRAS[0]] * extra_levels]
    count = extra_levels * 2**21 + channels[-1] * _EXTRAS[0]
    if isinstance(num_classes, int):  # else the specification says so
        boxes = max(anchors.anchors_per_cell)
        count += 9 * sum(inputs) * boxes * (4 + num_classes)
    if count > MAX_WEIGHTS:
        raise ValueError(
            f"heads and extra levels on {list(channels)} channels would have about "
            f"{count} weights, more than {MAX_WEIGHTS}"
        )


def _backbone(model: ModelSpec) -> keras.Model:
    """Returns the backbone of a specification up to its sources, weights initialised.

    Raises:
        ValueError: If Keras cannot build it.
    """
    try:
        whole = keras.Model.from_config(model.options["config"])
        outputs = [whole.get_layer(name).output for name in model.options["sources"]]
        return keras.Model(whole.input, outputs)
    # What has passed the checks and still cannot be raises anything.
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        raise ValueError(f"Keras cannot build the backbone: {reason}") from None


def network(model: ModelSpec) -> keras.Model:
    """Returns the network; an extra level is 1x1, then 3x3 with stride 2."""
    # Whatever the specification is made of, its options are checked here.
    model = replace(
        model, options=spec(model.num_classes, model.anchors, **model.options).options
    )
    backbone = _backbone(model)
    names = model.options["sources"]
    sources = list(zip(names, keras.tree.flatten(backbone.output), strict=True))
    for index in range(model.options["extra_levels"]):
        channels = _EXTRAS[min(index, 1)]
        name = f"extra{index + 1}"
        features = conv_bn(sources[-1][1], channels // 2, f"{name}_1", kernel=1)
        features = conv_bn(features, channels, f"{name}_2", strides=2)
        sources.append((name, features))
    try:
        return detection_network(backbone.input, sources, model)
    # Keras refuses two layers of one name.
    except ValueError as error:
        raise ValueError(f"model {NAME}: {' '.join(str(error).split())}") from None
