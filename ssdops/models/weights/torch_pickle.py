# SPDX-License-Identifier: Apache-2.0
"""The pickles of PyTorch's files, of which nothing is executed.

A pickle can call any function; here it can name the few that make tensors, and they are
replaced by ours. It can also ask for work or memory without end: operations that do are
not known.
"""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from typing import Any, ClassVar, Final

__all__ = ["Storage", "Tensor", "Unpickler"]

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


@dataclass(frozen=True)
class _StorageType:
    """What a pickle names as the type of a storage."""

    dtype: str


class Tensor:
    """What a pickle makes instead of a tensor: a place in the archive."""

    def __init__(self, storage: Any, offset: Any, size: Any, stride: Any) -> None:
        if not isinstance(storage, Storage):
            raise pickle.UnpicklingError("a tensor has no storage")
        self.storage, self.offset, self.size, self.stride = (
            storage,
            offset,
            size,
            stride,
        )


@dataclass(frozen=True)
class Storage:
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
) -> Tensor:
    return Tensor(storage, offset, size, stride)


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


class Unpickler(_PythonUnpickler):  # type: ignore[misc]
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
        """Puts an item into a dictionary."""
        _check_keys(self.stack[-2:-1])
        super().load_setitem()

    def load_setitems(self) -> None:
        """Puts several."""
        _check_keys(self.stack[::2])
        super().load_setitems()

    def load_dict(self) -> None:
        """Makes a dictionary."""
        _check_keys(self.stack[::2])
        super().load_dict()

    def load_build(self) -> None:
        """Gives attributes to a dictionary, which forgets them."""
        # Anything else that it could change is ours.
        if not isinstance(self.stack[-2], _Dict):
            raise pickle.UnpicklingError("it gives attributes to what has none")
        super().load_build()

    dispatch[pickle.SETITEM[0]] = load_setitem
    dispatch[pickle.SETITEMS[0]] = load_setitems
    dispatch[pickle.DICT[0]] = load_dict
    dispatch[pickle.BUILD[0]] = load_build

    def find_class(self, module: str, name: str) -> Any:
        """Returns ours for one of the few names that make tensors."""
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(
                f"it asks for {module}.{name}, which weights do not need"
            )
        return _ALLOWED[module, name]

    def persistent_load(self, pid: Any) -> Any:
        """Returns a storage."""
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
        return Storage(pid[2], pid[1].dtype)


def _check_keys(keys: list[Any]) -> None:
    """Refuses what may take for ever to hash, as tuples of tuples of tuples do."""
    for key in keys:
        if type(key) not in _KEYS:
            raise pickle.UnpicklingError(f"a {type(key).__name__} is no name")
