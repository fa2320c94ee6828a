# SPDX-License-Identifier: Apache-2.0
"""Reading and writing of `.safetensors` files, which hold named arrays and a text."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import safetensors
import safetensors.numpy

from ssdops.files import write_atomically
from ssdops.models.weights.arrays import Array, numbers_from_bytes, read_file

__all__ = ["read_safetensors", "read_safetensors_metadata", "write_safetensors"]

_DTYPES: Final = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "BF16": "bfloat16",
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "i1",
    "U64": "<u8",
    "U32": "<u4",
    "U16": "<u2",
    "U8": "u1",
    "BOOL": "?",
}
_HEADER_SIZE_BYTES: Final = 8
_METADATA: Final = "__metadata__"


def read_safetensors(path: str | os.PathLike[str]) -> dict[str, Array]:
    """The arrays of a `.safetensors` file by name; bfloat16 ones become float32.

    Args:
        path: File.

    Raises:
        ValueError: If the file is absent, larger than 4 GiB, damaged or something
            else, or has numbers of fewer than 8 bits or complex ones; one sentence that
            names it.
    """
    path = Path(path)
    arrays = {}
    for name, tensor in _deserialized(path, bytes(read_file(path))):
        if tensor["dtype"] not in _DTYPES:
            raise ValueError(
                f"{path}: tensor {name} has dtype {tensor['dtype']}; known are "
                f"{', '.join(_DTYPES)}"
            )
        flat = numbers_from_bytes(tensor["data"], _DTYPES[tensor["dtype"]])
        arrays[name] = flat.reshape(tensor["shape"])
    return arrays


def read_safetensors_metadata(path: str | os.PathLike[str]) -> dict[str, str]:
    """The texts by name that a `.safetensors` file has beside its arrays.

    Raises:
        ValueError: As for `read_safetensors`.
    """
    path = Path(path)
    data = bytes(read_file(path))
    _deserialized(path, data)  # what is no such file is refused here
    size = int.from_bytes(data[:_HEADER_SIZE_BYTES], "little")
    header = json.loads(data[_HEADER_SIZE_BYTES : _HEADER_SIZE_BYTES + size])
    return dict(header.get(_METADATA) or {})


def write_safetensors(
    path: str | os.PathLike[str],
    arrays: Mapping[str, Array],
    metadata: Mapping[str, str],
) -> None:
    """Writes arrays and texts by name, complete or not at all.

    Args:
        path: File; folders above it are made, an old file is replaced.
        arrays: Of numbers.
        metadata: Texts.

    Raises:
        OSError: If the place cannot be written.
    """
    contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    data = safetensors.numpy.save(contiguous, metadata=dict(metadata))
    # Not by the library, which would let nobody else read the file.
    write_atomically(Path(path), lambda partial: partial.write_bytes(data))


def _deserialized(path: Path, data: bytes) -> list[tuple[str, dict[str, Any]]]:
    try:
        return list(safetensors.deserialize(data))  # type: ignore[no-untyped-call]
    except safetensors.SafetensorError as error:
        reason = " ".join(str(error).split())
        raise ValueError(
            f"{path} is not a readable .safetensors file: {reason[:200]}"
        ) from None
