# SPDX-License-Identifier: Apache-2.0
"""Weights of `keras.applications`, trained on ImageNet, as backbones of detectors."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from ssdops.models.backbones.mobilenet_v3 import BLOCKS
from ssdops.models.ssd import SSD
from ssdops.models.weights.arrays import Array, LoadReport, Shape, WeightLoader
from ssdops.models.weights.vgg16_reduction import CHANNEL_STEP, GRID, TAP_STEP

__all__ = [
    "MOBILENET",
    "MOBILENET_V2",
    "MOBILENET_V3_LARGE",
    "VGG16",
    "Application",
]

_COLORS: Final = 3
_NORMALIZATION: Final = {"gamma", "beta", "moving_mean", "moving_variance"}
# Of the first and the last layer, what a depth multiplier is read from.
_FIRST_CHANNELS_V1: Final = 32
_LAST_CHANNELS_V2: Final = 320


@dataclass(frozen=True)
class Application:
    """How the weights of one network of `keras.applications` become a backbone.

    Attributes:
        name: Of the function that makes the network.
        marker: An array that no other file has.
        layer: Name of a layer of the detector -> that of the application's layer, in
            small letters, or None.
        options: Arrays by name become the options of `build_model` that they imply.
        order: Layers with weights from the first on, if there are files with other
            names; Keras itself goes by their order.
    """

    name: str
    marker: str
    layer: Callable[[str], str | None]
    options: Callable[[Mapping[str, Array]], dict[str, Any]]
    order: tuple[str, ...] = ()

    def recognizes(self, arrays: Mapping[str, Array]) -> bool:
        """Whether arrays are those of this application."""
        return self.marker in self._named(arrays)

    def _named(self, arrays: Mapping[str, Array]) -> dict[str, tuple[str, Array]]:
        """Returns names in the file and arrays by `<layer>/<weight>` of today's Keras.

        Where the layers have other names, but as many of them have the same kinds of
        weights, and each convolution takes the channels that the one before gives, they
        are named by their order.
        """
        found = _renamed(arrays)
        layers: dict[str, dict[str, Array]] = {}
        for key, (_, value) in found.items():
            layer, _, word = key.rpartition("/")
            layers.setdefault(layer, {})[word] = value
        if self.marker in found or not 0 < len(self.order) <= len(layers):
            return found
        names = dict(zip(layers, self.order, strict=False))
        channels = _COLORS
        for layer, name in names.items():
            weights = layers[layer]
            if name.startswith("bn_") or name.endswith("_bn"):
                if weights.keys() != _NORMALIZATION:
                    return found
                continue
            kernel = weights.get("kernel", np.zeros(0))
            if kernel.ndim != 4 or kernel.shape[2] != channels:
                return found
            if not name.endswith("_depthwise"):
                channels = kernel.shape[3]
            elif kernel.shape[3] != 1:
                return found
        return {
            f"{names.get(layer, layer)}/{word}": found[f"{layer}/{word}"]
            for layer, weights in layers.items()
            for word in weights
        }

    def inferred_options(self, arrays: Mapping[str, Array]) -> dict[str, Any]:
        """Returns options of the detector, without the number of its classes.

        Raises:
            ValueError: If the tensors that tell are missing.
        """
        plain = {name: value for name, (_, value) in self._named(arrays).items()}
        try:
            return self.options(plain)
        except (KeyError, IndexError) as error:
            raise ValueError(
                f"the weights have no {error}, so they are not those of Keras's "
                f"{self.name}"
            ) from None

    def load(
        self, model: SSD, arrays: Mapping[str, Array], strict: bool = True
    ) -> LoadReport:
        """Puts the weights of the application into the backbone of a detector.

        fc6 and fc7 of VGG-16 are made of the fully connected layers, if the file has
        them, see `vgg16_reduction`.

        Args:
            model: Detector with the options that the weights imply.
            arrays: Arrays `<layer>/<weight>`, as `read_keras` gives them or as
                `weight.path` of Keras calls them.
            strict: Whether tensors on one side only and other shapes are an error,
                which they are for every classifier. Otherwise the model keeps its
                values there, and the report tells.

        Returns:
            Tensors by their names in the file, those that only a detector has by their
            names here.

        Raises:
            ValueError: If convolutions of the model have biases in the place of the
                normalisation of the file, for values that are not finite, and with
                `strict` for shapes that differ and missing or unknown tensors.
        """
        stored = self._named(arrays)
        loader = WeightLoader(strict)
        taken = set()
        for layer in model.network.layers:
            source = self.layer(layer.name)
            normalized = f"{source}_bn/gamma" in stored
            for weight in layer.weights:
                word = weight.path.rpartition("/")[2]
                key = f"{source}/{word}"
                if normalized and word == "bias":
                    raise ValueError(
                        f"Keras's {self.name} has batch normalisation where layer "
                        f"{layer.name} has a bias; build the model with batch_norm=true"
                    )
                if source is None or key not in stored:
                    loader.miss(weight.path, tuple(weight.shape))
                    continue
                taken.add(key)
                name, value = stored[key]
                shape, convert = _reduced(source, word, tuple(weight.shape))
                loader.take(name, value, weight, shape, "as in Keras", convert)
        for key, (name, value) in stored.items():
            if key not in taken:
                loader.skip(name, tuple(value.shape))
        return loader.finish(model.spec.name)


def _renamed(arrays: Mapping[str, Array]) -> dict[str, tuple[str, Array]]:
    """Returns names in the file and arrays by `<layer>/<weight>` of today's Keras.

    Earlier versions had slashes and capitals in names of layers, and other names of
    weights.
    """
    found = {}
    for name, value in arrays.items():
        layer, _, word = name.removesuffix(":0").rpartition("/")
        layer = layer.lower().replace("/", "_").replace("batchnorm", "bn")
        word = "kernel" if word == "depthwise_kernel" else word
        found[f"{layer}/{word}"] = (name, value)
    return found


def _reduced(
    source: str, word: str, shape: Shape
) -> tuple[Shape, Callable[[Array], Array]]:
    """Returns what shape the file has in the place of a weight, and the conversion."""
    if source not in ("fc1", "fc2"):
        return shape, lambda value: value
    if word == "bias":
        return (CHANNEL_STEP * shape[0],), lambda value: value[::CHANNEL_STEP]
    *_, inputs, outputs = shape
    if source == "fc1":
        taps = (GRID, GRID, inputs, CHANNEL_STEP * outputs)
        return (GRID**2 * inputs, taps[-1]), lambda value: value.reshape(taps)[
            ::TAP_STEP, ::TAP_STEP, :, ::CHANNEL_STEP
        ]
    return (
        (CHANNEL_STEP * inputs, CHANNEL_STEP * outputs),
        lambda value: value[None, None, ::CHANNEL_STEP, ::CHANNEL_STEP],
    )


def _vgg16_layer(name: str) -> str | None:
    if name in ("fc6", "fc7"):
        return {"fc6": "fc1", "fc7": "fc2"}[name]
    match = re.fullmatch(r"conv([1-5])_([123])", name)
    return f"block{match[1]}_conv{match[2]}" if match else None


def _mobilenet_layer(name: str) -> str | None:
    match = re.fullmatch(r"Conv2d_(\d+)(|_depthwise|_pointwise)(|_bn)", name)
    if match is None:
        return None
    kind = {"": "conv1", "_depthwise": "conv_dw_", "_pointwise": "conv_pw_"}[match[2]]
    return kind + (match[1] if match[2] else "") + match[3]


def _mobilenet_v2_layer(name: str) -> str | None:
    usual = {
        "Conv": "conv1",
        "Conv_bn": "bn_conv1",
        "Conv_1": "conv_1",
        "Conv_1_bn": "conv_1_bn",
    }
    if name in usual:
        return usual[name]
    match = re.fullmatch(r"expanded_conv(_\d+|)_(\w+?)(_bn|)", name)
    if match is None:
        return None
    block = f"block{match[1]}" if match[1] else "expanded_conv"
    return f"{block}_{match[2]}{match[3]}"


def _mobilenet_v3_layer(name: str) -> str | None:
    usual = {
        "conv1": "conv",
        "conv1_bn": "conv_bn",
        "conv_last": "conv_1",
        "conv_last_bn": "conv_1_bn",
    }
    if name in usual:
        return usual[name]
    match = re.fullmatch(r"block(\d+)_(\w+)", name)
    if match is None:
        return None
    part = {
        "excitation1": "squeeze_excite_conv",
        "excitation2": "squeeze_excite_conv_1",
    }.get(match[2], match[2])
    index = int(match[1]) - 1
    return f"expanded_conv{f'_{index}' if index else ''}_{part}"


def _order_v2() -> tuple[str, ...]:
    """Returns the layers of MobileNet-V2 in their order."""
    names = ["expanded_conv_depthwise", "expanded_conv_project"]
    for index in range(1, 17):
        parts = ("expand", "depthwise", "project")
        names += [f"block_{index}_{part}" for part in parts]
    return (
        *("conv1", "bn_conv1"),
        *(each for name in names for each in (name, f"{name}_bn")),
        *("conv_1", "conv_1_bn"),
    )


def _order_v3() -> tuple[str, ...]:
    """Returns the layers of MobileNet-V3 Large in their order."""
    names = ["conv", "conv_bn"]
    for index, block in enumerate(BLOCKS):
        name = f"expanded_conv{f'_{index}' if index else ''}"
        if index:
            names += [f"{name}_expand", f"{name}_expand_bn"]
        names += [f"{name}_depthwise", f"{name}_depthwise_bn"]
        if block.excitation:
            squeeze = f"{name}_squeeze_excite_conv"
            names += [squeeze, f"{squeeze}_1"]
        names += [f"{name}_project", f"{name}_project_bn"]
    return (*names, "conv_1", "conv_1_bn")


def _scaled(name: str, channels: int) -> Callable[[Mapping[str, Array]], float]:
    """Returns what reads the depth multiplier from the outputs of a layer."""
    return lambda arrays: arrays[f"{name}/kernel"].shape[-1] / channels


def _pixels(**changes: Any) -> dict[str, Any]:
    """Returns the option that the weights saw other pixels than the model's own."""
    return {"spec": {"preprocessing": changes}}


_MULTIPLIER_V1: Final = _scaled("conv1", _FIRST_CHANNELS_V1)
_MULTIPLIER_V2: Final = _scaled("block_16_project", _LAST_CHANNELS_V2)

VGG16: Final = Application(
    "VGG16",
    "block1_conv1/kernel",
    _vgg16_layer,
    lambda arrays: _pixels(mean=(103.939, 116.779, 123.68)),
)
MOBILENET: Final = Application(
    "MobileNet",
    "conv_pw_1/kernel",
    _mobilenet_layer,
    lambda arrays: {
        "depth_multiplier": _MULTIPLIER_V1(arrays),
        "batch_norm": True,
        **_pixels(mean=(127.5,) * 3, scale=1 / 127.5),
    },
)
MOBILENET_V2: Final = Application(
    "MobileNetV2",
    "block_16_project/kernel",
    _mobilenet_v2_layer,
    lambda arrays: {"depth_multiplier": _MULTIPLIER_V2(arrays)},
    _order_v2(),
)
MOBILENET_V3_LARGE: Final = Application(
    "MobileNetV3Large",
    "expanded_conv_14_squeeze_excite_conv/kernel",
    _mobilenet_v3_layer,
    lambda arrays: {"reduced_tail": False, "padding": "same"},
    _order_v3(),
)
