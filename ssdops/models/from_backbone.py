# SPDX-License-Identifier: Apache-2.0
"""A detector on any functional Keras model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import keras

from ssdops.anchors import AnchorGrid
from ssdops.models.backbones.keras_backbone import NAME
from ssdops.models.keras_config import config_of
from ssdops.models.preprocessing import Preprocessing
from ssdops.models.registry import build_from_spec, model_spec
from ssdops.models.ssd import SSD

__all__ = ["build_from_backbone"]


def build_from_backbone(
    backbone: keras.Model,
    sources: Sequence[str],
    class_names: Sequence[str] | None = None,
    num_classes: int | None = None,
    *,
    extra_levels: int | None = None,
    anchors: AnchorGrid | None = None,
    preprocessing: Preprocessing | None = None,
) -> SSD:
    """Builds a detector on a Keras model, whose weights are taken over.

    It can be saved, loaded, trained and given other classes like any other; its model
    is called "keras_backbone".

    Args:
        backbone: Functional model with one input [B, height, width, 3] of a fixed size,
            for example of `keras.applications` with `include_top=False`. Its layers
            must be plain ones of Keras, not nested models or layers of one's own.
        sources: Names of its layers that the first levels look at, fine to coarse.
        class_names: Names of all classes, index 0 the background; None for numbers.
        num_classes: Number of classes including the background; None for the number of
            `class_names`, or 21.
        extra_levels: Number of levels after the sources, each half as large as the one
            before; None for as many as lead to a side of one cell.
        anchors: Grid; None for `ssdops.anchors.recipe_grid` of the feature maps.
        preprocessing: What the backbone was trained with; None for RGB in [-1, 1].

    Raises:
        ValueError: If the backbone cannot be described by plain layers, a source is not
            there or no feature map, there are fewer than three levels and no anchors,
            or numbers of classes differ.
    """
    if not isinstance(backbone, keras.Model):
        raise ValueError(f"backbone must be a Keras model, got {backbone!r}")
    if num_classes is None:
        num_classes = 21 if class_names is None else len(class_names)
    used = _up_to(backbone, sources)
    spec = model_spec(
        NAME,
        num_classes=num_classes,
        anchors=anchors,
        config=config_of(used),
        sources=list(sources),
        extra_levels=extra_levels,
    )
    if preprocessing is not None:
        spec = replace(spec, preprocessing=preprocessing)
    model = build_from_spec(spec, class_names)
    _copy_weights(used, model.network)
    return model


def _up_to(backbone: keras.Model, sources: Sequence[str]) -> keras.Model:
    """Returns a model without what comes after the sources, which is of no use."""
    layers = {layer.name: layer for layer in backbone.layers}
    unknown = [name for name in sources if name not in layers]
    if unknown or isinstance(sources, str) or not sources:
        raise ValueError(
            f"sources must be names of layers of the backbone, got {sources!r}"
        )
    try:
        outputs = [layers[name].output for name in sources]
        return keras.Model(backbone.input, outputs, name=backbone.name)
    # Of models that are not functional, and of layers that are used twice.
    except (AttributeError, ValueError) as error:
        reason = " ".join(str(error).split())[:300]
        raise ValueError(
            f"backbone must be a functional model, and a source be used once: {reason}"
        ) from None


def _copy_weights(source: keras.Model, target: keras.Model) -> None:
    """Puts the weights of every layer of `source` into that of the same name."""
    for layer in source.layers:
        if layer.weights:
            target.get_layer(layer.name).set_weights(layer.get_weights())
