# SPDX-License-Identifier: Apache-2.0
"""The model `caffe_network`: any SSD whose layers are given as plain values.

A layer is an object of `type`, `name`, `bottom` (names of its inputs), `top` (name of
its output) and `values` (of its type); layers follow each other as in Caffe, where an
output may have the name of an input. `offsets` and `logits` name the convolutions of
the heads, level by level.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import keras

from ssdops.anchors import AnchorGrid
from ssdops.models.caffe.layer_type import Size
from ssdops.models.caffe.layer_types import LAYER_TYPES, checked_values
from ssdops.models.caffe.net import MAX_LAYERS
from ssdops.models.heads import joined_outputs
from ssdops.models.plain_values import checked_keys
from ssdops.models.post_processing import PostProcessing
from ssdops.models.preprocessing import Preprocessing
from ssdops.models.spec import ModelSpec

__all__ = ["feature_sizes", "keras_names", "network", "spec"]

NAME: Final = "caffe_network"
MAX_WEIGHTS: Final = 2**29
MAX_VALUES: Final = 2**28
# Of what is around the layers.
_OTHER_NAMES: Final = ("images", "offsets", "logits")
# Of what one layer here may need more than one of Keras for.
_PARTS: Final = ("", "_pad", "_flat", *(f"_input{index}" for index in range(64)))
_INPUT: Final = "data"
_LAYER_KEYS: Final = ("type", "name", "bottom", "top", "values")


def spec(
    num_classes: int = 21,
    anchors: AnchorGrid | None = None,
    input: str = _INPUT,
    layers: Sequence[Mapping[str, Any]] = (),
    offsets: Sequence[str] = (),
    logits: Sequence[str] = (),
) -> ModelSpec:
    """Returns the specification of a network, its layers checked.

    Args:
        num_classes: Number of classes including the background.
        anchors: Grid; its levels go with the heads.
        input: Name of the network's input.
        layers: As the module says.
        offsets: Names of the layers that predict offsets, x first.
        logits: Names of the layers that predict classes.

    Raises:
        ValueError: If a layer cannot be, an input comes from nowhere, or the network
            would be larger than 2^29 weights or 2^28 values between two layers.
    """
    if anchors is None or not layers:
        raise ValueError(
            f"model {NAME} is made of a .prototxt file, by `build_from_prototxt`"
        )
    options = {
        "input": input,
        "layers": list(layers),
        "offsets": list(offsets),
        "logits": list(logits),
    }
    model = ModelSpec(
        name=NAME,
        num_classes=num_classes,
        anchors=anchors,
        preprocessing=Preprocessing(anchors.image_size, channel_order="bgr"),
        options=options,
        post_processing=PostProcessing(),
    )
    feature_sizes(_with_heads(model), input, anchors.image_size)
    return model


def feature_sizes(
    layers: Sequence[Mapping[str, Any]], source: str, image_size: tuple[int, int]
) -> dict[str, Size]:
    """Returns rows, columns and channels that every layer gives, by its name.

    Nothing is allocated, so that the size of a network is known before it is made.

    Args:
        layers: As the module says.
        source: Name of the input.
        image_size: Its height and width.

    Raises:
        ValueError: As for `spec`.
    """
    if not isinstance(layers, list | tuple) or len(layers) > MAX_LAYERS:
        raise ValueError(f"layers must be a list of at most {MAX_LAYERS} layers")
    blobs: dict[str, Size] = {source: (*image_size, 3)}
    found: dict[str, Size] = {}
    weights = 0
    for index, layer in enumerate(layers):
        checked_keys(layer, f"layer {index}", _LAYER_KEYS)
        name, kind, bottom = layer["name"], layer["type"], layer["bottom"]
        if not isinstance(bottom, list) or not all(
            isinstance(text, str) for text in (name, kind, layer["top"], *bottom)
        ):
            raise ValueError(f"layer {index}: type, names and inputs must be texts")
        where = f"layer {name} of type {kind}"
        if name in found:
            raise ValueError(f"there are two layers {name!r}")
        values = checked_values(kind, layer["values"], where)
        unknown = [blob for blob in bottom if blob not in blobs]
        if unknown:
            raise ValueError(f"{where}: its input {unknown[0]!r} comes from nowhere")
        low, high = LAYER_TYPES[kind].inputs
        if not low <= len(bottom) <= high:
            raise ValueError(
                f"{where}: must have {low} to {high} inputs, got {len(bottom)}"
            )
        sizes = [blobs[blob] for blob in bottom]
        try:
            size = LAYER_TYPES[kind].size(values, sizes)
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from None
        if min(size) < 1 or math.prod(size) > MAX_VALUES:
            raise ValueError(f"{where}: its output would have the size {size}")
        weights += LAYER_TYPES[kind].weights(values, sizes[0])
        if weights > MAX_WEIGHTS:
            raise ValueError(f"{where}: more than {MAX_WEIGHTS} weights up to here")
        found[name] = blobs[layer["top"]] = size
    return found


def keras_names(layers: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Returns what the layers are called in Keras, which allows no slash."""
    names: dict[str, str] = {}
    taken = set(_OTHER_NAMES)
    numbers: dict[str, int] = {}
    for layer in layers:
        plain = re.sub(r"[^A-Za-z0-9_.-]", "_", layer["name"]) or "layer"
        name = plain
        # Numbers go on, so that many layers of one name do not try all of them.
        while not taken.isdisjoint(name + part for part in _PARTS):
            numbers[plain] = numbers.get(plain, 1) + 1
            name = f"{plain}_{numbers[plain]}"
        taken.update(name + part for part in _PARTS)
        names[layer["name"]] = name
    return names


def _with_heads(model: ModelSpec) -> list[dict[str, Any]]:
    """Returns the layers with heads as wide as classes and anchors ask for.

    Raises:
        ValueError: If the heads are not one pair of convolutions per level.
    """
    heads: dict[str, int] = {}
    levels = model.anchors.levels
    for key, width in (("offsets", 4), ("logits", model.num_classes)):
        names = model.options.get(key)
        if not isinstance(names, list) or len(names) != len(levels):
            raise ValueError(
                f"{key} must name one layer for each of the {len(levels)} levels of "
                f"the grid, got {names!r}"
            )
        for name, level in zip(names, levels, strict=True):
            heads[str(name)] = width * level.boxes_per_cell
    layers: list[dict[str, Any]] = []
    for index, layer in enumerate(model.options["layers"]):
        changed = dict(checked_keys(layer, f"layer {index}", _LAYER_KEYS))
        if changed["name"] in heads:
            width = heads.pop(changed["name"])
            if changed["type"] != "Convolution" or not isinstance(
                changed["values"], Mapping
            ):
                raise ValueError(f"head {changed['name']} must be a Convolution")
            changed["values"] = {**changed["values"], "num_output": width}
        layers.append(changed)
    if heads:
        raise ValueError(f"there is no layer {next(iter(heads))!r}, which is a head")
    return layers


def network(model: ModelSpec) -> keras.Model:
    """Returns the network of a specification."""
    layers = _with_heads(model)
    source = model.options.get("input", _INPUT)
    feature_sizes(layers, source, model.image_size)
    names = keras_names(layers)
    inputs = keras.Input((*model.image_size, 3), name="images")
    blobs: dict[str, Any] = {source: inputs}
    made: dict[str, Any] = {}
    for layer in layers:
        kind = LAYER_TYPES[layer["type"]]
        values = checked_values(layer["type"], layer["values"], layer["name"])
        given = [blobs[blob] for blob in layer["bottom"]]
        built = kind.build(values, names[layer["name"]], given)
        made[layer["name"]] = blobs[layer["top"]] = built
    heads = [
        {names[head]: made[head] for head in pair}
        for pair in zip(model.options["offsets"], model.options["logits"], strict=True)
    ]
    return joined_outputs(inputs, heads, model)
