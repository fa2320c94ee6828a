# SPDX-License-Identifier: Apache-2.0
"""What types of Caffe's layers there are: their values, sizes, and Keras layers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import keras

from ssdops.models.caffe.convolution_types import (
    CONVOLUTION,
    DECONVOLUTION,
    DEPTHWISE,
)
from ssdops.models.caffe.layer_type import (
    LayerType,
    Size,
    Values,
    at_least_zero,
    both,
    flag,
    numbers,
    one_of,
    pair,
    positive,
    whole,
)
from ssdops.models.caffe.layers import LocalResponseNormalization
from ssdops.models.layers import CaffePooling, ChannelScale, L2Normalization
from ssdops.models.plain_values import checked_keys, finite
from ssdops.protobuf_text import Message

__all__ = ["LAYER_TYPES", "checked_values"]

# The batch normalisation of Caffe has averages over 1000 batches, which is too long for
# the few hundred steps of fine-tuning.
_MOMENTUM: Final = 0.95
# Of local response normalisation: what is around a map is as large.
_LARGEST_WINDOW: Final = 63


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


# Pooling


def _read_pooling(layer: Message) -> dict[str, Any]:
    given = layer.message("pooling_param")
    return {
        "pool": {"0": "MAX", "1": "AVE"}.get(
            given.text("pool", "MAX"), given.text("pool", "MAX")
        ),
        "kernel": both(given, "kernel_size", 1),
        "stride": both(given, "stride", 1),
        "pad": both(given, "pad", 0),
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
        "pool": one_of("MAX", "AVE"),
        "kernel": pair(1),
        "stride": pair(1),
        "pad": pair(0),
        "whole": flag,
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
    {"shared": flag},
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
    {"scale": finite, "shared": flag, "epsilon": at_least_zero},
    _same,
    lambda values, name, inputs: L2Normalization(
        values["scale"], values["epsilon"], shared=values["shared"], name=name
    )(inputs[0]),
    _per_channel,
)

_BATCH_NORM = LayerType(
    _read_batch_norm,
    {"epsilon": at_least_zero},
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
    {"bias": flag},
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

_REGIONS: Final = ("ACROSS_CHANNELS", "WITHIN_CHANNEL")


def _read_lrn(layer: Message) -> dict[str, Any]:
    given = layer.message("lrn_param")
    region = given.text("norm_region", _REGIONS[0])
    return {
        "size": given.integer("local_size", 5),
        "alpha": given.number("alpha", 1.0),
        "beta": given.number("beta", 0.75),
        "bias": given.number("k", 1.0),
        "region": dict(zip(("0", "1"), _REGIONS, strict=True)).get(region, region),
    }


def _lrn_size(values: Values, sizes: Sequence[Size]) -> Size:
    if values["size"] % 2 == 0:
        raise ValueError(f"local_size must be odd, got {values['size']}")
    return sizes[0]


_LRN = LayerType(
    _read_lrn,
    {
        "size": whole(1, _LARGEST_WINDOW),
        "alpha": at_least_zero,
        "beta": at_least_zero,
        "bias": positive,
        "region": one_of(*_REGIONS),
    },
    _lrn_size,
    lambda values, name, inputs: LocalResponseNormalization(
        values["size"],
        values["alpha"],
        values["beta"],
        values["bias"],
        within_channels=values["region"] == _REGIONS[1],
        name=name,
    )(inputs[0]),
)


def _read_power(layer: Message) -> dict[str, Any]:
    given = layer.message("power_param")
    if given.number("power", 1.0) != 1.0:
        raise ValueError(f"power must be 1, got {given.number('power', 1.0)}")
    return {"scale": given.number("scale", 1.0), "shift": given.number("shift", 0.0)}


_POWER = _activation(
    _read_power,
    keys={"scale": finite, "shift": finite},
    build=lambda values, name, inputs: keras.layers.Rescaling(
        values["scale"], values["shift"], name=name
    )(inputs[0]),
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
    {"operation": one_of("SUM", "PROD", "MAX"), "coefficients": numbers},
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
    "Convolution": CONVOLUTION,
    "ConvolutionDepthwise": DEPTHWISE,
    "Deconvolution": DECONVOLUTION,
    "DepthwiseConvolution": DEPTHWISE,
    "Dropout": _IDENTITY,
    "ELU": _keras_activation("elu"),
    "Eltwise": _ELTWISE,
    "LRN": _LRN,
    "Normalize": _NORMALIZE,
    "PReLU": _PRELU,
    "Pooling": _POOLING,
    "Power": _POWER,
    "ReLU": _RELU,
    "ReLU6": _keras_activation("relu6"),
    "Scale": _SCALE,
    "Sigmoid": _keras_activation("sigmoid"),
    "Split": _IDENTITY,
    "TanH": _keras_activation("tanh"),
}
