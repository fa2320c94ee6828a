# SPDX-License-Identifier: Apache-2.0
"""Import of weights that are stored by Caffe layer names and in Caffe's layouts."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import keras
import numpy as np
import numpy.typing as npt

from ssdops.anchors import AnchorGrid
from ssdops.models.caffe.layers import DepthwiseTranspose
from ssdops.models.caffe.network import keras_names
from ssdops.models.layers import ChannelScale, L2Normalization
from ssdops.models.ssd import SSD
from ssdops.models.weights.arrays import Array, LoadReport, Shape, WeightLoader
from ssdops.models.weights.opencv_face_graph import is_face_graph, with_caffe_blobs
from ssdops.models.weights.vgg16_reduction import with_reduced_layers
from ssdops.models.weights.vgg16_torch_names import (
    implied_options,
    is_torch,
    with_caffe_names,
)

__all__ = [
    "blobs_from_arrays",
    "inferred_options",
    "load_caffe_arrays",
    "load_caffe_blobs",
    "load_face_arrays",
    "load_vgg16_arrays",
]


# Of VGG-16 and of MobileNet.
_FIRST_LAYERS: Final = ("conv1_1|0", "conv0|0")
_BATCH_NORM_EPSILON: Final = 1e-5
# With the background; the official code numbers COCO's 80 classes without gaps.
_COCO_CLASSES: Final = 81


class _Blob(NamedTuple):
    """What a layer takes in the place of one blob.

    Attributes:
        variable: Of Keras, or None if only the shape counts.
        shape: In Caffe's layout.
        layout: What its dimensions mean.
        convert: Makes the layout of the variable of Caffe's.
    """

    variable: Any
    shape: Shape
    layout: str
    convert: Callable[[Array], Array] = np.asarray


def _expected(layer: Any) -> list[_Blob]:
    """Returns what a layer takes, blob by blob."""
    if isinstance(layer, L2Normalization):
        return [_vector(layer.scale)]
    if isinstance(layer, ChannelScale):
        return [_vector(layer.gamma), *_vectors(layer.beta)]
    if isinstance(layer, keras.layers.PReLU):
        count = layer.alpha.shape[-1]
        blob = _Blob(
            layer.alpha, (count,), "channels", lambda value: value.reshape(1, 1, count)
        )
        return [blob]
    if isinstance(layer, keras.layers.BatchNormalization):
        # The third is what the two others are divided by, see `_statistics`.
        return [
            _vector(layer.moving_mean),
            _vector(layer.moving_variance),
            _Blob(None, (1,), "divisor"),
        ]
    if isinstance(layer, DepthwiseTranspose):
        height, width, channels, _ = layer.kernel.shape
        blob = _Blob(
            layer.kernel,
            (channels, 1, height, width),
            "channels, 1, height, width",
            lambda value: value.transpose(2, 3, 0, 1),
        )
        return [blob, *_vectors(layer.bias)]
    if isinstance(layer, keras.layers.Conv2DTranspose):
        height, width, outputs, inputs = layer.kernel.shape
        blob = _Blob(
            layer.kernel,
            (inputs, outputs, height, width),
            "in, out, height, width",
            lambda value: value.transpose(2, 3, 1, 0),
        )
        return [blob, *_vectors(layer.bias)]
    # A depthwise convolution of Keras is a convolution, too.
    if isinstance(layer, keras.layers.DepthwiseConv2D):
        height, width, inputs, multiplier = layer.kernel.shape
        blob = _Blob(
            layer.kernel,
            (inputs * multiplier, 1, height, width),
            "channels, 1, height, width",
            lambda value: value.reshape(inputs, multiplier, height, width).transpose(
                2, 3, 0, 1
            ),
        )
        return [blob, *_vectors(layer.bias)]
    if isinstance(layer, keras.layers.Conv2D):
        height, width, inputs, outputs = layer.kernel.shape
        blob = _Blob(
            layer.kernel,
            (outputs, inputs, height, width),
            "out, in, height, width",
            lambda value: value.transpose(2, 3, 1, 0),
        )
        return [blob, *_vectors(layer.bias)]
    raise ValueError(
        f"layer {layer.name} of type {type(layer).__name__} has no Caffe layout"
    )


def _vector(variable: Any) -> _Blob:
    return _Blob(variable, tuple(variable.shape), "channels")


def _vectors(variable: Any) -> list[_Blob]:
    """Returns what a layer takes for a variable that it may not have."""
    return [] if variable is None else [_vector(variable)]


def _caffe_layers(model: SSD) -> dict[str, Any]:
    """Returns the layers with weights by what Caffe calls them."""
    layers = {layer.name: layer for layer in model.network.layers if layer.weights}
    described = model.spec.options.get("layers")
    if described is not None:
        names = keras_names(described)
        return {name: layers[ours] for name, ours in names.items() if ours in layers}
    # Keras allows no slash.
    return {re.sub(r"_dw$", "/dw", name): layer for name, layer in layers.items()}


def _localization_heads(model: SSD, names: Iterable[str]) -> set[str]:
    """Returns which of the layers predict offsets."""
    described = model.spec.options.get("offsets")
    if described is not None:
        return set(described)
    return {name for name in names if name.endswith("_mbox_loc")}


def fold_batch_normalization(
    blobs: Mapping[str, Sequence[Any]],
) -> dict[str, Sequence[Any]]:
    """Puts batch normalisation into the convolutions before it.

    A network as it was trained has for a convolution `<layer>` the layers `<layer>/bn`,
    with sums of mean and variance and what to divide them by, and `<layer>/scale`, with
    factor and bias. Where those are, the convolution becomes the whole of the three.

    Args:
        blobs: Per layer its blobs.

    Returns:
        The same without the layers that were put into others.

    Raises:
        ValueError: If shapes do not fit; the message names the layer.
    """
    folded = dict(blobs)
    for name in blobs:
        norm, scale = f"{name}/bn", f"{name}/scale"
        if norm not in blobs or scale not in blobs:
            continue
        del folded[norm], folded[scale]
        try:
            folded[name] = _folded(blobs[name], blobs[norm], blobs[scale])
        except (IndexError, ValueError) as error:
            raise ValueError(
                f"layers {norm} and {scale} cannot be put into {name}: {error}"
            ) from None
    return folded


def _folded(
    convolution: Sequence[Any], norm: Sequence[Any], scale: Sequence[Any]
) -> list[Array]:
    kernel = np.asarray(convolution[0], np.float64)
    channels = kernel.shape[0]
    bias = _row(convolution[1], channels) if len(convolution) > 1 else 0.0
    count = float(_row(norm[2], 1)[0])
    unit = 1.0 / count if count else 0.0
    mean, variance = (_row(norm[index], channels) * unit for index in (0, 1))
    factor = _row(scale[0], channels) / np.sqrt(variance + _BATCH_NORM_EPSILON)
    shape = (channels, *[1] * (kernel.ndim - 1))
    return [
        (kernel * factor.reshape(shape)).astype(np.float32),
        ((bias - mean) * factor + _row(scale[1], channels)).astype(np.float32),
    ]


def _row(value: Any, size: int) -> npt.NDArray[np.float64]:
    """Returns a blob of as many numbers as a vector."""
    row: npt.NDArray[np.float64] = np.asarray(value, np.float64).reshape(-1)
    if row.size != size:
        raise ValueError(f"{size} numbers are expected, got {row.size}")
    return row


def load_caffe_blobs(
    model: SSD, blobs: Mapping[str, Sequence[Any]], strict: bool = True
) -> LoadReport:
    """Puts Caffe blobs into a model whose layers carry the same names.

    Nothing is changed unless everything fits. The channel order of the first layer is
    kept: official weights expect BGR, which the preprocessing of these models gives.
    The outputs of localization heads are reordered from Caffe's (x, y, w, h) to
    (y, x, h, w).

    Args:
        model: A detector whose layers are called as in Caffe.
        blobs: Per layer its blobs: a convolution has weights [out, in, h, w] and bias
            [out] (dimensions of size 1 around it are ignored), a normalisation has
            scales [channels]. Batch normalisation is put into the convolutions before
            if the model has none, see `fold_batch_normalization`.
        strict: Whether layers on one side only and other shapes are an error. Otherwise
            the model keeps its values there, and the report tells.

    Returns:
        Tensors by name `<layer>|<blob>`, shapes in Caffe's layout.

    Raises:
        ValueError: For values that are not finite, and with `strict` for shapes that
            differ and missing or unknown layers; the message names the tensor and both
            shapes.
    """
    loader = WeightLoader(strict)
    known = _caffe_layers(model)
    heads = _localization_heads(model, known)
    if not any(
        isinstance(layer, keras.layers.BatchNormalization) for layer in known.values()
    ):
        blobs = fold_batch_normalization(blobs)
    for name, layer in known.items():
        expected = _expected(layer)
        present = list(blobs.get(name, ()))
        if isinstance(layer, keras.layers.BatchNormalization):
            present = _statistics(name, present)
        if len(present) > len(expected):
            raise ValueError(
                f"layer {name} takes {len(expected)} blobs, got {len(present)}"
            )
        for index, blob in enumerate(expected):
            tensor = f"{name}|{index}"
            if index >= len(present):
                loader.miss(tensor, blob.shape)
                continue
            value = np.asarray(present[index])
            # One number for all channels is stored without a dimension.
            if blob.shape == (1,) and value.ndim == 0:
                value = value.reshape(1)
            if len(blob.shape) == 1 and value.size == max(value.shape, default=0):
                value = value.reshape(-1)
            if name in heads and value.ndim and value.shape[0] % 4 == 0:
                value = _y_first(value)
            loader.take(
                tensor, value, blob.variable, blob.shape, blob.layout, blob.convert
            )
    for name, values in blobs.items():
        for index, value in enumerate(values):
            if name not in known:
                loader.skip(f"{name}|{index}", np.shape(value))
    return loader.finish(model.spec.name)


def _statistics(name: str, blobs: Sequence[Any]) -> list[Any]:
    """Returns mean and variance of a normalisation, which Caffe stores as sums.

    Programs that convert its weights store mean, variance, factor and bias instead.

    Raises:
        ValueError: If the third blob of Caffe, how many they are sums of, is no number;
            if there are factor and bias, and they change something.
    """
    if len(blobs) < 3:
        return list(blobs)
    if len(blobs) == 4:
        if not np.all(np.asarray(blobs[2]) == 1) or np.any(np.asarray(blobs[3])):
            raise ValueError(
                f"layer {name} must have factors of 1 and biases of 0, as a BatchNorm "
                "of Caffe has none"
            )
        return [*blobs[:2], np.ones(1)]
    count = np.asarray(blobs[2], np.float64).reshape(-1)
    if count.size != 1 or not np.isfinite(count[0]):
        raise ValueError(f"{name}|2 must be one finite number, got {count.size}")
    unit = 1.0 / count[0] if count[0] else 0.0
    sums = [np.asarray(blob, np.float64) * unit for blob in blobs[:2]]
    return [*sums, count, *blobs[3:]]


def _y_first(value: Array) -> Array:
    """Returns a localization blob with output rows (x, y, w, h) as (y, x, h, w)."""
    boxes = value.reshape(-1, 4, *value.shape[1:])
    return boxes[:, [1, 0, 3, 2]].reshape(value.shape)


def blobs_from_arrays(arrays: Mapping[str, Array]) -> dict[str, list[Array]]:
    """Groups arrays called `<layer>|<blob>` by layer, for example `conv1_1|0`.

    Raises:
        ValueError: For other names or gaps in the blob numbers.
    """
    numbered: dict[str, dict[int, Array]] = {}
    for name, value in arrays.items():
        layer, bar, index = name.rpartition("|")
        if not bar or not layer or not index.isdecimal():
            raise ValueError(
                f'array names must be "<layer>|<blob>" such as "conv1_1|0", '
                f"got {name!r}"
            )
        numbered.setdefault(layer, {})[int(index)] = value
    for layer, blobs in numbered.items():
        if sorted(blobs) != list(range(len(blobs))):
            raise ValueError(
                f"blobs of layer {layer} must be numbered from 0 without gaps, got "
                f"{sorted(blobs)}"
            )
    return {
        layer: [blobs[index] for index in range(len(blobs))]
        for layer, blobs in numbered.items()
    }


def load_caffe_arrays(
    model: SSD, arrays: Mapping[str, Array], strict: bool = True
) -> LoadReport:
    """Puts arrays called `<layer>|<blob>` into a model, as `load_caffe_blobs` does.

    Args:
        model: A detector whose layers are called as in Caffe.
        arrays: As `read_caffemodel` gives them.
        strict: As for `load_caffe_blobs`.

    Raises:
        ValueError: As for `blobs_from_arrays` and `load_caffe_blobs`.
    """
    return load_caffe_blobs(model, blobs_from_arrays(arrays), strict)


def load_vgg16_arrays(
    model: SSD, arrays: Mapping[str, Array], strict: bool = True
) -> LoadReport:
    """Puts arrays into a VGG-16 detector, by names of Caffe or of PyTorch's programs.

    Fully connected layers of a classifier become convolutions, see `vgg16_reduction`.

    Raises:
        ValueError: As `load_caffe_arrays`; names are those of Caffe.
    """
    if is_torch(arrays):
        arrays = with_caffe_names(arrays)
    return load_caffe_arrays(model, with_reduced_layers(arrays), strict)


def load_face_arrays(
    model: SSD, arrays: Mapping[str, Array], strict: bool = True
) -> LoadReport:
    """Puts arrays into the face detector, by names of Caffe or of its graph.

    Raises:
        ValueError: As `load_caffe_arrays`; names are those of Caffe.
    """
    if is_face_graph(arrays):
        arrays = with_caffe_blobs(arrays)
    return load_caffe_arrays(model, arrays, strict)


def inferred_options(
    arrays: Mapping[str, Array],
    coco_anchors: Callable[[], AnchorGrid] | None = None,
) -> dict[str, Any]:
    """Returns the number of classes that the heads of stored weights predict.

    Weights of PyTorch's programs imply their anchors, too, those of torchvision also
    that boxes are clipped. Those of a backbone, such as a VGG-16 that was trained to
    classify, imply nothing.

    Args:
        arrays: By names of Caffe, of a program of PyTorch or of OpenCV's graph.
        coco_anchors: Makes the anchors of weights that predict the classes of COCO, if
            they are not the model's own. Of weights that were trained on COCO before
            and have other classes now, nothing tells that they need them.

    Raises:
        ValueError: If there is neither a pair of heads whose sizes fit nor the first
            layer of a backbone.
    """
    if is_face_graph(arrays):
        return inferred_options(with_caffe_blobs(arrays))
    if is_torch(arrays):
        options = inferred_options(with_caffe_names(arrays))
        return {**options, **implied_options(arrays, options.get("num_classes"))}
    heads = [name for name in arrays if name.endswith("_mbox_loc|0")]
    if not heads and not arrays.keys().isdisjoint(_FIRST_LAYERS):
        return {}
    for name in heads:
        value = arrays[name]
        conf = arrays.get(name.replace("_mbox_loc|0", "_mbox_conf|0"))
        if conf is None or not value.ndim or not conf.ndim or not value.shape[0]:
            continue
        classes, rest = divmod(4 * conf.shape[0], value.shape[0])
        if rest == 0 and classes == _COCO_CLASSES and coco_anchors is not None:
            return {"num_classes": classes, "anchors": coco_anchors()}
        if rest == 0:
            return {"num_classes": classes}
    raise ValueError(
        "the weights have no fitting pair of arrays <layer>_mbox_loc|0 and "
        f"<layer>_mbox_conf|0 and no {' or '.join(_FIRST_LAYERS)}, so they are not "
        "those of an SSD or a backbone with Caffe names"
    )
