# SPDX-License-Identifier: Apache-2.0
"""Reading of `.tflite` files: the constant tensors of a TensorFlow Lite model."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Final

import numpy as np

from ssdops.models.weights.arrays import Array, read_file
from ssdops.models.weights.flat_buffers import Table, root_table
from ssdops.models.weights.tflite_names import names_by_layer

__all__ = ["INPUT_PIXELS", "INPUT_SHAPE", "read_tflite"]

_IDENTIFIER: Final = b"TFL3"
# Fields of schema.fbs.
_MODEL_SUBGRAPHS, _MODEL_BUFFERS = 2, 4
_SUBGRAPH_TENSORS, _SUBGRAPH_INPUTS = 0, 1
_TENSOR_SHAPE, _TENSOR_TYPE, _TENSOR_BUFFER, _TENSOR_NAME = 0, 1, 2, 3
_TENSOR_QUANTIZATION, _TENSOR_SPARSITY = 4, 6
_QUANTIZATION_SCALE, _QUANTIZATION_ZERO_POINT, _QUANTIZED_DIMENSION = 2, 3, 6
_BUFFER_DATA = 0
_FLOATS: Final = {0: "<f4", 1: "<f2", 10: "<f8"}
_INTEGERS: Final = {2: "<i4", 3: "u1", 4: "<i8", 7: "<i2", 9: "i1"}
_MAX_DIMENSIONS: Final = 8
# Of images: their shape; what a pixel of 1 adds, and the pixel that stands for 0.
INPUT_SHAPE: Final = "input|shape"
INPUT_PIXELS: Final = "input|scale_zp"
# Kinds of quantised images, and the pixel that their 0 stands for.
_IMAGES: Final = {3: 0, 9: 128}
# Tensors may share a buffer, and take four times its bytes as float32; a file whose
# tensors take far more is not meant to be read.
_MAX_GROWTH: Final = 16


def read_tflite(path: str | os.PathLike[str]) -> dict[str, Array]:
    """The weights of a TensorFlow Lite model by tensor name, float32.

    Quantised ones are `(q - zero_point) * scale`, by tensor or by channel. Of each that
    is quantised by tensor there is also `<name>|scale_zp`, float64 `[2]`. Tensors of
    integers that stand for no real numbers, such as shapes, are left out. Kernels and
    biases whose names do not tell what they are get that of their layer, see
    `names_by_layer`. `input|shape`, int32, is the shape of the input if there is one
    only; if it is of bytes, `input|scale_zp` says what they stand for, those of int8 as
    if 128 were added to them. Only the first subgraph is read.

    Args:
        path: file.

    Raises:
        ValueError: if the file is absent, larger than 4 GiB, damaged, something else,
            or has sparse or unknown tensors; one sentence that names it.

    References:
        `tensorflow/compiler/mlir/lite/schema/schema.fbs`.
    """
    path = Path(path)
    data = read_file(path)
    try:
        # What is not finite is refused where it is put into a model.
        with np.errstate(over="ignore", invalid="ignore"):
            arrays = _weights(data)
    except ValueError as error:
        raise ValueError(f"{path} is not a readable .tflite file: {error}") from None
    if not arrays:
        raise ValueError(f"{path} is a .tflite file without weights")
    return arrays


def _weights(data: memoryview) -> dict[str, Array]:
    if bytes(data[4:8]) != _IDENTIFIER:
        raise ValueError(f"it does not say {_IDENTIFIER.decode()} at byte 4")
    model = root_table(data)
    buffers = model.tables(_MODEL_BUFFERS)
    subgraphs = model.tables(_MODEL_SUBGRAPHS)
    arrays: dict[str, Array] = {}
    bytes_left = _MAX_GROWTH * len(data)
    if not subgraphs:
        return {}
    tensors = subgraphs[0].tables(_SUBGRAPH_TENSORS)
    names = [tensor.text(_TENSOR_NAME) for tensor in tensors]
    layers = names_by_layer(model, subgraphs[0], names)
    for number, tensor in enumerate(tensors):
        index = tensor.number(_TENSOR_BUFFER, "<I")
        if index >= len(buffers):
            raise ValueError(f"a tensor has buffer {index} of {len(buffers)}")
        raw = buffers[index].numbers(_BUFFER_DATA, "u1")
        if not raw.size:
            continue  # computed, not constant
        kind = tensor.number(_TENSOR_TYPE, "b")
        quantization = tensor.table(_TENSOR_QUANTIZATION)
        scales = (
            np.zeros(0)
            if quantization is None
            else quantization.numbers(_QUANTIZATION_SCALE, "<f4")
        )
        if kind not in _FLOATS and not scales.size:
            continue  # a shape or an index
        name = layers.get(number, names[number])
        if name in arrays:
            raise ValueError(f"there are two tensors {name!r}")
        # Each number takes four bytes, and at most as many more on the way.
        bytes_left -= 4 * raw.size
        if bytes_left < 0:
            raise ValueError("its tensors share more than they have")
        try:
            arrays |= _values(name, tensor, kind, raw, quantization, scales)
        except ValueError as error:
            raise ValueError(f"tensor {name!r} {error}") from None
    inputs = subgraphs[0].numbers(_SUBGRAPH_INPUTS, "<i4")
    if arrays and inputs.size == 1:
        if not 0 <= inputs[0] < len(tensors):
            raise ValueError(f"the input is tensor {inputs[0]} of {len(tensors)}")
        arrays |= _input(tensors[inputs[0]])
    return arrays


def _input(tensor: Table) -> dict[str, Array]:
    """What is known of the images that a network takes."""
    known: dict[str, Array] = {INPUT_SHAPE: tensor.numbers(_TENSOR_SHAPE, "<i4")}
    quantization = tensor.table(_TENSOR_QUANTIZATION)
    zero = _IMAGES.get(tensor.number(_TENSOR_TYPE, "b"))
    if quantization is None or zero is None:
        return known
    scales = quantization.numbers(_QUANTIZATION_SCALE, "<f4")
    zero_points = quantization.numbers(_QUANTIZATION_ZERO_POINT, "<i8")
    if scales.size == zero_points.size == 1:
        constants = [float(scales[0]), float(zero_points[0]) + zero]
        known[INPUT_PIXELS] = np.array(constants, np.float64)
    return known


def _values(
    name: str,
    tensor: Table,
    kind: int,
    raw: Array,
    quantization: Table | None,
    scales: Array,
) -> dict[str, Array]:
    """A tensor as float32, and how it was quantised; errors go on after its name."""
    dtype = {**_FLOATS, **_INTEGERS}.get(kind)
    if dtype is None:
        raise ValueError(f"has the type {kind}, which is not known")
    if tensor.has(_TENSOR_SPARSITY):
        raise ValueError("is sparse")
    dimensions = tensor.numbers(_TENSOR_SHAPE, "<i4")
    if dimensions.size > _MAX_DIMENSIONS:
        raise ValueError(f"has {dimensions.size} dimensions")
    shape = dimensions.tolist()
    item = np.dtype(dtype)
    if min(shape, default=0) < 0 or math.prod(shape) * item.itemsize != raw.size:
        raise ValueError(f"has the shape {shape} and {raw.size} bytes")
    values = raw.view(item).reshape(shape)
    if kind in _FLOATS or quantization is None:
        return {name: values.astype(np.float32)}
    zero_points = quantization.numbers(_QUANTIZATION_ZERO_POINT, "<i8")
    if not zero_points.size:
        zero_points = np.zeros(scales.size, np.int64)
    if zero_points.size != scales.size:
        raise ValueError(f"has {scales.size} scales and {zero_points.size} zero points")
    if scales.size == 1:
        real = (values.astype(np.int64) - zero_points[0]) * np.float64(scales[0])
        constants = np.array([scales[0], zero_points[0]], np.float64)
        return {name: real.astype(np.float32), f"{name}|scale_zp": constants}
    axis = quantization.number(_QUANTIZED_DIMENSION, "<i")
    if not 0 <= axis < len(shape) or shape[axis] != scales.size:
        raise ValueError(
            f"has {scales.size} scales for dimension {axis} of the shape {shape}"
        )
    by_channel = [1] * len(shape)
    by_channel[axis] = scales.size
    real = values.astype(np.int64) - zero_points.reshape(by_channel)
    return {name: (real * scales.astype(np.float64).reshape(by_channel)).astype("<f4")}
