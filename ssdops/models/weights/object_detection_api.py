# SPDX-License-Identifier: Apache-2.0
"""Import of weights by the tensor names of TensorFlow's Object Detection API.

The arrays are in the layouts of TensorFlow Lite: convolutions [out, h, w, in],
depthwise convolutions [1, h, w, channels]. Names with a bar, such as
`<tensor>|scale_zp`, say how a tensor was quantised.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import keras
import numpy as np

from ssdops.boxes import yxyx_to_cyxhw
from ssdops.models.backbones.mobilenet_v1 import FIRST, LAST_IN_TRUNK, scaled
from ssdops.models.ssd import SSD
from ssdops.models.weights.arrays import (
    Array,
    LoadReport,
    Shape,
    WeightLoader,
    checked_tensor,
)
from ssdops.models.weights.slim_names import is_trained, with_folded_normalization
from ssdops.models.weights.tflite import INPUT_PIXELS, INPUT_SHAPE

__all__ = [
    "check_anchors",
    "depth_multiplier",
    "image_options",
    "inferred_options",
    "load_object_detection_arrays",
    "load_tflite_arrays",
]

_BACKBONE = re.compile(
    r"FeatureExtractor/(?:MobilenetV1/)+(?P<layer>[^/]+)/(?P<rest>.+)"
)
_PREDICTOR = re.compile(
    r"BoxPredictor_(?P<level>\d+)/(?P<head>BoxEncoding|Class)Predictor"
    r"(?P<depthwise>_depthwise)?/(?P<rest>.+)"
)
_NORMALIZATION = re.compile(
    r"BatchNorm/(?P<part>gamma|beta|moving_mean|moving_variance)"
)
_SEPARABLE_EXTRA = re.compile(r"Conv2d_13_pointwise_2_.+_depthwise")
ANCHORS = "anchors"
_HEADS = {"BoxEncoding": "mbox_loc", "Class": "mbox_conf"}
# A tenth of a pixel of 300: configurations write a third as 0.333, 0.3333 or longer.
_ANCHOR_TOLERANCE = 1 / 3000
# Of the numbers that bytes stand for, which are in [-1, 1]; others are brought there by
# the network itself.
_RANGE_TOLERANCE = 0.1
_STATISTICS = ("gamma", "beta", "moving_mean", "moving_variance")


def _place(name: str, sources: list[str]) -> tuple[str, str] | None:
    """Returns layer and part for a tensor name, None if there is none.

    Parts are "kernel", "bias" and those of the normalisation after the layer.
    """
    if match := _BACKBONE.fullmatch(name):
        layer = match["layer"]
    elif (match := _PREDICTOR.fullmatch(name)) and int(match["level"]) < len(sources):
        layer = f"{sources[int(match['level'])]}_{_HEADS[match['head']]}"
        if match["depthwise"]:
            layer += "_dw"
    else:
        return None
    if normalization := _NORMALIZATION.fullmatch(match["rest"]):
        return layer, normalization["part"]
    if match["rest"].endswith("_bias") or match["rest"].endswith("biases"):
        return layer, "bias"
    if "weights" in match["rest"]:
        return layer, "kernel"
    return None


def _places(model: SSD) -> dict[tuple[str, str], Any]:
    """Returns the layer of every variable by the places that `_place` gives."""
    places: dict[tuple[str, str], Any] = {}
    for layer in model.network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            name = layer.name.removesuffix("_bn")
            places |= {(name, part): layer for part in _STATISTICS}
        elif layer.weights:
            places[layer.name, "kernel"] = layer
            if layer.bias is not None:
                places[layer.name, "bias"] = layer
    return places


def _sources(model: SSD) -> list[str]:
    names = [layer.name for layer in model.network.layers]
    suffix = f"_{_HEADS['BoxEncoding']}"
    return [name.removesuffix(suffix) for name in names if name.endswith(suffix)]


def _layout(layer: Any, part: str) -> tuple[Any, Shape, str, tuple[int, ...] | None]:
    """Returns variable, stored shape, its meaning, and the permutation to Keras."""
    if part != "kernel":
        variable = getattr(layer, part)
        return variable, tuple(variable.shape), "out", None
    height, width, inputs, outputs = layer.kernel.shape
    if isinstance(layer, keras.layers.DepthwiseConv2D):
        shape = (outputs, height, width, inputs)
        return layer.kernel, shape, "1, height, width, channels", (1, 2, 3, 0)
    shape = (outputs, height, width, inputs)
    return layer.kernel, shape, "out, height, width, in", (1, 2, 3, 0)


def load_object_detection_arrays(
    model: SSD, arrays: Mapping[str, Array], strict: bool = True
) -> LoadReport:
    """Puts weights of the Object Detection API into a MobileNet-V1 SSD.

    Args:
        model: Model "ssd300_mobilenet_v1" with options that fit the weights.
        arrays: Of a TensorFlow Lite file, a checkpoint or a frozen graph.
        strict: As for `load_tflite_arrays`.

    Raises:
        ValueError: As for `load_tflite_arrays` and `with_folded_normalization`.
    """
    if is_trained(arrays):
        places, sources = _places(model), _sources(model)

        def has_normalization(layer: str) -> bool:
            place = _place(f"{layer}/weights", sources)
            return place is not None and (place[0], "gamma") in places

        arrays = with_folded_normalization(arrays, has_normalization)
    return load_tflite_arrays(model, arrays, strict)


def load_tflite_arrays(
    model: SSD, arrays: Mapping[str, Array], strict: bool = True
) -> LoadReport:
    """Puts the weights of a TensorFlow Lite model into a MobileNet-V1 SSD.

    Nothing is changed unless everything fits. Where the model has a normalisation that
    is part of a convolution of the file, it becomes the bias alone. If the file holds
    `anchors` (centre y, centre x, height, width), they must agree with those of the
    model within the resolution of their quantisation.

    Args:
        model: As for `load_object_detection_arrays`.
        arrays: As `read_tflite` gives them.
        strict: Whether tensors on one side only and other shapes are an error.
            Otherwise the model keeps its values there, and the report tells.

    Returns:
        Tensors by their name in the file, those missing by `<layer>/<variable>`.

    Raises:
        ValueError: For other anchors, values that are not finite, and with `strict`
            for shapes that differ and missing or unknown tensors; the message names
            the tensor and both shapes.
    """
    open_places = _places(model)
    sources = _sources(model)
    check_anchors(model, arrays)
    loader = WeightLoader(strict)
    for name, value in arrays.items():
        # Single numbers are constants of what comes before the network.
        if "|" in name or name == ANCHORS or not value.ndim:
            continue
        place = _place(name, sources)
        if place is not None and place[1] == "bias" and place not in open_places:
            # The bias of a convolution that holds the normalisation after it.
            place = (place[0], "beta")
            norm = open_places.get(place)
            if norm is not None and value.shape == norm.beta.shape:
                for part, constant in _identity(norm).items():
                    open_places.pop((place[0], part), None)
                    variable = getattr(norm, part)
                    loader.set(variable, np.full(value.shape, constant, np.float32))
        if place is None or place not in open_places:
            loader.skip(name, value.shape)
            continue
        variable, shape, layout, order = _layout(open_places.pop(place), place[1])
        convert = partial(_ordered, order=order)
        loader.take(name, value, variable, shape, layout, convert)
    for (name, part), layer in open_places.items():
        loader.miss(f"{name}/{part}", _layout(layer, part)[1])
    return loader.finish(model.spec.name)


def _identity(norm: Any) -> dict[str, float]:
    """Returns what lets a normalisation add its `beta` and nothing else."""
    return {"gamma": 1.0, "moving_mean": 0.0, "moving_variance": 1.0 - norm.epsilon}


def _ordered(value: Array, order: tuple[int, ...] | None) -> Array:
    return value if order is None else value.transpose(order)


def check_anchors(model: SSD, arrays: Mapping[str, Array]) -> None:
    """Compares anchors that a TensorFlow Lite file holds, if any, with the model's.

    Raises:
        ValueError: If they differ by more than a tenth of a pixel and what their
            quantisation explains.
    """
    if ANCHORS not in arrays:
        return
    expected = yxyx_to_cyxhw(model.spec.anchors.boxes())
    stored = checked_tensor(ANCHORS, arrays[ANCHORS], expected.shape, "anchors, 4")
    quantisation = arrays.get(f"{ANCHORS}|scale_zp")
    allowed = _ANCHOR_TOLERANCE
    if quantisation is not None:
        allowed += float(quantisation[0]) / 2
    elif np.array_equal(stored, stored.astype(np.float16)):
        allowed += float(np.spacing(np.abs(stored).max().astype(np.float16))) / 2
    difference = float(np.abs(stored - expected).max())
    if difference > allowed:
        raise ValueError(
            f"anchors of the weights differ from those of model {model.spec.name} by "
            f"{difference:.4f} of the image, more than {allowed:.4f}"
        )


def inferred_options(arrays: Mapping[str, Array]) -> dict[str, Any]:
    """Returns number of classes and options of the model of stored weights.

    Raises:
        ValueError: If the tensors that tell are missing.
    """
    changes: dict[str, Any] = {}
    if is_trained(arrays):
        arrays = with_folded_normalization(arrays)
    found: dict[tuple[str, str], Array] = {}
    for name, value in arrays.items():
        place = _place(name, ["first"]) if "|" not in name else None
        if place is not None:
            found[place] = value
    try:
        least = found["Conv2d_0", "bias"].shape[0]
        channels = found["Conv2d_13_pointwise", "bias"].shape[0]
        boxes = found["first_mbox_loc", "bias"].shape[0]
        classes = found["first_mbox_conf", "bias"].shape[0]
        num_classes = 4 * classes // boxes
    except (KeyError, IndexError, ZeroDivisionError):
        raise ValueError(
            "the weights have no tensors FeatureExtractor/.../Conv2d_13_pointwise and "
            "BoxPredictor_0/..., so they are not those of a MobileNet-V1 SSD"
        ) from None
    multiplier = depth_multiplier(channels, LAST_IN_TRUNK, scaled)
    if least > scaled(FIRST, multiplier):
        changes["min_depth"] = least
    separable = ("first_mbox_loc_dw", "kernel") in found
    head = found.get(("first_mbox_loc_dw" if separable else "first_mbox_loc", "kernel"))
    if head is not None and head.ndim == 4:
        changes["head_kernel"] = head.shape[1]
    return {
        **changes,
        **image_options(arrays),
        "num_classes": num_classes,
        "depth_multiplier": multiplier,
        "head": _kind(separable),
        "extras": _kind(any(_SEPARABLE_EXTRA.fullmatch(layer) for layer, _ in found)),
    }


def image_options(arrays: Mapping[str, Array]) -> dict[str, Any]:
    """Returns the options of the images that a network takes.

    TensorFlow Lite files tell their size, quantised ones what their bytes stand for.
    All others take pixels in [-1, 1], but for the weights of a quantised network
    without it, which takes the nearest whole number for the middle.
    """
    options: dict[str, Any] = {}
    shape = arrays.get(INPUT_SHAPE, np.zeros(0)).tolist()
    if len(shape) == 4 and min(shape) > 0:
        options["image_size"] = (int(shape[1]), int(shape[2]))
    middle, scale = 127.5, 1 / 127.5
    pixels = arrays.get(INPUT_PIXELS)
    if pixels is not None and abs(255 * pixels[0] - 2) < _RANGE_TOLERANCE:
        scale, middle = (float(value) for value in pixels)
    elif INPUT_SHAPE not in arrays and any(n.endswith("|scale_zp") for n in arrays):
        middle, scale = 128.0, 1 / 128
    options["spec"] = {"preprocessing": {"mean": (middle,) * 3, "scale": scale}}
    return options


def _kind(separable: bool) -> str:
    return "ssdlite" if separable else "ssd"


def depth_multiplier(
    channels: int, count: int, scaled: Callable[[int, float], int]
) -> float:
    """Returns the multiplier that gives a layer its channels.

    One of two digits, if there is: other layers are rounded in other ways.

    Args:
        channels: Of the layer.
        count: Channels of the layer at the multiplier 1.
        scaled: Count and multiplier -> channels.
    """
    exact = channels / count
    usual = round(exact, 2)
    return usual if scaled(count, usual) == channels else exact
