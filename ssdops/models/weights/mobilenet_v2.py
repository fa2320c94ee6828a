# SPDX-License-Identifier: Apache-2.0
"""Weights of the Object Detection API's SSD on MobileNet-V2.

Checkpoints and frozen graphs have batch normalisation, TensorFlow Lite files have it
folded into kernels and biases; the model has it in any case.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import keras
import numpy as np

from ssdops.models.backbones.mobilenet_v2 import FIRST_EXTRA, extra_channels
from ssdops.models.ssd import SSD
from ssdops.models.weights.arrays import Array, LoadReport, Shape, WeightLoader
from ssdops.models.weights.object_detection_api import (
    check_anchors,
    depth_multiplier,
    image_options,
)
from ssdops.models.weights.slim_names import averaged, is_trained

__all__ = ["inferred_options", "load_mobilenet_v2_arrays"]

_BACKBONE: Final = re.compile(
    r"FeatureExtractor/(?:MobilenetV2/)+"
    r"(?P<layer>expanded_conv(?:_\d+)?/(?:expand|depthwise|project)|[^/]+)/(?P<rest>.+)"
)
_PREDICTOR: Final = re.compile(
    r"BoxPredictor_(?P<level>\d+)/"
    r"(?P<head>BoxEncoding|Class)Predictor(?P<depthwise>_depthwise)?/(?P<rest>.+)"
)
_HEADS: Final = {"BoxEncoding": "mbox_loc", "Class": "mbox_conf"}
_FIRST_EXTRA: Final = "layer_19_2_Conv2d_2_3x3_s2_"
_SEPARABLE_EXTRA: Final = re.compile(r"layer_19_2_.+_depthwise")
_NORM: Final = "BatchNorm/"
_STATISTICS: Final = ("gamma", "beta", "moving_mean", "moving_variance")
# What a model is made of; checkpoints and graphs have more.
_VARIABLE: Final = re.compile(
    r"(?:FeatureExtractor|BoxPredictor_\d+)/.+/"
    rf"(?:weights|depthwise_weights|biases|{_NORM}(?:{'|'.join(_STATISTICS)}))"
)
# What an optimizer keeps beside a variable.
_SLOT: Final = re.compile(r".*(weights|biases|gamma|beta)/(?!read|FakeQuant).+")


def load_mobilenet_v2_arrays(
    model: SSD, arrays: Mapping[str, Array], strict: bool = True
) -> LoadReport:
    """Puts weights of the Object Detection API into "ssd300_mobilenet_v2".

    Nothing is changed unless everything fits. Where the normalisation is folded into a
    convolution, that of the model becomes one that only adds the bias.

    Args:
        model: Model of the right depth multiplier and kind of heads.
        arrays: Of a checkpoint, a frozen graph or a TensorFlow Lite file.
        strict: Whether weights on one side only and other shapes are an error. What an
            optimizer keeps, and what else a graph has, is left out in any case.

    Raises:
        ValueError: For other anchors, values that are not finite, and with `strict` for
            shapes that differ and missing or unknown weights.
    """
    layers = {layer.name: layer for layer in model.network.layers if layer.weights}
    sources = [
        name.removesuffix("_mbox_loc") for name in layers if name.endswith("_mbox_loc")
    ]
    check_anchors(model, arrays)
    trained = is_trained(arrays)
    stored: dict[tuple[str, str], tuple[str, Array]] = {}
    loader = WeightLoader(strict)
    for name, value in averaged(arrays).items():
        place = _place(name, sources) if _is_tensor(name, value) else None
        if place is not None and place[0] in layers:
            stored[place] = name, value
        elif place is not None or _VARIABLE.fullmatch(name):
            # Layers that the model lacks: without them it would predict something else.
            loader.skip(name, value.shape)
    has_factors = any(part == "gamma" for _, part in stored)
    for name, layer in layers.items():
        if isinstance(layer, keras.layers.BatchNormalization):
            owner = name.removesuffix("_bn")
            if trained:
                parts = {part: getattr(layer, part) for part in _STATISTICS}
                if not has_factors:
                    # Normalisations without a factor have none stored.
                    gamma = parts.pop("gamma")
                    loader.set(gamma, np.ones(gamma.shape, np.float32))
                _take(loader, stored, owner, parts)
            else:
                _take(loader, stored, owner, {"bias": layer.beta})
                _set_identity(loader, layer)
            continue
        shape = _lite_shape(layer)
        if trained:
            _take(loader, stored, name, {"kernel": layer.kernel})
        else:
            found = stored.get((name, "kernel"))
            if found is None:
                loader.miss(f"{name}/kernel", shape)
            else:
                layout = "as in TensorFlow Lite"
                loader.take(*found, layer.kernel, shape, layout, _from_lite)
        if layer.bias is not None:
            _take(loader, stored, name, {"bias": layer.bias})
    return loader.finish(model.spec.name)


def _is_tensor(name: str, value: Array) -> bool:
    """Whether an array is one of numbers, not a note on how others are quantised.

    The ranges that training for quantisation keeps are single numbers.
    """
    return "|" not in name and value.ndim > 0


def _place(name: str, sources: list[str]) -> tuple[str, str] | None:
    """Returns layer and part for the name of a variable, None if it is neither."""
    if match := _BACKBONE.fullmatch(name):
        layer = match["layer"].replace("/", "_")
    elif (match := _PREDICTOR.fullmatch(name)) and int(match["level"]) < len(sources):
        layer = f"{sources[int(match['level'])]}_{_HEADS[match['head']]}"
        layer += "_dw" if match["depthwise"] else ""
    else:
        return None
    rest = match["rest"]
    if rest.startswith(_NORM):
        part = rest.removeprefix(_NORM)
        return (layer, part) if part in _STATISTICS else None
    if _SLOT.fullmatch(name):
        return None
    if rest.endswith("_bias") or rest.endswith("biases"):
        return layer, "bias"
    return (layer, "kernel") if "weights" in rest else None


def _take(
    loader: WeightLoader,
    stored: Mapping[tuple[str, str], tuple[str, Array]],
    layer: str,
    parts: Mapping[str, Any],
) -> None:
    """Notes variables whose layout is that of the file."""
    for part, variable in parts.items():
        shape = tuple(variable.shape)
        found = stored.get((layer, part))
        if found is None:
            loader.miss(f"{layer}/{part}", shape)
        else:
            loader.take(*found, variable, shape, "as in Keras")


def _set_identity(loader: WeightLoader, layer: Any) -> None:
    """Notes what makes a normalisation change nothing but for its bias."""
    count = tuple(layer.gamma.shape)
    for variable, value in (
        (layer.gamma, np.sqrt(1.0 + layer.epsilon)),
        (layer.moving_mean, 0.0),
        (layer.moving_variance, 1.0),
    ):
        loader.set(variable, np.full(count, value, np.float32))


def _is_depthwise(layer: Any) -> bool:
    return isinstance(layer, keras.layers.DepthwiseConv2D)


def _lite_shape(layer: Any) -> Shape:
    height, width, inputs, outputs = layer.kernel.shape
    if _is_depthwise(layer):
        return 1, height, width, inputs
    return outputs, height, width, inputs


def _from_lite(kernel: Array) -> Array:
    """Returns [out, h, w, in] as [h, w, in, out], [1, h, w, c] as [h, w, c, 1]."""
    return kernel.transpose((1, 2, 3, 0))


def inferred_options(arrays: Mapping[str, Array]) -> dict[str, Any]:
    """Returns number of classes and options of the model of stored weights.

    Raises:
        ValueError: If the tensors that tell are missing.
    """
    found: dict[tuple[str, str], Array] = {}
    for name, value in averaged(arrays).items():
        place = _place(name, ["first"]) if _is_tensor(name, value) else None
        if place is not None:
            found[place] = value
    trained = is_trained(arrays)
    layers = {layer for layer, _ in found}
    extras = [
        value
        for (layer, part), value in found.items()
        if re.fullmatch(rf"{_FIRST_EXTRA}\d+", layer) and part == "kernel"
    ]
    try:
        (extra,) = extras
        channels = extra.shape[-1 if trained else 0]
        boxes = found["first_mbox_loc", "bias"].shape[0]
        classes = found["first_mbox_conf", "bias"].shape[0]
        num_classes = 4 * classes // boxes
    except (KeyError, IndexError, ValueError, ZeroDivisionError):
        raise ValueError(
            f"the weights have no tensors FeatureExtractor/.../{_FIRST_EXTRA}... and "
            "BoxPredictor_0/..., so they are not those of a MobileNet-V2 SSD"
        ) from None
    separable = "first_mbox_loc_dw" in layers
    head = found.get(("first_mbox_loc_dw" if separable else "first_mbox_loc", "kernel"))
    options = {
        **image_options(arrays),
        "num_classes": num_classes,
        "depth_multiplier": depth_multiplier(channels, FIRST_EXTRA, extra_channels),
        "head": _kind(separable),
        "extras": _kind(any(_SEPARABLE_EXTRA.fullmatch(layer) for layer in layers)),
    }
    if head is not None and head.ndim == 4:
        # Trained ones are [h, w, in, out].
        options["head_kernel"] = head.shape[0 if trained else 1]
    return options


def _kind(separable: bool) -> str:
    return "ssdlite" if separable else "ssd"
