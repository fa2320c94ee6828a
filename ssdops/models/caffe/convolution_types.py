# SPDX-License-Identifier: Apache-2.0
"""Convolutions of Caffe, and their transposes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import keras

from ssdops.models.caffe.layer_type import (
    LayerType,
    Size,
    Values,
    both,
    flag,
    pair,
    whole,
)
from ssdops.models.caffe.layers import DepthwiseTranspose
from ssdops.protobuf_text import Message

__all__ = ["CONVOLUTION", "DECONVOLUTION", "DEPTHWISE"]


def _read_convolution(layer: Message) -> dict[str, Any]:
    given = layer.message("convolution_param")
    return {
        "num_output": given.integer("num_output", 0),
        "kernel": both(given, "kernel_size", 0),
        "stride": both(given, "stride", 1),
        "pad": both(given, "pad", 0),
        "dilation": both(given, "dilation", 1),
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
    _check_groups(values, sizes[0][2])
    return sides[0], sides[1], values["num_output"]


def _check_groups(values: Values, channels: int) -> None:
    if channels % values["group"] or values["num_output"] % values["group"]:
        raise ValueError(
            f"group must divide {channels} inputs and {values['num_output']} outputs, "
            f"got {values['group']}"
        )


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


CONVOLUTION = LayerType(
    _read_convolution,
    {
        "num_output": whole(1),
        "kernel": pair(1),
        "stride": pair(1),
        "pad": pair(0),
        "dilation": pair(1),
        "group": whole(1),
        "bias": flag,
    },
    _convolution_size,
    _build_convolution,
    _convolution_weights,
)

DEPTHWISE = replace(CONVOLUTION, read=_read_depthwise)


def _deconvolution_size(values: Values, sizes: Sequence[Size]) -> Size:
    height, width, channels = sizes[0]
    _check_groups(values, channels)
    if values["group"] != 1 and not channels == values["num_output"] == values["group"]:
        raise ValueError(
            f"group must be 1, or that of {channels} inputs and as many outputs, got "
            f"{values['group']}"
        )
    if values["dilation"] != [1, 1]:
        raise ValueError(f"dilation must be 1, got {values['dilation']}")
    if values["group"] > 1 and values["stride"][0] != values["stride"][1]:
        raise ValueError(
            f"stride must be the same in both directions, got {values['stride']}"
        )
    rows, columns = (
        stride * (side - 1) + kernel - 2 * pad
        for side, kernel, stride, pad in zip(
            (height, width),
            *(values[name] for name in ("kernel", "stride", "pad")),
            strict=True,
        )
    )
    return rows, columns, values["num_output"]


def _build_deconvolution(values: Values, name: str, inputs: Sequence[Any]) -> Any:
    features = inputs[0]
    common: dict[str, Any] = {
        "strides": values["stride"],
        "use_bias": values["bias"],
        "name": name,
    }
    if values["group"] == features.shape[-1] > 1:
        whole = DepthwiseTranspose(values["kernel"], **common)(features)
    else:
        whole = keras.layers.Conv2DTranspose(
            values["num_output"],
            values["kernel"],
            kernel_initializer="lecun_uniform",
            **common,
        )(features)
    rows, columns, _ = _deconvolution_size(values, [features.shape[1:]])
    # What is cut off at the beginning; at the end, Keras has more if the stride is
    # larger than the kernel.
    crops = [
        (pad, found - pad - wanted)
        for pad, found, wanted in zip(
            values["pad"], whole.shape[1:3], (rows, columns), strict=True
        )
    ]
    if any(crops[0] + crops[1]):
        whole = keras.layers.Cropping2D(crops, name=f"{name}_crop")(whole)
    return whole


DECONVOLUTION = replace(
    CONVOLUTION, size=_deconvolution_size, build=_build_deconvolution
)
