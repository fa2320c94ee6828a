# SPDX-License-Identifier: Apache-2.0
"""Reading of PyTorch's `.pth` files, without PyTorch and without running their code.

Such a file is a zip archive of the numbers and of a pickle that says which tensors they
are; before PyTorch 1.6 it was a row of pickles with the numbers behind them. A pickle
can call any function; here it can name the few that make tensors, and they are replaced
by ours.
"""

from __future__ import annotations

import io
import math
import os
import pickle
import struct
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np

from ssdops.models.weights.arrays import (
    MAX_WEIGHTS_BYTES,
    Array,
    numbers_from_bytes,
    read_file,
)

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
_STORAGES: Final = {
    "FloatStorage": "<f4",
    "DoubleStorage": "<f8",
    "HalfStorage": "<f2",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "?",
}
# What names something in a dictionary.
_KEYS: Final = (str, int, float, bool, bytes, type(None))
# Where programs keep the weights among other things.
_WEIGHT_KEYS: Final = ("state_dict", "model", "model_state_dict")


@dataclass(frozen=True)
class _StorageType:
    """What a pickle names as the type of a storage."""

    dtype: str


class _Tensor:
    """What a pickle makes instead of a tensor: a place in the archive."""

    def __init__(self, storage: Any, offset: Any, size: Any, stride: Any) -> None:
        if not isinstance(storage, _Storage):
            raise pickle.UnpicklingError("a tensor has no storage")
        self.storage, self.offset, self.size, self.stride = (
            storage,
            offset,
            size,
            stride,
        )


@dataclass(frozen=True)
class _Storage:
    """Numbers in the archive."""

    key: str
    dtype: str


class _Dict(dict[Any, Any]):
    """What a pickle gets as an ordered dictionary: its attributes are left out."""

    def __setstate__(self, state: Any) -> None:
        """Forgets them."""


# A pickle can repeat a call with a large argument as often as it has bytes. So none of
# these takes more arguments than it needs or looks at each item of one.
def _new_dict() -> _Dict:
    return _Dict()


def _new_counter(counts: Any = None) -> _Dict:
    return _Dict()


def _rebuild_tensor(
    storage: Any,
    offset: Any,
    size: Any,
    stride: Any,
    requires_grad: Any = None,
    backward_hooks: Any = None,
    metadata: Any = None,
) -> _Tensor:
    return _Tensor(storage, offset, size, stride)


def _rebuild_parameter(data: Any, requires_grad: Any, backward_hooks: Any) -> Any:
    return data


_ALLOWED: Final = {
    ("collections", "OrderedDict"): _new_dict,
    # Of the state of a learning rate schedule.
    ("collections", "Counter"): _new_counter,
    ("torch._utils", "_rebuild_tensor"): _rebuild_tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    ("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
    **{("torch", name): _StorageType(dtype) for name, dtype in _STORAGES.items()},
}


# The one that is written in Python: its memory of what was unpickled grows with what it
# holds, that of the other with a number in the file.
_PythonUnpickler: Any = pickle._Unpickler
_OPERATIONS: Final = (
    *("PROTO", "FRAME", "STOP", "MARK", "GLOBAL", "STACK_GLOBAL", "REDUCE", "BUILD"),
    *("BINPERSID", "PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE", "GET", "BINGET"),
    *("LONG_BINGET", "NONE", "NEWTRUE", "NEWFALSE", "INT", "BININT", "BININT1"),
    *("BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT", "STRING", "BINSTRING"),
    *("SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "UNICODE", "BINUNICODE"),
    *("SHORT_BINUNICODE", "EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"),
    *("EMPTY_LIST", "LIST", "APPEND", "APPENDS"),
    *("EMPTY_DICT", "DICT", "SETITEM", "SETITEMS"),
)


class _Operations(dict[int, Any]):
    """Methods of an unpickler by the code of what they do."""

    def __missing__(self, code: int) -> Any:
        raise pickle.UnpicklingError(
            f"it has the operation {code}, which weights do not need"
        )


class _Unpickler(_PythonUnpickler):  # type: ignore[misc]
    """Knows tensors, dictionaries and plain values, and nothing else.

    Attributes:
        dtypes: Of all storages by their keys.
    """

    dispatch: ClassVar = _Operations(
        (code, _PythonUnpickler.dispatch[code])
        for (code,) in (getattr(pickle, name) for name in _OPERATIONS)
    )

    def __init__(self, file: Any) -> None:
        super().__init__(file)
        self.dtypes: dict[str, str] = {}

    def load_setitem(self) -> None:
        _check_keys(self.stack[-2:-1])
        super().load_setitem()

    def load_setitems(self) -> None:
        _check_keys(self.stack[::2])
        super().load_setitems()

    def load_dict(self) -> None:
        _check_keys(self.stack[::2])
        super().load_dict()

    def load_build(self) -> None:
        # Anything else that it could change is ours.
        if not isinstance(self.stack[-2], _Dict):
            raise pickle.UnpicklingError("it gives attributes to what has none")
        super().load_build()

    dispatch[pickle.SETITEM[0]] = load_setitem
    dispatch[pickle.SETITEMS[0]] = load_setitems
    dispatch[pickle.DICT[0]] = load_dict
    dispatch[pickle.BUILD[0]] = load_build

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(
                f"it asks for {module}.{name}, which weights do not need"
            )
        return _ALLOWED[module, name]

    def persistent_load(self, pid: Any) -> Any:
        if not (
            isinstance(pid, tuple)
            # Of old files, a sixth says whether it is a part of another.
            and len(pid) in (5, 6)
            and pid[5:] in ((), (None,))
            and pid[0] == "storage"
            and isinstance(pid[1], _StorageType)
            and isinstance(pid[2], str)
        ):
            raise pickle.UnpicklingError("it refers to something that is no storage")
        self.dtypes[pid[2]] = pid[1].dtype
        return _Storage(pid[2], pid[1].dtype)


def _check_keys(keys: list[Any]) -> None:
    """Refuses what may take for ever to hash, as tuples of tuples of tuples do."""
    for key in keys:
        if type(key) not in _KEYS:
            raise pickle.UnpicklingError(f"a {type(key).__name__} is no name")


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
    content = _Unpickler(io.BytesIO(archive.read(names[0]))).load()
    return _arrays(content, lambda key: archive.read(f"{folder}data/{key}"), total)


class _PickleBytes:
    """The beginning of a file, as far as it may be pickles."""

    def __init__(self, data: memoryview) -> None:
        self._file = io.BytesIO(data[:_MAX_PICKLE_BYTES])

    def read(self, size: int) -> bytes:
        return self._file.read(size)

    def readline(self) -> bytes:
        return self._file.readline()

    def tell(self) -> int:
        return self._file.tell()


def _of_pickles(data: memoryview) -> dict[str, Array]:
    # It must not have more methods than these, so that nothing is read ahead.
    file: Any = _PickleBytes(data)
    try:
        magic = _Unpickler(file).load()
    except Exception:
        magic = None
    if magic != _MAGIC:
        raise ValueError("it is neither a zip archive nor what came before")
    version, system = _Unpickler(file).load(), _Unpickler(file).load()
    if version != _VERSION:
        # What else it is may be too long to print.
        found = version if type(version) is int else f"of a {type(version).__name__}"
        raise ValueError(f"it has the version {found}, {_VERSION} is known")
    if not isinstance(system, Mapping) or system.get("little_endian") is not True:
        raise ValueError("its numbers are big-endian")
    unpickler = _Unpickler(file)
    content = unpickler.load()
    keys = _Unpickler(file).load()
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
    storages: dict[_Storage, Array] = {}
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


def _state(content: Any) -> dict[str, _Tensor]:
    """The tensors of a state dict, wherever it is."""
    if not isinstance(content, Mapping):
        return {}
    found = {
        name: value
        for name, value in content.items()
        if isinstance(name, str) and isinstance(value, _Tensor)
    }
    for key in () if found else _WEIGHT_KEYS:
        found = found or _state_inside(content.get(key))
    return found


def _state_inside(content: Any) -> dict[str, _Tensor]:
    if not isinstance(content, Mapping):
        return {}
    return {k: v for k, v in content.items() if isinstance(v, _Tensor)}


def _array(name: str, tensor: _Tensor, numbers: Array) -> Array:
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
