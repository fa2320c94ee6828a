# SPDX-License-Identifier: Apache-2.0
"""Checks of a Keras functional model as plain values, before Keras sees it.

Keras imports the modules that such a description names and calls what it finds there.
So here all names must be those of a list of plain layers; and the sizes of all outputs
and weights are known before anything is allocated.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import keras
import numpy as np

from ssdops.models.plain_values import checked_keys, plain_json

__all__ = ["config_of", "layer_sizes"]

MAX_LAYERS: Final = 4096
MAX_WEIGHTS: Final = 2**29
MAX_VALUES: Final = 2**28
MAX_SIDE: Final = 16_384

Size = tuple[int, ...]


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


_LAYERS: Final = _names(
    """
    Activation Add Average AveragePooling2D BatchNormalization Concatenate Conv2D
    Conv2DTranspose Cropping2D Dense DepthwiseConv2D Dropout ELU Flatten
    GlobalAveragePooling2D GlobalMaxPooling2D GroupNormalization Identity InputLayer
    LayerNormalization LeakyReLU MaxPooling2D Maximum Minimum Multiply Normalization
    PReLU Permute ReLU Rescaling Reshape SeparableConv2D Softmax SpatialDropout2D
    Subtract UpSampling2D ZeroPadding2D
    """
)
_INITIALIZERS: Final = _names(
    """
    Constant GlorotNormal GlorotUniform HeNormal HeUniform LecunNormal LecunUniform Ones
    RandomNormal RandomUniform TruncatedNormal VarianceScaling Zeros
    """
)
_REGULARIZERS: Final = frozenset(("L1", "L2", "L1L2"))
_POLICIES: Final = ("float32", "float16", "bfloat16", "mixed_float16", "mixed_bfloat16")
# What `x + 3` and its like are, element by element.
_OPERATIONS_MODULE: Final = "keras.src.ops.numpy"
_OPERATIONS: Final = frozenset(("Add", "Subtract", "Multiply", "Divide", "TrueDivide"))
_MODULES: Final = {
    "keras.layers": _LAYERS,
    "keras.initializers": _INITIALIZERS,
    "keras.regularizers": _REGULARIZERS,
    "keras": frozenset(("DTypePolicy",)),
}
_MODEL_KEYS: Final = ("name", "trainable", "layers", "input_layers", "output_layers")
_LAYER_KEYS: Final = (
    *("module", "class_name", "config", "registered_name", "name", "inbound_nodes"),
)
# Any of these makes Keras look for something to call.
_CALLED_KEYS: Final = frozenset(
    ("class_name", "module", "registered_name", "spec_name", "shared_object_id")
)
_TENSOR: Final = "__keras_tensor__"
_OBJECT_KEYS: Final = ("module", "class_name", "config", "registered_name")


def config_of(model: keras.Model) -> dict[str, Any]:
    """Returns a functional model as plain values that `layer_sizes` takes.

    Raises:
        ValueError: If it is none, or holds what is not plain JSON.
    """
    config = model.get_config()
    if not isinstance(config, Mapping) or "input_layers" not in config:
        raise ValueError(f"backbone {model.name} must be a functional Keras model")
    config = {key: config[key] for key in _MODEL_KEYS if key in config}
    # Shapes that layers are built with follow from the network.
    config["layers"] = [
        {key: layer[key] for key in _LAYER_KEYS if key in layer}
        for layer in config["layers"]
    ]
    plain: dict[str, Any] = plain_json("config", config)
    return plain


def layer_sizes(config: Any) -> dict[str, Size]:
    """Returns the size of what every layer gives, without the batch, by its name.

    Args:
        config: A functional model with one image as its input, as `config_of` gives.

    Returns:
        Sizes; that of a layer which is used more than once is its first.

    Raises:
        ValueError: If it names anything but plain layers of Keras, a layer cannot be,
            an input comes from nowhere, or the network would be larger than 2^29
            weights or 2^28 values between two layers.
    """
    checked_keys(config, "backbone", _MODEL_KEYS, optional=("trainable",))
    layers = config["layers"]
    if not isinstance(layers, list) or not 0 < len(layers) <= MAX_LAYERS:
        raise ValueError(f"backbone must be a list of 1 to {MAX_LAYERS} layers")
    outputs: dict[tuple[str, int], Size] = {}
    sizes: dict[str, Size] = {}
    weights = 0
    for index, entry in enumerate(layers):
        checked_keys(entry, f"layer {index}", _LAYER_KEYS)
        name, kind = entry["name"], entry["class_name"]
        if not isinstance(name, str) or name in sizes:
            raise ValueError(f"layer {index} must have a name of its own, got {name!r}")
        where = f"layer {name} of type {kind}"
        _check_object(entry, where, ("keras.layers", _OPERATIONS_MODULE))
        if entry["config"].get("name") != name:
            raise ValueError(
                f"{where}: is called {entry['config'].get('name')!r} in its config"
            )
        if kind == "InputLayer":
            if outputs:
                raise ValueError(f"{where}: there must be one input, the first layer")
            outputs[name, 0] = sizes[name] = _input_size(entry["config"], where)
            continue
        layer = _layer(entry, where)
        nodes = list(_nodes(entry["inbound_nodes"], where))
        for node, sources in enumerate(nodes):
            missing = [source for source in sources if source not in outputs]
            if missing:
                raise ValueError(f"{where}: its input {missing[0][0]!r} is not there")
            inputs = [outputs[source] for source in sources]
            size = _output_size(layer, inputs, where)
            outputs[name, node] = size
            if node == 0:
                sizes[name] = size
                weights += _most_weights(layer, inputs[0], size)
        if weights > MAX_WEIGHTS:
            raise ValueError(f"{where}: more than {MAX_WEIGHTS} weights up to here")
    return sizes


def _check_object(entry: Any, where: str, modules: Sequence[str]) -> None:
    """Checks that what Keras would call is known, and all that it is given."""
    module, kind = entry.get("module"), entry.get("class_name")
    registered = entry.get("registered_name")
    if module == _OPERATIONS_MODULE and module in modules:
        known = kind in _OPERATIONS and registered == kind
    else:
        known = (
            module in modules
            and isinstance(kind, str)
            and kind in _MODULES.get(str(module), ())
            and registered is None
        )
    if not known:
        raise ValueError(
            f"{where}: {module}.{kind} (registered as {registered!r}) is not among the "
            "plain layers, initializers and regularizers of Keras that are known here"
        )
    values = entry.get("config")
    if not isinstance(values, Mapping):
        raise ValueError(f"{where}: config must be an object, got {values!r}")
    if kind == "DTypePolicy" and values.get("name") not in _POLICIES:
        raise ValueError(f"{where}: unknown dtype policy {values.get('name')!r}")
    if values.get("data_format", "channels_last") not in (None, "channels_last"):
        raise ValueError(f'{where}: data_format must be "channels_last"')
    for key, value in values.items():
        # By their names, Keras has others that take long.
        if str(key).endswith("_initializer") and isinstance(value, str):
            raise ValueError(f"{where}: {key} must be an object, got {value!r}")
        _check_value(value, f"{where}: {key}")


def _check_value(value: Any, where: str) -> None:
    """Checks a value in the settings of a layer."""
    if isinstance(value, list):
        for item in value:
            _check_value(item, where)
    elif isinstance(value, Mapping):
        unknown = set(value) - set(_OBJECT_KEYS)
        if unknown or "module" not in value:
            raise ValueError(f"{where} has the unknown form {sorted(value)}")
        _check_object(
            value, where, ("keras", "keras.initializers", "keras.regularizers")
        )


def _input_size(values: Mapping[str, Any], where: str) -> Size:
    shape = values.get("batch_shape")
    if not isinstance(shape, list) or len(shape) != 4 or shape[0] is not None:
        raise ValueError(f"{where}: must be [None, height, width, 3], got {shape!r}")
    sides_are_known = all(
        type(side) is int and 1 <= side <= MAX_SIDE for side in shape[1:3]
    )
    if not sides_are_known or shape[3] != 3:
        raise ValueError(
            f"{where}: must have a height and width in [1, {MAX_SIDE}] and 3 channels, "
            f"got {shape[1:]}"
        )
    return tuple(shape[1:])


def _layer(entry: Mapping[str, Any], where: str) -> Any:
    """Returns the layer or operation; weights are not made yet."""
    known = {key: entry[key] for key in _OBJECT_KEYS}
    try:
        return keras.saving.deserialize_keras_object(known, safe_mode=True)
    # Settings that make no sense raise anything.
    except Exception as error:
        raise ValueError(f"{where}: {_one_line(error)}") from None


def _nodes(nodes: Any, where: str) -> Iterator[list[tuple[str, int]]]:
    """Yields the inputs of every use of a layer, as layer and use of that layer."""
    if not isinstance(nodes, list) or not nodes:
        raise ValueError(f"{where}: must have an input")
    for node in nodes:
        checked_keys(node, f"{where}: inbound node", ("args", "kwargs"))
        sources = list(_sources(node, where))
        if not sources:
            raise ValueError(f"{where}: must have an input")
        yield sources


def _sources(value: Any, where: str) -> Iterator[tuple[str, int]]:
    if isinstance(value, list):
        for item in value:
            yield from _sources(item, where)
    elif isinstance(value, Mapping) and value.get("class_name") == _TENSOR:
        checked_keys(value, where, ("class_name", "config"))
        history = value["config"]
        history = history.get("keras_history") if isinstance(history, Mapping) else None
        if (
            not isinstance(history, list)
            or [type(part) for part in history] != [str, int, int]
            or history[2] != 0
        ):
            raise ValueError(f"{where}: an input must be [layer, use, 0]")
        yield history[0], history[1]
    elif isinstance(value, Mapping):
        if not _CALLED_KEYS.isdisjoint(value):
            raise ValueError(f"{where}: an argument must not be {sorted(value)}")
        for item in value.values():
            yield from _sources(item, where)


def _output_size(layer: Any, inputs: Sequence[Size], where: str) -> Size:
    shapes = [(None, *size) for size in inputs]
    try:
        if isinstance(layer, keras.layers.Layer):
            found = layer.compute_output_shape(shapes if len(shapes) > 1 else shapes[0])
            size = tuple(found[1:])
        else:
            size = np.broadcast_shapes(*inputs)
    # Sizes that do not fit raise anything.
    except Exception as error:
        raise ValueError(f"{where}: {_one_line(error)}") from None
    if not all(type(side) is int and side > 0 for side in size):
        raise ValueError(f"{where}: its output would have the size {list(size)}")
    if math.prod(size) > MAX_VALUES:
        raise ValueError(f"{where}: its output would have the size {list(size)}")
    return size


def _most_weights(layer: Any, given: Size, size: Size) -> int:
    """Returns a number of weights that a layer cannot exceed."""
    layers = keras.layers
    kernel = int(math.prod(getattr(layer, "kernel_size", (1,))))
    inputs, outputs = given[-1], size[-1]
    if isinstance(layer, layers.SeparableConv2D):
        middle = inputs * int(layer.depth_multiplier)
        return kernel * middle + (middle + 1) * outputs
    if isinstance(layer, layers.DepthwiseConv2D):
        return (kernel + 1) * outputs
    if isinstance(layer, layers.Conv2D | layers.Conv2DTranspose | layers.Dense):
        return (kernel * inputs + 1) * outputs
    if isinstance(layer, layers.BatchNormalization):
        return 4 * max(size)
    weighted = (
        *(layers.GroupNormalization, layers.LayerNormalization),
        *(layers.Normalization, layers.PReLU),
    )
    return 3 * math.prod(size) if isinstance(layer, weighted) else 0


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
