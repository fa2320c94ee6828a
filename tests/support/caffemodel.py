# SPDX-License-Identifier: Apache-2.0
"""Writes files of Caffe's weights, in each of the ways that there were."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

VERSIONS = ("new", "v1", "legacy shape", "double", "unpacked", "raw", "raw halves")


def varint(number: int) -> bytes:
    parts = []
    while True:
        number, low = number >> 7, number & 127
        parts.append(low | (128 if number else 0))
        if not number:
            return bytes(parts)


def field(number: int, value: int | bytes) -> bytes:
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def blob(value: Any, version: str = "new") -> bytes:
    array = np.asarray(value)
    if version == "legacy shape":
        shape = (1,) * (4 - array.ndim) + array.shape
        head = b"".join(field(1 + i, size) for i, size in enumerate(shape))
    elif version == "unpacked":
        head = field(7, b"".join(field(1, size) for size in array.shape))
    else:
        head = field(7, field(1, b"".join(varint(size) for size in array.shape)))
    if version == "double":
        return head + field(8, array.astype("<f8").tobytes())
    if version == "unpacked":
        numbers = array.astype("<f4").reshape(-1)
        return head + b"".join(
            varint(5 << 3 | 5) + struct.pack("<f", number) for number in numbers
        )
    if version == "raw":
        return head + field(10, 1) + field(12, array.astype("<f4").tobytes())
    if version == "raw halves":
        return head + field(12, array.astype("<f2").tobytes()) + field(10, 2)
    # In two parts, which a reader has to join.
    data = array.astype("<f4").tobytes()
    middle = len(data) // 8 * 4
    return head + field(5, data[:middle]) + field(5, data[middle:])


def caffemodel(blobs: Mapping[str, Sequence[Any]], version: str = "new") -> bytes:
    """A file with a layer for each name; "v1" is the format before the present one."""
    layer_field, name_field, blob_field = (2, 4, 6) if version == "v1" else (100, 1, 7)
    parts = [field(1, b"a net")]
    for name, values in blobs.items():
        body = field(name_field, name.encode())
        body += field(5, 4) if version == "v1" else field(2, b"Convolution")
        for value in values:
            body += field(blob_field, blob(value, version))
        parts.append(field(layer_field, body))
    return b"".join(parts)
