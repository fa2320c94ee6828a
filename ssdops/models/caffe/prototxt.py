# SPDX-License-Identifier: Apache-2.0
"""Descriptions of Caffe's networks (`.prototxt`) as specifications of models."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from ssdops.anchors import AnchorGrid, AnchorLevel
from ssdops.models.caffe.layer_types import LAYER_TYPES
from ssdops.models.caffe.network import NAME, feature_sizes, spec
from ssdops.models.post_processing import PostProcessing
from ssdops.models.preprocessing import Preprocessing
from ssdops.models.spec import ModelSpec
from ssdops.protobuf_text import Message, read_text

__all__ = ["read_prototxt"]

_DETECTION: Final = "DetectionOutput"
# Between the heads and the detections; they are part of every model here.
_SHAPING: Final = ("Flatten", "Permute", "Reshape")
_ACTIVATIONS: Final = {"Softmax": "softmax", "Sigmoid": "sigmoid"}
_DATA: Final = ("AnnotatedData", "Data", "ImageData", "Input", "MemoryData")


@dataclass(frozen=True)
class _Net:
    """The layers of a network for detection.

    Attributes:
        source: Name of the input.
        image_size: Its height and width.
        transform: The message `transform_param` of the layer that reads data.
        layers: All other layers in order.
        makers: Per blob the last layer that gives it.
    """

    source: str
    image_size: tuple[int, int]
    transform: Message
    layers: list[Message]
    makers: dict[str, Message]


def read_prototxt(
    path: str | os.PathLike[str],
    mean: Sequence[float] | None = None,
    scale: float | Sequence[float] | None = None,
) -> ModelSpec:
    """Returns what model a `.prototxt` file describes.

    Files for training, testing and deployment will do; layers for training only are
    left out. The network must end in a `DetectionOutput` layer, whose inputs are made
    by convolutions and `PriorBox` layers as in SSD.

    Args:
        path: File.
        mean: Three values to subtract from the channels (blue, green, red); None for
            those of the file's `transform_param`, or zero, as files for deployment do
            not say it.
        scale: Factor or three factors after that; None as for `mean`.

    Raises:
        FileNotFoundError: If the file is not there.
        ValueError: If it is damaged, or describes something else or layers that are
            not known; the message names file and layers.

    References:
        `caffe.proto` and `src/caffe/layers` of the original implementation.
    """
    try:
        return _specification(read_text(path), mean, scale)
    except ValueError as error:
        if str(error).startswith(os.fspath(path)):
            raise
        raise ValueError(f"{os.fspath(path)}: {error}") from None


def _specification(
    message: Message,
    mean: Sequence[float] | None,
    scale: float | Sequence[float] | None,
) -> ModelSpec:
    net = _net(message)
    found = [layer for layer in net.layers if layer.text("type") == _DETECTION]
    if len(found) != 1:
        raise ValueError(f"there must be one layer {_DETECTION}, got {len(found)}")
    bottoms = found[0].texts("bottom")
    if len(bottoms) < 3:
        raise ValueError(f"{_where(found[0])}: must have three inputs, got {bottoms}")
    offsets, _ = _heads(net, bottoms[0])
    logits, activation = _heads(net, bottoms[1])
    priors = _parts(net, bottoms[2])
    if not len(offsets) == len(logits) == len(priors):
        raise ValueError(
            f"{_where(found[0])}: needs as many heads of each kind, got {len(offsets)} "
            f"of offsets, {len(logits)} of classes, {len(priors)} of priors"
        )
    if activation is None:
        raise ValueError(
            f"{_where(found[0])}: its scores must come from a Softmax or Sigmoid"
        )
    given = found[0].message("detection_output_param")
    num_classes = given.integer("num_classes", 0)
    layers = _needed(net, [*offsets, *logits])
    sizes = feature_sizes(layers, net.source, net.image_size)
    model = spec(
        num_classes,
        _grid(net, priors, [sizes[layer.text("name")] for layer in offsets]),
        net.source,
        layers,
        [layer.text("name") for layer in offsets],
        [layer.text("name") for layer in logits],
    )
    _check_head_sizes(model, sizes)
    return ModelSpec(
        name=NAME,
        num_classes=num_classes,
        anchors=model.anchors,
        preprocessing=_preprocessing(net, mean, scale),
        score_activation=activation,
        options=model.options,
        post_processing=_post_processing(found[0], given),
    )


def _where(layer: Message) -> str:
    kind = layer.text("type")
    return f"line {layer.line}: layer {layer.text('name')} of type {kind}"


def _net(message: Message) -> _Net:
    """Returns the layers of the test phase, and the input."""
    if "layers" in message:
        raise ValueError("its layers are in the format before the present one")
    layers = [layer for layer in message.messages("layer") if _in_test(layer)]
    source, size, transform = message.text("input"), (0, 0), Message(1)
    dims = message.message("input_shape").integers("dim")
    dims = dims or message.integers("input_dim")
    for layer in layers:
        if layer.text("type") in _DATA:
            source = (layer.texts("top") or [""])[0]
            shapes = layer.message("input_param").messages("shape")
            dims = shapes[0].integers("dim") if shapes else []
            transform = layer.message("transform_param")
            resized = transform.message("resize_param")
            size = (resized.integer("height", 0), resized.integer("width", 0))
            break
    if dims:
        if len(dims) != 4 or dims[1] != 3:
            raise ValueError(f"the input must have the shape [1, 3, h, w], got {dims}")
        size = (dims[2], dims[3])
    if not source or min(size) < 1:
        raise ValueError("it gives no size of an input image (input_shape, Input)")
    others = [layer for layer in layers if layer.text("type") not in _DATA]
    makers = {top: layer for layer in others for top in layer.texts("top")}
    return _Net(source, size, transform, others, makers)


def _in_test(layer: Message) -> bool:
    """Whether a layer takes part when a network is tested."""
    phases = [rule.text("phase") for rule in layer.messages("include")]
    if phases:
        return any(phase in ("TEST", "1", "") for phase in phases)
    phases = [rule.text("phase") for rule in layer.messages("exclude")]
    return not any(phase in ("TEST", "1") for phase in phases)


def _maker(net: _Net, blob: str) -> Message:
    if blob not in net.makers:
        raise ValueError(f"blob {blob!r} is an input of a layer, but of none an output")
    return net.makers[blob]


def _parts(net: _Net, blob: str) -> list[Message]:
    """Returns the layers whose outputs a blob joins; itself if it joins none."""
    maker = _maker(net, blob)
    if maker.text("type") != "Concat":
        return [maker]
    return [_maker(net, bottom) for bottom in maker.texts("bottom")]


def _heads(net: _Net, blob: str) -> tuple[list[Message], str | None]:
    """Returns the convolutions behind an input of the detections; the activation."""
    activation = None
    maker = _maker(net, blob)
    for _ in range(len(net.layers)):
        kind = maker.text("type")
        if kind in _ACTIVATIONS:
            activation = _ACTIVATIONS[kind]
        elif kind not in _SHAPING:
            break
        blob = _only_bottom(maker)
        maker = _maker(net, blob)
    heads = []
    for part in _parts(net, blob):
        head = part
        for _ in range(len(net.layers)):
            if head.text("type") not in _SHAPING:
                break
            head = _maker(net, _only_bottom(head))
        if head.text("type") != "Convolution":
            raise ValueError(f"{_where(head)}: a head must be a Convolution")
        heads.append(head)
    return heads, activation


def _only_bottom(layer: Message) -> str:
    bottoms = layer.texts("bottom")
    if len(bottoms) != 1:
        raise ValueError(f"{_where(layer)}: must have one input, got {len(bottoms)}")
    return bottoms[0]


def _needed(net: _Net, heads: Sequence[Message]) -> list[dict[str, Any]]:
    """Returns the layers that the heads need, in order, as plain values."""
    wanted = {top for head in heads for top in head.texts("top")}
    layers = []
    for layer in reversed(net.layers):
        tops, bottoms = layer.texts("top"), layer.texts("bottom")
        if not wanted.intersection(tops):
            continue
        layers.append(layer)
        wanted.difference_update(tops)
        wanted.update(bottoms)
    if wanted - {net.source}:
        raise ValueError(f"blobs {sorted(wanted - {net.source})} come from nowhere")
    unknown = {layer.text("type") for layer in layers} - set(LAYER_TYPES)
    if unknown:
        raise ValueError(
            f"layers of types {', '.join(sorted(unknown))} are not known; known are "
            f"{', '.join(LAYER_TYPES)}"
        )
    return [entry for layer in reversed(layers) for entry in _plain(layer)]


def _plain(layer: Message) -> list[dict[str, Any]]:
    """Returns a layer as plain values; one of several outputs gives several layers."""
    kind, tops = layer.text("type"), layer.texts("top")
    if len(tops) != 1 and kind != "Split":
        raise ValueError(f"{_where(layer)}: must have one output, got {len(tops)}")
    try:
        values = LAYER_TYPES[kind].read(layer)
    except ValueError as error:
        raise ValueError(f"{_where(layer)}: {error}") from None
    return [
        {
            "type": kind,
            "name": layer.text("name") + ("" if index == 0 else f"_{index}"),
            "bottom": layer.texts("bottom"),
            "top": top,
            "values": values,
        }
        for index, top in enumerate(tops)
    ]


def _grid(
    net: _Net, priors: Sequence[Message], sizes: Sequence[tuple[int, ...]]
) -> AnchorGrid:
    """Returns the anchors of the `PriorBox` layers on feature maps of these sizes."""
    levels, common = [], []
    for layer, size in zip(priors, sizes, strict=True):
        if layer.text("type") != "PriorBox":
            raise ValueError(f"{_where(layer)}: must be of type PriorBox")
        given = layer.message("prior_box_param")
        try:
            levels.append(
                AnchorLevel(
                    feature_size=(size[0], size[1]),
                    min_sizes=tuple(given.numbers("min_size")),
                    max_sizes=tuple(given.numbers("max_size")),
                    aspect_ratios=tuple(given.numbers("aspect_ratio")),
                    step=_step(given),
                    flip=given.flag("flip", True),
                )
            )
            common.append(_common(net, given))
        except ValueError as error:
            raise ValueError(f"{_where(layer)}: {error}") from None
    if len(set(common)) > 1:
        raise ValueError(
            f"PriorBox layers must agree in clip, offset, variance, got {set(common)}"
        )
    clip, offset, variances = common[0]
    return AnchorGrid(
        net.image_size, tuple(levels), offset=offset, clip=clip, variances=variances
    )


def _step(given: Message) -> tuple[float, float] | None:
    step = given.number("step", 0.0)
    steps = given.number("step_h", step), given.number("step_w", step)
    return steps if min(steps) > 0 else None


def _common(
    net: _Net, given: Message
) -> tuple[bool, float, tuple[float, float, float, float]]:
    """Returns what must be the same on all levels: clip, offset, variances."""
    size = given.integer("img_size", 0)
    height = given.integer("img_h", size or net.image_size[0])
    width = given.integer("img_w", size or net.image_size[1])
    if (height, width) != net.image_size:
        raise ValueError(f"img_size must be that of the input, got {(height, width)}")
    variances = given.numbers("variance") or [0.1]
    if len(variances) == 1:
        variances *= 4
    if len(variances) != 4:
        raise ValueError(f"variance must be 1 or 4 numbers, got {len(variances)}")
    x, y, w, h = variances
    return given.flag("clip", False), given.number("offset", 0.5), (y, x, h, w)


def _check_head_sizes(model: ModelSpec, sizes: dict[str, tuple[int, int, int]]) -> None:
    """Compares the channels of the heads with what classes and priors ask for."""
    for key, width in (("offsets", 4), ("logits", model.num_classes)):
        for name, level in zip(model.options[key], model.anchors.levels, strict=True):
            expected = (*level.feature_size, width * level.boxes_per_cell)
            if sizes[name] != expected:
                raise ValueError(
                    f"layer {name} gives rows, columns and channels {sizes[name]}; "
                    f"classes and priors ask for {expected}"
                )


def _preprocessing(
    net: _Net,
    mean: Sequence[float] | None,
    scale: float | Sequence[float] | None,
) -> Preprocessing:
    means = list(net.transform.numbers("mean_value") if mean is None else mean)
    if len(means) in (0, 1):
        means = (means or [0.0]) * 3
    factor: Any = net.transform.number("scale", 1.0) if scale is None else scale
    values: Any = tuple(means)
    return Preprocessing(net.image_size, channel_order="bgr", mean=values, scale=factor)


def _post_processing(layer: Message, given: Message) -> PostProcessing:
    """Returns thresholds and limits of a `DetectionOutput` layer."""
    for name, value, needed in (
        ("share_location", given.flag("share_location", True), True),
        ("background_label_id", given.integer("background_label_id", 0), 0),
        ("code_type", given.text("code_type", "CORNER"), ("CENTER_SIZE", "2")),
        (
            "variance_encoded_in_target",
            given.flag("variance_encoded_in_target", False),
            False,
        ),
    ):
        if value not in (needed if isinstance(needed, tuple) else (needed,)):
            raise ValueError(f"{_where(layer)}: {name} must be {needed}, got {value}")
    nms = given.message("nms_param")
    if nms.number("eta", 1.0) != 1.0:
        raise ValueError(f"{_where(layer)}: eta must be 1, got {nms.text('eta')}")
    top_k, keep = nms.integer("top_k", -1), given.integer("keep_top_k", -1)
    try:
        return PostProcessing(
            score_threshold=max(0.0, given.number("confidence_threshold", 0.0)),
            iou_threshold=nms.number("nms_threshold", 0.3),
            # All of them; there are no more anchors.
            pre_nms_top_k=top_k if top_k > 0 else 10_000,
            max_detections=keep if keep > 0 else 10_000,
        )
    except ValueError as error:
        raise ValueError(f"{_where(layer)}: {error}") from None
