# SPDX-License-Identifier: Apache-2.0
"""What types of Caffe's layers there are: their values, sizes, and Keras layers."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import keras

from ssdops.models.layers import CaffePooling, ChannelScale, L2Normalization
from ssdops.models.plain_values import checked_keys, finite, number_in, whole_number
from ssdops.protobuf_text import Message

__all__ = ["LAYER_TYPES", "LayerType", "Size", "checked_values"]

# Rows, columns, channels.
Size = tuple[int, int, int]
Values = Mapping[str, Any]

_LARGEST: Final = 65_536
# The batch normalisation of Caffe has averages over 1000 batches, which is too long for
# the few hundred steps of fine-tuning.
_MOMENTUM: Final = 0.95


@dataclass(frozen=True)
class LayerType:
    """One type of layer.

    Attributes:
        read: The layer's message becomes plain values.
        keys: Names of these values with how to check one.
        size: Values and sizes of the inputs become the size of the output.
        build: Values, name and symbolic inputs become the symbolic output.
        weights: Values and size of the input become the number of weights.
        inputs: Least and most inputs.
    """

    read: Callable[[Message], dict[str, Any]]
    keys: Mapping[str, Callable[[str, Any], Any]]
    size: Callable[[Values, Sequence[Size]], Size]
    build: Callable[[Values, str, Sequence[Any]], Any]
    weights: Callable[[Values, Size], int] = lambda values, size: 0
    inputs: tuple[int, int] = (1, 1)


def checked_values(kind: str, values: Any, where: str) -> dict[str, Any]:
    """Returns the values of a layer, each checked.

    Raises:
        ValueError: For an unknown type, missing or unknown values, or one outside its
            range.
    """
    if kind not in LAYER_TYPES:
        raise ValueError(f"{where}: unknown type {kind!r}")
    keys = LAYER_TYPES[kind].keys
    given = checked_keys(values, where, tuple(keys))
    return {
        name: check(f"{where}: {name}", given[name]) for name, check in keys.items()
    }


def _whole(low: int, high: int = _LARGEST) -> Callable[[str, Any], int]:
    return lambda name, value: whole_number(name, value, low, high)


def _pair(low: int, high: int = 1024) -> Callable[[str, Any], list[int]]:
    def check(name: str, value: Any) -> list[int]:
        if not isinstance(value, list | tuple) or len(value) != 2:
            raise ValueError(f"{name} must be two integers, got {value!r}")
        return [whole_number(name, number, low, high) for number in value]

    return check


def _flag(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"{name} must be true or false, got {value!r}")
    return value


def _one_of(*known: str) -> Callable[[str, Any], str]:
    def check(name: str, value: Any) -> str:
        if value not in known:
            raise ValueError(f"{name} must be one of {', '.join(known)}, got {value!r}")
        return str(value)

    return check


def _at_least_zero(name: str, value: Any) -> float:
    return number_in(name, value, 0.0, sys.float_info.max)


def _numbers(name: str, value: Any) -> list[float]:
    if not isinstance(value, list | tuple) or len(value) > _LARGEST:
        raise ValueError(f"{name} must be a list of numbers, got {value!r}")
    return [finite(name, number) for number in value]


def _both(message: Message, name: str, default: int) -> list[int]:
    """Returns (y, x) of `kernel_size`, `pad`, `stride` or `dilation`."""
    short = name.removesuffix("_size")
    if f"{short}_h" in message or f"{short}_w" in message:
        return [
            message.integer(f"{short}_h", default),
            message.integer(f"{short}_w", default),
        ]
    given = message.integers(name) or [default]
    return [given[0], given[-1]]


# Convolution


def _read_convolution(layer: Message) -> dict[str, Any]:
    given = layer.message("convolution_param")
    return {
        "num_output": given.integer("num_output", 0),
        "kernel": _both(given, "kernel_size", 0),
        "stride": _both(given, "stride", 1),
        "pad": _both(given, "pad", 0),
        "dilation": _both(given, "dilation", 1),
        "group": given.integer("group", 1),
        "bias": given.flag("bias_term", True),
    }


def _read_depthwise(layer: Message) -> dict[str, Any]:
    """Reads types that are depthwise by their name, with or without a group."""
    values = _read_convolution(layer)
    if "group" not in layer.message("convolution_param"):
        values["group"] = values["num_output"]
    return values


def _convolution_size(values: Values, sizes: Sequence[Size]) -> Size:
    sides = []
    for side, kernel, stride, pad, dilation in zip(
        sizes[0],
        *(values[name] for name in ("kernel", "stride", "pad", "dilation")),
        strict=False,
    ):
        sides.append((side + 2 * pad - dilation * (kernel - 1) - 1) // stride + 1)
    channels = sizes[0][2]
    if channels % values["group"] or values["num_output"] % values["group"]:
        raise ValueError(
            f"group must divide {channels} inputs and {values['num_output']} outputs, "
            f"got {values['group']}"
        )
    return sides[0], sides[1], values["num_output"]


def _convolution_weights(values: Values, size: Size) -> int:
    area = math.prod(values["kernel"])
    return int(values["num_output"] * (size[2] // values["group"] * area + 1))


def _build_convolution(values: Values, name: str, inputs: Sequence[Any]) -> Any:
    features = inputs[0]
    if any(values["pad"]):
        features = keras.layers.ZeroPadding2D(values["pad"], name=f"{name}_pad")(
            features
        )
    common: dict[str, Any] = {
        "strides": values["stride"],
        "dilation_rate": values["dilation"],
        "use_bias": values["bias"],
        "name": name,
    }
    channels = features.shape[-1]
    # On a CPU a hundred times as fast as a convolution of as many groups.
    if values["group"] == channels > 1:
        limit = math.sqrt(3 / math.prod(values["kernel"]))
        return keras.layers.DepthwiseConv2D(
            values["kernel"],
            depth_multiplier=values["num_output"] // channels,
            depthwise_initializer=keras.initializers.RandomUniform(-limit, limit),
            **common,
        )(features)
    return keras.layers.Conv2D(
        values["num_output"],
        values["kernel"],
        groups=values["group"],
        kernel_initializer="lecun_uniform",
        **common,
    )(features)


_CONVOLUTION = LayerType(
    _read_convolution,
    {
        "num_output": _whole(1),
        "kernel": _pair(1),
        "stride": _pair(1),
        "pad": _pair(0),
        "dilation": _pair(1),
        "group": _whole(1),
        "bias": _flag,
    },
    _convolution_size,
    _build_convolution,
    _convolution_weights,
)

_DEPTHWISE = replace(_CONVOLUTION, read=_read_depthwise)

# Pooling


def _read_pooling(layer: Message) -> dict[str, Any]:
    given = layer.message("pooling_param")
    return {
        "pool": {"0": "MAX", "1": "AVE"}.get(
            given.text("pool", "MAX"), given.text("pool", "MAX")
        ),
        "kernel": _both(given, "kernel_size", 1),
        "stride": _both(given, "stride", 1),
        "pad": _both(given, "pad", 0),
        "whole": given.flag("global_pooling", False),
    }


def _pooling_size(values: Values, sizes: Sequence[Size]) -> Size:
    height, width, channels = sizes[0]
    if values["whole"]:
        return 1, 1, channels
    if any(
        pad >= kernel
        for pad, kernel in zip(values["pad"], values["kernel"], strict=True)
    ):
        raise ValueError(
            f"pad must be smaller than kernel_size {values['kernel']}, got "
            f"{values['pad']}"
        )
    rows, columns = (
        CaffePooling.output_size(side, kernel, stride, pad)
        for side, kernel, stride, pad in zip(
            (height, width),
            *(values[name] for name in ("kernel", "stride", "pad")),
            strict=True,
        )
    )
    return rows, columns, channels


def _build_pooling(values: Values, name: str, inputs: Sequence[Any]) -> Any:
    whole = values["whole"]
    return CaffePooling(
        inputs[0].shape[1:3] if whole else values["kernel"],
        (1, 1) if whole else values["stride"],
        (0, 0) if whole else values["pad"],
        average=values["pool"] == "AVE",
        name=name,
    )(inputs[0])


_POOLING = LayerType(
    _read_pooling,
    {
        "pool": _one_of("MAX", "AVE"),
        "kernel": _pair(1),
        "stride": _pair(1),
        "pad": _pair(0),
        "whole": _flag,
    },
    _pooling_size,
    _build_pooling,
)

# Layers of as many outputs as inputs


def _same(values: Values, sizes: Sequence[Size]) -> Size:
    return sizes[0]


def _per_channel(values: Values, size: Size) -> int:
    return 4 * size[2]


def _read_normalize(layer: Message) -> dict[str, Any]:
    given = layer.message("norm_param")
    if given.flag("across_spatial", True):
        raise ValueError("across_spatial must be false")
    filler = given.message("scale_filler")
    return {
        "scale": filler.number("value", 1.0),
        "shared": given.flag("channel_shared", True),
        "epsilon": given.number("eps", 1e-10),
    }


def _read_batch_norm(layer: Message) -> dict[str, Any]:
    return {"epsilon": layer.message("batch_norm_param").number("eps", 1e-5)}


def _read_scale(layer: Message) -> dict[str, Any]:
    given = layer.message("scale_param")
    if given.integer("axis", 1) != 1 or given.integer("num_axes", 1) != 1:
        raise ValueError("axis and num_axes must be 1: one factor per channel")
    return {"bias": given.flag("bias_term", False)}


def _activation(read: Callable[[Message], dict[str, Any]], **options: Any) -> LayerType:
    """Returns a type of layer that changes every number by itself."""
    return LayerType(read, options.pop("keys", {}), _same, **options)


def _keras_activation(name: str) -> LayerType:
    def build(values: Values, layer: str, inputs: Sequence[Any]) -> Any:
        return keras.layers.Activation(name, name=layer)(inputs[0])

    return _activation(lambda layer: {}, build=build)


_RELU = _activation(
    lambda layer: {"slope": layer.message("relu_param").number("negative_slope", 0.0)},
    keys={"slope": finite},
    build=lambda values, name, inputs: keras.layers.ReLU(
        negative_slope=values["slope"], name=name
    )(inputs[0]),
)

_PRELU = LayerType(
    lambda layer: {
        "shared": layer.message("prelu_param").flag("channel_shared", False)
    },
    {"shared": _flag},
    _same,
    lambda values, name, inputs: keras.layers.PReLU(
        alpha_initializer=keras.initializers.Constant(0.25),
        shared_axes=[1, 2, 3] if values["shared"] else [1, 2],
        name=name,
    )(inputs[0]),
    _per_channel,
)

_NORMALIZE = LayerType(
    _read_normalize,
    {"scale": finite, "shared": _flag, "epsilon": _at_least_zero},
    _same,
    lambda values, name, inputs: L2Normalization(
        values["scale"], values["epsilon"], shared=values["shared"], name=name
    )(inputs[0]),
    _per_channel,
)

_BATCH_NORM = LayerType(
    _read_batch_norm,
    {"epsilon": _at_least_zero},
    _same,
    lambda values, name, inputs: keras.layers.BatchNormalization(
        momentum=_MOMENTUM,
        epsilon=values["epsilon"],
        center=False,
        scale=False,
        name=name,
    )(inputs[0]),
    _per_channel,
)

_SCALE = LayerType(
    _read_scale,
    {"bias": _flag},
    _same,
    lambda values, name, inputs: ChannelScale(use_bias=values["bias"], name=name)(
        inputs[0]
    ),
    _per_channel,
)

_IDENTITY = _activation(
    lambda layer: {},
    build=lambda values, name, inputs: keras.layers.Identity(name=name)(inputs[0]),
)

# Layers of several inputs


def _read_eltwise(layer: Message) -> dict[str, Any]:
    given = layer.message("eltwise_param")
    operation = given.text("operation", "SUM")
    return {
        "operation": {"0": "PROD", "1": "SUM", "2": "MAX"}.get(operation, operation),
        "coefficients": given.numbers("coeff"),
    }


def _eltwise_size(values: Values, sizes: Sequence[Size]) -> Size:
    if values["coefficients"] and values["operation"] != "SUM":
        raise ValueError(f"coeff goes with SUM, got {values['operation']}")
    if len(set(sizes)) > 1:
        raise ValueError(f"inputs must have one size, got {list(sizes)}")
    if len(values["coefficients"]) not in (0, len(sizes)):
        raise ValueError(
            f"coeff must be given for {len(sizes)} inputs or none, got "
            f"{len(values['coefficients'])}"
        )
    return sizes[0]


def _build_eltwise(values: Values, name: str, inputs: Sequence[Any]) -> Any:
    kinds = {
        "SUM": keras.layers.Add,
        "PROD": keras.layers.Multiply,
        "MAX": keras.layers.Maximum,
    }
    parts = list(inputs)
    if values["operation"] == "SUM":
        parts = [
            part
            if factor == 1.0
            else keras.layers.Rescaling(factor, name=f"{name}_input{index}")(part)
            for index, (part, factor) in enumerate(
                zip(parts, values["coefficients"] or [1.0] * len(parts), strict=True)
            )
        ]
    return kinds[values["operation"]](name=name)(parts)


_ELTWISE = LayerType(
    _read_eltwise,
    {"operation": _one_of("SUM", "PROD", "MAX"), "coefficients": _numbers},
    _eltwise_size,
    _build_eltwise,
    inputs=(2, 64),
)


def _read_concat(layer: Message) -> dict[str, Any]:
    given = layer.message("concat_param")
    if given.integer("axis", given.integer("concat_dim", 1)) not in (1, -3):
        raise ValueError("axis must be 1, the channels")
    return {}


def _concat_size(values: Values, sizes: Sequence[Size]) -> Size:
    if len({size[:2] for size in sizes}) > 1:
        raise ValueError(f"inputs must have one height and width, got {list(sizes)}")
    return *sizes[0][:2], sum(size[2] for size in sizes)


def _build_concat(values: Values, name: str, inputs: Sequence[Any]) -> Any:
    if len(inputs) == 1:
        return keras.layers.Identity(name=name)(inputs[0])
    return keras.layers.Concatenate(name=name)(list(inputs))


_CONCAT = LayerType(_read_concat, {}, _concat_size, _build_concat, inputs=(1, 64))

LAYER_TYPES: Final[dict[str, LayerType]] = {
    "BatchNorm": _BATCH_NORM,
    "Concat": _CONCAT,
    "Convolution": _CONVOLUTION,
    "ConvolutionDepthwise": _DEPTHWISE,
    "DepthwiseConvolution": _DEPTHWISE,
    "Dropout": _IDENTITY,
    "ELU": _keras_activation("elu"),
    "Eltwise": _ELTWISE,
    "Normalize": _NORMALIZE,
    "PReLU": _PRELU,
    "Pooling": _POOLING,
    "ReLU": _RELU,
    "ReLU6": _keras_activation("relu6"),
    "Scale": _SCALE,
    "Sigmoid": _keras_activation("sigmoid"),
    "Split": _IDENTITY,
    "TanH": _keras_activation("tanh"),
}
