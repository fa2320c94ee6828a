# SPDX-License-Identifier: Apache-2.0
"""The table of models: one entry each."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import keras

from ssdops.anchors import AnchorGrid, anchor_grid, ssd300_coco, ssd512_coco
from ssdops.models.backbones import (
    keras_backbone,
    mobilenet_ssd,
    mobilenet_v1,
    mobilenet_v3,
    resnet,
    resnet10_face,
    small,
    vgg16,
)
from ssdops.models.backbones import mobilenet_v2 as mobilenet_v2_backbone
from ssdops.models.caffe import network as caffe_network
from ssdops.models.spec import ModelSpec
from ssdops.models.ssd import SSD
from ssdops.models.weights import (
    caffe,
    keras_applications,
    mobilenet_v2,
    nvidia_ssd,
    object_detection_api,
    object_detection_keras,
    torchvision_ssdlite,
    torchvision_vgg,
)
from ssdops.models.weights.arrays import Array, LoadReport
from ssdops.models.weights.files import read_weights

__all__ = [
    "available_models",
    "build_from_spec",
    "build_from_weights",
    "build_model",
    "model_spec",
]


@dataclass(frozen=True)
class WeightFormat:
    """How published weights of a model are read.

    Attributes:
        options: Arrays by name become the options of `build_model` that they imply,
            and perhaps under `spec` fields of parts of the specification that belong
            to them.
        load: Puts arrays by name into a model; the last argument says whether tensors
            on one side only are an error.
    """

    options: Callable[[Mapping[str, Array]], dict[str, Any]]
    load: Callable[[SSD, Mapping[str, Array], bool], LoadReport]


@dataclass(frozen=True)
class ModelEntry:
    """How a model is made.

    Attributes:
        spec: Keyword arguments `num_classes`, `anchors` (each optional) and the
            model's own options become a specification.
        network: A specification becomes the Keras network.
        weights: Format of published weights, None if there are none.
        class_names: Names of all classes, if the model is for these alone.
    """

    spec: Callable[..., ModelSpec]
    network: Callable[[ModelSpec], keras.Model]
    weights: WeightFormat | None = None
    class_names: tuple[str, ...] = ()


def _or_application(
    published: WeightFormat, application: keras_applications.Application
) -> WeightFormat:
    """Returns a format that is that of detectors or of a backbone of Keras."""

    def options(arrays: Mapping[str, Array]) -> dict[str, Any]:
        if application.recognizes(arrays):
            return application.inferred_options(arrays)
        return published.options(arrays)

    def load(model: SSD, arrays: Mapping[str, Array], strict: bool) -> LoadReport:
        if application.recognizes(arrays):
            return application.load(model, arrays, strict)
        return published.load(model, arrays, strict)

    return WeightFormat(options, load)


def _in_names_of_slim(published: WeightFormat) -> WeightFormat:
    """Returns a format that also takes the names of its authors in TensorFlow 2."""
    renamed = object_detection_keras.with_names_of_slim
    return WeightFormat(
        lambda arrays: published.options(renamed(arrays)),
        lambda model, arrays, strict: published.load(model, renamed(arrays), strict),
    )


def _vgg16(coco_anchors: Callable[[], AnchorGrid]) -> WeightFormat:
    """Returns the formats of SSD on VGG-16."""
    published = WeightFormat(
        partial(caffe.inferred_options, coco_anchors=coco_anchors),
        caffe.load_vgg16_arrays,
    )
    return _or_application(published, keras_applications.VGG16)


_VGG16_BN = WeightFormat(
    torchvision_vgg.inferred_options, torchvision_vgg.load_vgg16_bn_arrays
)
_CAFFE = WeightFormat(caffe.inferred_options, caffe.load_caffe_arrays)
_MOBILENET_V2 = _in_names_of_slim(
    _or_application(
        WeightFormat(
            mobilenet_v2.inferred_options, mobilenet_v2.load_mobilenet_v2_arrays
        ),
        keras_applications.MOBILENET_V2,
    )
)
_SSDLITE = _or_application(
    WeightFormat(
        torchvision_ssdlite.inferred_options, torchvision_ssdlite.load_ssdlite_arrays
    ),
    keras_applications.MOBILENET_V3_LARGE,
)
_FACE = WeightFormat(caffe.inferred_options, caffe.load_face_arrays)
_OBJECT_DETECTION_API = _in_names_of_slim(
    _or_application(
        WeightFormat(
            object_detection_api.inferred_options,
            object_detection_api.load_object_detection_arrays,
        ),
        keras_applications.MOBILENET,
    )
)


def _resnet(depth: int) -> ModelEntry:
    """Returns the entry of SSD300 on a ResNet."""
    return ModelEntry(
        partial(resnet.spec, depth),
        partial(resnet.network, depth),
        WeightFormat(
            partial(nvidia_ssd.inferred_options, depth), nvidia_ssd.load_nvidia_arrays
        ),
    )


_MODELS: dict[str, ModelEntry] = {
    "ssd300_vgg16": ModelEntry(vgg16.ssd300_spec, vgg16.network, _vgg16(ssd300_coco)),
    "ssd512_vgg16": ModelEntry(vgg16.ssd512_spec, vgg16.network, _vgg16(ssd512_coco)),
    "ssd300_vgg16_bn": ModelEntry(vgg16.ssd300_bn_spec, vgg16.network, _VGG16_BN),
    "ssd512_vgg16_bn": ModelEntry(vgg16.ssd512_bn_spec, vgg16.network, _VGG16_BN),
    "ssd300_mobilenet_v1": ModelEntry(
        mobilenet_v1.spec, mobilenet_v1.network, _OBJECT_DETECTION_API
    ),
    "ssd300_mobilenet_v2": ModelEntry(
        mobilenet_v2_backbone.spec, mobilenet_v2_backbone.network, _MOBILENET_V2
    ),
    "mobilenet_ssd": ModelEntry(mobilenet_ssd.spec, mobilenet_ssd.network, _CAFFE),
    "ssd300_resnet10_face": ModelEntry(
        resnet10_face.spec, resnet10_face.network, _FACE, ("background", "face")
    ),
    "ssdlite320_mobilenet_v3_large": ModelEntry(
        mobilenet_v3.spec, mobilenet_v3.network, _SSDLITE
    ),
    "ssd300_resnet18": _resnet(18),
    "ssd300_resnet34": _resnet(34),
    "ssd300_resnet50": _resnet(50),
    "ssd_small": ModelEntry(small.spec, small.network),
    "keras_backbone": ModelEntry(keras_backbone.spec, keras_backbone.network),
    "caffe_network": ModelEntry(caffe_network.spec, caffe_network.network),
}


def available_models() -> tuple[str, ...]:
    """Returns the names that `build_model` knows."""
    return tuple(_MODELS)


def _entry(name: str) -> ModelEntry:
    """Returns the table entry of a model."""
    if name not in _MODELS:
        raise ValueError(f"unknown model {name!r}; known are {', '.join(_MODELS)}")
    return _MODELS[name]


def build_model(
    name: str,
    num_classes: int | None = None,
    class_names: Sequence[str] | None = None,
    **options: Any,
) -> SSD:
    """Builds a detector with freshly initialised weights.

    Args:
        name: One of `available_models()`.
        num_classes: Number of classes including the background; None for the number of
            `class_names`, or the model's usual number.
        class_names: Names of all classes, index 0 the background; None for numbers.
        **options: `anchors` (a grid or the name of one) and the options of the model,
            for example `image_size` and `width` of "ssd_small".

    Raises:
        ValueError: For an unknown model or option and values outside their range.
    """
    if num_classes is None and class_names is not None:
        num_classes = len(class_names)
    if num_classes is not None:
        options["num_classes"] = num_classes
    return build_from_spec(model_spec(name, **options), class_names)


def model_spec(name: str, **options: Any) -> ModelSpec:
    """Returns what a detector would be, with its anchors, without its weights.

    Args:
        name: One of `available_models()`.
        **options: `num_classes`, and as for `build_model`.

    Raises:
        ValueError: For an unknown model or option and values outside their range.
    """
    if isinstance(options.get("anchors"), str):
        options["anchors"] = anchor_grid(options["anchors"])
    try:
        return _entry(name).spec(**options)
    except TypeError as error:
        raise ValueError(f"model {name} cannot take these options: {error}") from None


def build_from_spec(spec: ModelSpec, class_names: Sequence[str] | None = None) -> SSD:
    """Builds the detector that a specification describes, weights initialised.

    Raises:
        ValueError: For an unknown model name, options that the model does not have or
            that are outside their range, or anchors that do not fit the network.
    """
    # A specification may come from a file; making it anew checks its options.
    model_spec(
        spec.name, num_classes=spec.num_classes, anchors=spec.anchors, **spec.options
    )
    entry = _entry(spec.name)
    if class_names is None and len(entry.class_names) == spec.num_classes:
        class_names = entry.class_names
    return SSD(spec, entry.network(spec), class_names)


def build_from_weights(
    name: str | None,
    path: str | os.PathLike[str],
    class_names: Sequence[str] | None = None,
    *,
    strict: bool = True,
    **options: Any,
) -> tuple[SSD, LoadReport]:
    """Builds a detector to fit published weights, and loads them.

    The number of classes and, where the model has one, the width are taken from the
    shapes of the weights. Official VGG-16 weights for 81 classes get the anchors of
    COCO; those that were fine-tuned from COCO need `anchors="ssd300_coco"`, or 512,
    which nothing in them tells.

    Args:
        name: One of `available_models()` that has a format of published weights; None
            for the first that the file fits, tensor by tensor.
        path: File of published weights. By model: `.caffemodel`, or `.npz` of arrays
            `<layer>|<blob>`, for the VGG-16 models, "mobilenet_ssd" and
            "ssd300_resnet10_face"; the latter also as OpenCV's graph (`.pb`).
            `.tflite`, checkpoint (prefix or folder), SavedModel (folder) or frozen
            graph (`.pb`) of the Object Detection API, of TensorFlow 1 or 2, for
            "ssd300_mobilenet_v1" and "ssd300_mobilenet_v2".
            `.pth` or `.safetensors` of torchvision's models for "ssd300_vgg16" and
            "ssdlite320_mobilenet_v3_large", of `amdegroot/ssd.pytorch` and of
            `lufficc/SSD` for the VGG-16 models, `.pt` of NVIDIA's SSD300 for the
            ResNets.

            Without `strict` also backbones that were trained to classify: those of
            torchvision for the ResNets and the VGG-16 models; those of
            `keras.applications` (`.h5`, `.keras`, or `.npz` and `.safetensors` of
            arrays `weight.path`) for the VGG-16 without batch normalisation,
            MobileNet-V1, V2 and V3 Large.
        class_names: Names of all classes, index 0 the background; None for numbers.
        strict: Whether the file must have all tensors of the model and no others. If
            not, a backbone alone will do: the rest of the model keeps its random
            values, and the report tells.
        **options: As for `build_model`; they go before what the weights imply.

    Raises:
        ValueError: For unreadable weights, weights of another model, or another number
            of names than of classes.
    """
    if name is not None and _entry(name).weights is None:
        raise ValueError(
            f"model {name} has no published weights; load it from the folder where it "
            f"was saved"
        )
    arrays = read_weights(path)
    try:
        if name is None:
            name = _recognized(arrays, options)
        return _built_from_arrays(name, arrays, class_names, strict, options)
    except ValueError as error:
        raise ValueError(f"{os.fspath(path)}: {error}") from None


def _built_from_arrays(
    name: str,
    arrays: Mapping[str, Array],
    class_names: Sequence[str] | None,
    strict: bool,
    options: Mapping[str, Any],
) -> tuple[SSD, LoadReport]:
    """Builds a model that has published weights to fit arrays, and loads them."""
    weights = _entry(name).weights
    assert weights is not None
    options = {**weights.options(arrays), **options}
    changes = options.pop("spec", {})
    predicted = options.get("num_classes")
    if class_names is not None and predicted not in (None, len(class_names)):
        raise ValueError(
            f"the weights predict {predicted} classes including the "
            f"background, got {len(class_names)} names"
        )
    if predicted is None and class_names is not None:
        options["num_classes"] = len(class_names)
    spec = model_spec(name, **options)
    parts = {part: replace(getattr(spec, part), **changes[part]) for part in changes}
    spec = replace(spec, **parts)
    model = build_from_spec(spec, class_names)
    report = weights.load(model, arrays, strict)
    if not report.loaded:
        raise ValueError(f"no tensor of it fits model {name}: {report}")
    return model, report


def _recognized(arrays: Mapping[str, Array], options: Mapping[str, Any]) -> str:
    """Returns the first model that arrays fit, tensor by tensor.

    Raises:
        ValueError: If there is none; the message tells why not, model by model.
    """
    others: dict[str, list[str]] = {}
    near: dict[str, list[str]] = {}
    for name, entry in _MODELS.items():
        if entry.weights is None:
            continue
        try:
            entry.weights.options(arrays)
        except ValueError as error:
            others.setdefault(str(error), []).append(name)
            continue
        try:
            _built_from_arrays(name, arrays, None, True, options)
        except ValueError as error:
            near.setdefault(str(error), []).append(name)
            continue
        return name
    # Where the file has the right names, what is wrong with the others says nothing.
    listed = (f"{', '.join(names)}: {why}" for why, names in (near or others).items())
    raise ValueError(f"it fits no model as a whole ({'; '.join(listed)})")
