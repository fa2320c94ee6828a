# SPDX-License-Identifier: Apache-2.0
"""Reading of PyTorch's `.pth` files, without PyTorch and without running their code.

Such a file is a zip archive of the numbers and of a pickle that says which tensors they
are; before PyTorch 1.6 it was a row of pickles with the numbers behind them.
"""

from __future__ import annotations

import io
import math
import os
import struct
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from ssdops.models.weights.arrays import (
    MAX_WEIGHTS_BYTES,
    Array,
    numbers_from_bytes,
    read_file,
)
from ssdops.models.weights.torch_pickle import Storage, Tensor, Unpickler

__all__ = ["read_torch"]

_ARCHIVE: Final = b"PK"
_PICKLE: Final = "data.pkl"
# The numbers are elsewhere: a pickle of tensor names is small.
_MAX_PICKLE_BYTES: Final = 16 * 2**20
_MAX_DIMENSIONS: Final = 32
_MAX_INDEX: Final = 2**63
# What files from before PyTorch 1.6 begin with, pickled.
_MAGIC: Final = 0x1950A86A20F9469CFC6C
_VERSION: Final = 1001
_COUNT: Final = "<q"
# Where programs keep the weights among other things.
_WEIGHT_KEYS: Final = ("state_dict", "model", "model_state_dict")


def read_torch(path: str | os.PathLike[str]) -> dict[str, Array]:
    """The tensors of a file that `torch.save` wrote, by name.

    A state dict, or one under `state_dict`, `model` or `model_state_dict` of a
    checkpoint. Nothing in the file is executed: a pickle that names anything but
    tensors and dictionaries is refused, so that checkpoints which hold other objects
    have to be saved anew without them. Files from before PyTorch 1.6 are read, too.

    Args:
        path: file, `.pth` or `.pt`.

    Returns:
        Arrays of their dtypes, bfloat16 as float32, in the order of the file.

    Raises:
        ValueError: if the file is absent, unpacks to more than 4 GiB, is damaged,
            something else, or without tensors; one sentence that names it.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"weights file {path} does not exist")
    try:
        if _begins_with(path, _ARCHIVE):
            with zipfile.ZipFile(path) as archive:
                arrays = _of_archive(archive)
        else:
            arrays = _of_pickles(read_file(path))
    # A hostile pickle can raise nearly anything out of the unpickler.
    except Exception as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ValueError(f"{path} is not a readable .pth file: {reason}") from None
    if not arrays:
        raise ValueError(f"{path} has no tensors by name")
    return arrays


def _begins_with(path: Path, start: bytes) -> bool:
    with path.open("rb") as file:
        return file.read(len(start)) == start


def _of_archive(archive: zipfile.ZipFile) -> dict[str, Array]:
    members = {member.filename: member for member in archive.infolist()}
    total = sum(member.file_size for member in members.values())
    if total > MAX_WEIGHTS_BYTES:
        raise ValueError(
            f"it unpacks to {total} bytes, more than the {MAX_WEIGHTS_BYTES} bytes that"
            " weights may have"
        )
    names = [name for name in members if name.split("/")[1:] == [_PICKLE]]
    if len(names) != 1:
        raise ValueError(f"it holds {len(names)} files {_PICKLE}")
    if members[names[0]].file_size > _MAX_PICKLE_BYTES:
        raise ValueError(f"its {_PICKLE} is larger than {_MAX_PICKLE_BYTES} bytes")
    folder = names[0].removesuffix(_PICKLE)
    if (
        f"{folder}byteorder" in members
        and archive.read(f"{folder}byteorder") != b"little"
    ):
        raise ValueError("its numbers are big-endian")
    content = Unpickler(io.BytesIO(archive.read(names[0]))).load()
    return _arrays(content, lambda key: archive.read(f"{folder}data/{key}"), total)


def _of_pickles(data: memoryview) -> dict[str, Array]:
    file = io.BytesIO(data[:_MAX_PICKLE_BYTES])
    try:
        magic = Unpickler(file).load()
    except Exception:
        magic = None
    if magic != _MAGIC:
        raise ValueError("it is neither a zip archive nor what came before")
    version, system = Unpickler(file).load(), Unpickler(file).load()
    if version != _VERSION:
        # What else it is may be too long to print.
        found = version if type(version) is int else f"of a {type(version).__name__}"
        raise ValueError(f"it has the version {found}, {_VERSION} is known")
    if not isinstance(system, Mapping) or system.get("little_endian") is not True:
        raise ValueError("its numbers are big-endian")
    unpickler = Unpickler(file)
    content = unpickler.load()
    keys = Unpickler(file).load()
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise ValueError("it does not list its numbers")
    position = file.tell()
    stored: dict[str, memoryview] = {}
    for key in keys:
        if key not in unpickler.dtypes or key in stored:
            raise ValueError(f"it has numbers {key!r} of no tensor, or twice")
        if position + struct.calcsize(_COUNT) > len(data):
            raise ValueError(f"it ends before the numbers {key!r}")
        (count,) = struct.unpack_from(_COUNT, data, position)
        position += struct.calcsize(_COUNT)
        size = count * _item_size(unpickler.dtypes[key])
        if not 0 <= size <= len(data) - position:
            raise ValueError(
                f"numbers {key!r} claim {size} bytes, there are {len(data) - position}"
            )
        stored[key] = data[position : position + size]
        position += size
    return _arrays(content, stored.__getitem__, len(data))


def _item_size(dtype: str) -> int:
    return 2 if dtype == "bfloat16" else np.dtype(dtype).itemsize


def _arrays(
    content: Any, stored: Callable[[str], bytes | memoryview], total: int
) -> dict[str, Array]:
    """The tensors of an unpickled file.

    Args:
        content: What was pickled.
        stored: Key of a storage -> its bytes.
        total: Bytes of the file.
    """
    storages: dict[Storage, Array] = {}
    arrays: dict[str, Array] = {}
    left = 4 * total
    for name, tensor in _state(content).items():
        storage = tensor.storage
        if storage not in storages:
            raw = stored(storage.key)
            storages[storage] = numbers_from_bytes(raw, storage.dtype)
        array = _array(str(name), tensor, storages[storage])
        # Tensors may share numbers, but a file of them must stay about as large.
        left -= array.nbytes
        if left < 0:
            raise ValueError("its tensors are larger than its numbers")
        arrays[str(name)] = array
    return arrays


def _state(content: Any) -> dict[str, Tensor]:
    """The tensors of a state dict, wherever it is."""
    if not isinstance(content, Mapping):
        return {}
    found = {
        name: value
        for name, value in content.items()
        if isinstance(name, str) and isinstance(value, Tensor)
    }
    for key in () if found else _WEIGHT_KEYS:
        found = found or _state_inside(content.get(key))
    return found


def _state_inside(content: Any) -> dict[str, Tensor]:
    if not isinstance(content, Mapping):
        return {}
    return {k: v for k, v in content.items() if isinstance(v, Tensor)}


def _array(name: str, tensor: Tensor, numbers: Array) -> Array:
    size, stride = tensor.size, tensor.stride
    for values in (size, stride, (tensor.offset,)):
        if (
            not isinstance(values, tuple)
            or len(values) > _MAX_DIMENSIONS
            or not all(
                type(value) is int and 0 <= value < _MAX_INDEX for value in values
            )
        ):
            raise ValueError(f"tensor {name} has no size, stride and offset")
    if len(size) != len(stride):
        raise ValueError(f"tensor {name} has {len(size)} sizes, {len(stride)} strides")
    count = math.prod(size)
    last = tensor.offset + sum(
        (n - 1) * step for n, step in zip(size, stride, strict=True)
    )
    if count and (last >= numbers.size or count > numbers.size):
        raise ValueError(
            f"tensor {name} of shape {list(size)} does not fit its {numbers.size}"
            " numbers"
        )
    if not count:
        return np.zeros(size, numbers.dtype)
    view = np.lib.stride_tricks.as_strided(
        numbers[tensor.offset :],
        size,
        [step * numbers.itemsize for step in stride],
        writeable=False,
    )
    return np.ascontiguousarray(view)
