# SPDX-License-Identifier: Apache-2.0
"""Import of weights by the tensor names of TensorFlow's Object Detection API.

The arrays are in the layouts of TensorFlow Lite: convolutions [out, h, w, in],
depthwise convolutions [1, h, w, channels]. Names with a bar, such as
`<tensor>|scale_zp`, say how a tensor was quantised.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from typing import Any

import keras
import numpy as np

from ssdops.boxes import yxyx_to_cyxhw
from ssdops.models.preprocessing import Preprocessing
from ssdops.models.ssd import SSD
from ssdops.models.weights.arrays import (
    Array,
    LoadReport,
    Shape,
    WeightLoader,
    checked_tensor,
)
from ssdops.models.weights.slim_names import is_trained, with_folded_normalization

__all__ = [
    "inferred_options",
    "load_object_detection_arrays",
    "load_tflite_arrays",
]

_BACKBONE = re.compile(
    r"FeatureExtractor/(?:MobilenetV1/)+(?P<layer>[^/]+)/(?P<rest>.+)"
)
_PREDICTOR = re.compile(
    r"BoxPredictor_(?P<level>\d+)/(?P<head>BoxEncoding|Class)Predictor/(?P<rest>.+)"
)
_HEADS = {"BoxEncoding": "mbox_loc", "Class": "mbox_conf"}
_FIRST_POINTWISE_CHANNELS = 64


def _place(name: str, sources: list[str]) -> tuple[str, str] | None:
    """Returns layer and "kernel" or "bias" for a tensor name, None if it is neither."""
    if match := _BACKBONE.fullmatch(name):
        layer = match["layer"]
    elif (match := _PREDICTOR.fullmatch(name)) and int(match["level"]) < len(sources):
        layer = f"{sources[int(match['level'])]}_{_HEADS[match['head']]}"
    else:
        return None
    if match["rest"].endswith("_bias") or match["rest"].endswith("biases"):
        return layer, "bias"
    if "weights" in match["rest"]:
        return layer, "kernel"
    return None


def _layout(layer: Any, part: str) -> tuple[Any, Shape, str, tuple[int, ...] | None]:
    """Returns variable, stored shape, its meaning, and the permutation to Keras."""
    if part == "bias":
        return layer.bias, tuple(layer.bias.shape), "out", None
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
        model: Model "ssd300_mobilenet_v1" of the right depth multiplier.
        arrays: Of a TensorFlow Lite file, a checkpoint or a frozen graph.
        strict: As for `load_tflite_arrays`.

    Raises:
        ValueError: As for `load_tflite_arrays` and `with_folded_normalization`.
    """
    if is_trained(arrays):
        arrays = with_folded_normalization(arrays)
    return load_tflite_arrays(model, arrays, strict)


def load_tflite_arrays(
    model: SSD, arrays: Mapping[str, Array], strict: bool = True
) -> LoadReport:
    """Puts the weights of a TensorFlow Lite model into a MobileNet-V1 SSD.

    Nothing is changed unless everything fits. If the file holds `anchors` (centre y,
    centre x, height, width), they must agree with those of the model within the
    resolution of their quantisation.

    Args:
        model: Model "ssd300_mobilenet_v1" of the right depth multiplier.
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
    layers = {layer.name: layer for layer in model.network.layers if layer.weights}
    sources = [
        name.removesuffix("_mbox_loc") for name in layers if name.endswith("_mbox_loc")
    ]
    open_places = {
        (name, part): _layout(layer, part)
        for name, layer in layers.items()
        for part in ("kernel", "bias")
    }
    loader = WeightLoader(strict)
    for name, value in arrays.items():
        if "|" in name:
            continue
        if name == "anchors":
            _check_anchors(model, value, arrays.get("anchors|scale_zp"))
            continue
        place = _place(name, sources)
        if place is None or place not in open_places:
            loader.skip(name, value.shape)
            continue
        variable, shape, layout, order = open_places.pop(place)
        convert = partial(_ordered, order=order)
        loader.take(name, value, variable, shape, layout, convert)
    for (layer, part), (_, shape, *_) in open_places.items():
        loader.miss(f"{layer}/{part}", shape)
    return loader.finish(model.spec.name)


def _ordered(value: Array, order: tuple[int, ...] | None) -> Array:
    return value if order is None else value.transpose(order)


def _check_anchors(model: SSD, stored: Array, quantisation: Array | None) -> None:
    """Compares stored anchors with those of the model."""
    expected = yxyx_to_cyxhw(model.spec.anchors.boxes())
    stored = checked_tensor("anchors", stored, expected.shape, "anchors, 4")
    step = float(quantisation[0]) if quantisation is not None else 1e-5
    difference = float(np.abs(stored - expected).max())
    if difference > 0.51 * step:
        raise ValueError(
            f"anchors of the weights differ from those of model {model.spec.name} by "
            f"{difference:.4f}, more than half a quantisation step of {step:.5f}"
        )


def inferred_options(arrays: Mapping[str, Array]) -> dict[str, Any]:
    """Returns depth multiplier and number of classes of stored weights.

    Those that were trained, with batch normalisation, imply their preprocessing, too.

    Raises:
        ValueError: If the tensors that tell are missing.
    """
    changes: dict[str, Any] = {}
    if is_trained(arrays):
        # Quantised models for inference take the nearest whole number instead.
        inputs = Preprocessing((300, 300), mean=(127.5,) * 3, scale=1 / 127.5)
        changes["spec"] = {"preprocessing": inputs}
        arrays = with_folded_normalization(arrays)
    found: dict[tuple[str, str], Array] = {}
    for name, value in arrays.items():
        place = _place(name, ["first"]) if "|" not in name else None
        if place is not None:
            found[place] = value
    try:
        pointwise = found["Conv2d_1_pointwise", "bias"]
        boxes = found["first_mbox_loc", "bias"]
        classes = found["first_mbox_conf", "bias"]
        num_classes = 4 * classes.shape[0] // boxes.shape[0]
        channels = pointwise.shape[0]
    except (KeyError, IndexError, ZeroDivisionError):
        raise ValueError(
            "the weights have no tensors FeatureExtractor/.../Conv2d_1_pointwise and "
            "BoxPredictor_0/..., so they are not those of a MobileNet-V1 SSD"
        ) from None
    return {
        **changes,
        "num_classes": num_classes,
        "depth_multiplier": channels / _FIRST_POINTWISE_CHANNELS,
    }
