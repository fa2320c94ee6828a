# SPDX-License-Identifier: Apache-2.0
"""Reading of `.caffemodel` files, which Caffe keeps weights in."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Final

import numpy as np

from ssdops.models.weights.arrays import Array, read_file
from ssdops.models.weights.wire_format import BYTES, FIXED32, FIXED64, WireReader

__all__ = ["read_caffemodel"]

# Field numbers of caffe.proto: of a layer in the file, of its name and its blobs.
_LAYER_FIELDS: Final = {100: (1, 7), 2: (4, 6)}
# What layers of 2013 have in the place of their contents.
_V0_LAYER: Final = (2, 1)
_SHAPE: Final = 7
_LEGACY_SHAPE: Final = (1, 2, 3, 4)
_DIM: Final = 1
_MAX_DIMENSIONS: Final = 32
# Field number: dtype, wire type of a number that is not packed.
_DATA: Final = {5: ("<f4", FIXED32), 8: ("<f8", FIXED64)}
# Of NVIDIA's Caffe: the type of the numbers, and their bytes.
_RAW_TYPE: Final = 10
_RAW: Final = 12
_RAW_DTYPES: Final = {0: "<f8", 1: "<f4", 2: "<f2"}


def read_caffemodel(path: str | os.PathLike[str]) -> dict[str, Array]:
    """The blobs of a Caffe model as arrays `<layer>|<blob>`, such as `conv1_1|0`.

    Layers of the present format and of the one before (V1) are read, float and double
    data, that of NVIDIA's Caffe also in halves, shapes of today and the four numbers of
    old; layers without blobs have no arrays. Nothing of the network is read but names
    and blobs.

    Args:
        path: file of a binary `NetParameter`.

    Returns:
        float32 or float64 arrays, halves as float16, in Caffe's layouts and the order
        of the file.

    Raises:
        ValueError: if the file is absent, larger than 4 GiB, damaged, something else,
            or without a blob; one sentence that names it.

    References:
        `caffe.proto` of the official code and of NVIDIA's.
    """
    path = Path(path)
    data = read_file(path)
    arrays: dict[str, Array] = {}
    try:
        for layer, blobs in _layers(data):
            for index, blob in enumerate(blobs):
                if f"{layer}|{index}" in arrays:
                    raise ValueError(f"there are two layers {layer!r}")
                arrays[f"{layer}|{index}"] = blob
    except ValueError as error:
        raise ValueError(f"{path} is not a readable .caffemodel: {error}") from None
    if not arrays:
        raise ValueError(f"{path} is not a .caffemodel with weights: it has no blob")
    return arrays


def _layers(net: memoryview) -> list[tuple[str, list[Array]]]:
    reader = WireReader()
    layers = []
    for number, wire_type, layer in reader.fields(net):
        if number not in _LAYER_FIELDS or wire_type != BYTES:
            continue
        assert isinstance(layer, memoryview)
        name_field, blobs_field = _LAYER_FIELDS[number]
        name, blobs = "", []
        for field, _, value in reader.fields(layer):
            if not isinstance(value, memoryview):
                continue
            if (number, field) == _V0_LAYER:
                raise ValueError(
                    "its layers are in the format of 2013; upgrade_net_proto_binary of"
                    " Caffe converts them"
                )
            if field == name_field:
                # Invalid UTF-8 is a ValueError.
                name = str(value, "utf-8")
            elif field == blobs_field:
                blobs.append(value)
        layers.append((name, [_blob(reader, name, blob) for blob in blobs]))
    return layers


def _blob(reader: WireReader, layer: str, blob: memoryview) -> Array:
    legacy: dict[int, int] = {}
    shape: list[int] | None = None
    raw_type = 0
    parts: dict[int, list[memoryview]] = {number: [] for number in (*_DATA, _RAW)}
    for number, wire_type, value in reader.fields(blob):
        if number in _LEGACY_SHAPE and isinstance(value, int):
            legacy[number] = value
        elif number == _RAW_TYPE and isinstance(value, int):
            raw_type = value
        elif isinstance(value, memoryview):
            if number == _SHAPE:
                shape = _dimensions(reader, value)
            elif number in _DATA and wire_type in (BYTES, _DATA[number][1]):
                parts[number].append(value)
            elif number == _RAW and wire_type == BYTES:
                parts[number] = [value]  # no list: the last one counts
    if shape is None:
        shape = [legacy.get(number, 1) for number in _LEGACY_SHAPE]
    dtypes = {number: dtype for number, (dtype, _) in _DATA.items()}
    if parts[_RAW]:
        if raw_type not in _RAW_DTYPES:
            raise ValueError(f"layer {layer!r} has numbers of type {raw_type}")
        dtypes[_RAW] = _RAW_DTYPES[raw_type]
    arrays = [
        np.frombuffer(b"".join(parts[number]), np.dtype(dtype))
        for number, dtype in dtypes.items()
        if parts[number]
    ]
    data = arrays[0] if arrays else np.zeros(0, np.float32)
    if len(arrays) > 1 or math.prod(shape) != data.size:
        count = sum(array.size for array in arrays)
        raise ValueError(
            f"a blob of layer {layer!r} has the shape {shape} and {count} numbers"
        )
    return data.reshape(shape)


def _dimensions(reader: WireReader, message: memoryview) -> list[int]:
    shape: list[int] = []
    for number, _, value in reader.fields(message):
        if number == _DIM:
            shape += [value] if isinstance(value, int) else reader.varints(value)
        if len(shape) > _MAX_DIMENSIONS:
            raise ValueError(f"a blob has more than {_MAX_DIMENSIONS} dimensions")
    return shape
