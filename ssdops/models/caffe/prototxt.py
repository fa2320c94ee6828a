# SPDX-License-Identifier: Apache-2.0
"""Descriptions of Caffe's networks (`.prototxt`) as specifications of models."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, Final

from ssdops.anchors import AnchorGrid, AnchorLevel
from ssdops.models.caffe.layer_type import Size
from ssdops.models.caffe.layer_types import LAYER_TYPES
from ssdops.models.caffe.net import Net, maker, read_net, where
from ssdops.models.caffe.network import NAME, feature_sizes, spec
from ssdops.models.caffe.tail import heads_behind, joined_parts
from ssdops.models.post_processing import PostProcessing
from ssdops.models.preprocessing import Preprocessing
from ssdops.models.spec import ModelSpec
from ssdops.protobuf_text import Message, read_text

__all__ = ["read_prototxt"]

_DETECTION: Final = "DetectionOutput"


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
    net = read_net(message)
    found = [layer for layer in net.layers if layer.text("type") == _DETECTION]
    if len(found) != 1:
        raise ValueError(f"there must be one layer {_DETECTION}, got {len(found)}")
    bottoms = found[0].texts("bottom")
    if len(bottoms) < 3:
        raise ValueError(f"{where(found[0])}: must have three inputs, got {bottoms}")
    offsets, changed = heads_behind(net, bottoms[0])
    logits, activation = heads_behind(net, bottoms[1])
    priors = [maker(net, blob) for blob in joined_parts(net, bottoms[2], 2)]
    if changed is not None:
        raise ValueError(f"{where(found[0])}: its offsets come from a {changed}")
    if not len(offsets) == len(logits) == len(priors):
        raise ValueError(
            f"{where(found[0])}: needs as many heads of each kind, got {len(offsets)} "
            f"of offsets, {len(logits)} of classes, {len(priors)} of priors"
        )
    if activation is None:
        raise ValueError(
            f"{where(found[0])}: its scores must come from a Softmax or Sigmoid"
        )
    given = found[0].message("detection_output_param")
    num_classes = given.integer("num_classes", 0)
    layers = _needed(net, [*offsets, *logits])
    sizes = feature_sizes(layers, net.source, net.image_size)
    model = spec(
        num_classes,
        _grid(net, priors, offsets, sizes),
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
        post_processing=_post_processing(found[0], given, model.anchors.num_anchors),
    )


def _needed(net: Net, heads: Sequence[Message]) -> list[dict[str, Any]]:
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
        raise ValueError(f"{where(layer)}: must have one output, got {len(tops)}")
    try:
        values = LAYER_TYPES[kind].read(layer)
    except ValueError as error:
        raise ValueError(f"{where(layer)}: {error}") from None
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
    net: Net,
    priors: Sequence[Message],
    heads: Sequence[Message],
    sizes: Mapping[str, Size],
) -> AnchorGrid:
    """Returns the anchors of the `PriorBox` layers beside these heads."""
    levels, common = [], []
    for layer, head in zip(priors, heads, strict=True):
        if layer.text("type") != "PriorBox":
            raise ValueError(f"{where(layer)}: must be of type PriorBox")
        size = sizes[head.text("name")][:2]
        source = maker(net, (layer.texts("bottom") or [""])[0]).text("name")
        if sizes.get(source, size)[:2] != size:
            raise ValueError(
                f"{where(layer)}: its features have the size {sizes[source][:2]}, "
                f"those of head {head.text('name')} {size}"
            )
        given = layer.message("prior_box_param")
        try:
            levels.append(
                AnchorLevel(
                    feature_size=size,
                    min_sizes=tuple(given.numbers("min_size")),
                    max_sizes=tuple(given.numbers("max_size")),
                    aspect_ratios=tuple(given.numbers("aspect_ratio")),
                    step=_step(given),
                    flip=given.flag("flip", True),
                )
            )
            common.append(_common(net, given))
        except ValueError as error:
            raise ValueError(f"{where(layer)}: {error}") from None
    if len(set(common)) > 1:
        raise ValueError(
            f"PriorBox layers must agree in clip, offset, variance, got {set(common)}"
        )
    clip, offset, variances = common[0]
    return AnchorGrid(
        net.image_size, tuple(levels), offset=offset, clip=clip, variances=variances
    )


def _step(given: Message) -> tuple[float, float] | None:
    """Returns (y, x) if the layer gives it."""
    if "step_h" in given or "step_w" in given:
        return given.number("step_h", 0.0), given.number("step_w", 0.0)
    step = given.number("step", 0.0)
    return (step, step) if "step" in given else None


def _common(
    net: Net, given: Message
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
    net: Net,
    mean: Sequence[float] | None,
    scale: float | Sequence[float] | None,
) -> Preprocessing:
    if mean is None and "mean_file" in net.transform:
        raise ValueError("mean_file is not read: give `mean`, three numbers")
    means = list(net.transform.numbers("mean_value") if mean is None else mean)
    if len(means) in (0, 1):
        means = (means or [0.0]) * 3
    factor: Any = net.transform.number("scale", 1.0) if scale is None else scale
    values: Any = tuple(means)
    return Preprocessing(net.image_size, channel_order="bgr", mean=values, scale=factor)


def _post_processing(layer: Message, given: Message, anchors: int) -> PostProcessing:
    """Returns thresholds and limits of a `DetectionOutput` layer.

    Where it has no limit, it is the number of anchors.
    """
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
            raise ValueError(f"{where(layer)}: {name} must be {needed}, got {value}")
    nms = given.message("nms_param")
    if nms.number("eta", 1.0) != 1.0:
        raise ValueError(f"{where(layer)}: eta must be 1, got {nms.text('eta')}")
    top_k, keep = nms.integer("top_k", -1), given.integer("keep_top_k", -1)
    try:
        return PostProcessing(
            score_threshold=max(0.0, given.number("confidence_threshold", 0.0)),
            iou_threshold=nms.number("nms_threshold", 0.3),
            pre_nms_top_k=top_k if top_k > 0 else anchors,
            max_detections=keep if keep > 0 else anchors,
        )
    except ValueError as error:
        raise ValueError(f"{where(layer)}: {error}") from None
