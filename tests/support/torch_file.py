# SPDX-License-Identifier: Apache-2.0
"""Writes files as `torch.save` does, without PyTorch."""

from __future__ import annotations

import io
import pickle
import struct
import sys
import types
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

_STORAGE_NAMES = {
    "float32": "FloatStorage",
    "float64": "DoubleStorage",
    "float16": "HalfStorage",
    "int64": "LongStorage",
    "uint8": "ByteStorage",
    "bool": "BoolStorage",
    "bfloat16": "BFloat16Storage",
}


class FakeTensor:
    """A tensor to be: its numbers, and where it looks at them."""

    def __init__(self, value: Any, *, size: Any = None, stride: Any = None) -> None:
        self.numbers = np.ascontiguousarray(value)
        self.size = self.numbers.shape if size is None else size
        steps = [step // self.numbers.itemsize for step in self.numbers.strides]
        self.stride = tuple(steps) if stride is None else stride
        self.offset: Any = 0
        self.key: str | None = None


@contextmanager
def torch_modules() -> Iterator[types.ModuleType]:
    """Modules that a pickle can name, for as long as it is written."""
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
    for name in _STORAGE_NAMES.values():
        kind = type(name, (), {"__module__": "torch"})
        setattr(torch, name, kind)

    def _rebuild_tensor_v2() -> None: ...

    def _rebuild_parameter() -> None: ...

    for function in (_rebuild_tensor_v2, _rebuild_parameter):
        function.__module__, function.__qualname__ = utils.__name__, function.__name__
        setattr(utils, function.__name__, function)
    torch._utils = utils  # type: ignore[attr-defined]
    kept = {name: sys.modules.get(name) for name in ("torch", "torch._utils")}
    sys.modules.update({"torch": torch, "torch._utils": utils})
    try:
        yield torch
    finally:
        for name, module in kept.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module


def write_torch(path: Path, content: Any, *, old: bool = False) -> Path:
    """Writes `content`, in which a `FakeTensor` stands for a tensor.

    As an archive, or as before PyTorch 1.6.
    """
    data, storages = pickled(content, old)
    if old:
        return write_pickles(path, data, storages)
    return write_archive(
        path, data, {key: numbers.tobytes() for key, numbers in storages.items()}
    )


def pickled(content: Any, old: bool) -> tuple[bytes, dict[str, Any]]:
    """The pickle of `content`, and the numbers of its storages by key."""
    storages: dict[str, Any] = {}
    buffer = io.BytesIO()
    with torch_modules() as torch:

        class Pickler(pickle.Pickler):
            def persistent_id(self, thing: Any) -> Any:
                if not isinstance(thing, tuple) or thing[:1] != ("a storage",):
                    return None
                _, key, numbers = thing
                kind = getattr(torch, _STORAGE_NAMES[numbers.dtype.name])
                view = (None,) if old else ()
                return ("storage", kind, key, "cpu", numbers.size, *view)

            def reducer_override(self, thing: Any) -> Any:
                if not isinstance(thing, FakeTensor):
                    return NotImplemented
                key = str(len(storages)) if thing.key is None else thing.key
                storages[key] = thing.numbers
                storage = ("a storage", key, thing.numbers)
                arguments = (
                    *(storage, thing.offset, thing.size, thing.stride),
                    *(False, OrderedDict()),
                )
                return torch._utils._rebuild_tensor_v2, arguments

        Pickler(buffer, protocol=2).dump(content)
    return buffer.getvalue(), storages


MAGIC = 0x1950A86A20F9469CFC6C
SYSTEM = {
    "protocol_version": 1001,
    "little_endian": True,
    "type_sizes": {"short": 2, "int": 4, "long": 4},
}


def write_pickles(
    path: Path,
    content: bytes,
    storages: dict[str, Any],
    *,
    version: Any = 1001,
    system: Any = SYSTEM,
    keys: Any = None,
    count: int | None = None,
) -> Path:
    """The pickles around that of the content, and the numbers of each storage.

    `count` is what is claimed of each, if not the truth.
    """
    head = [pickle.dumps(value, protocol=2) for value in (MAGIC, version, system)]
    listed = list(storages) if keys is None else keys
    numbers = [
        struct.pack("<q", value.size if count is None else count) + value.tobytes()
        for value in storages.values()
    ]
    parts = [*head, content, pickle.dumps(listed, protocol=2), *numbers]
    path.write_bytes(b"".join(parts))
    return path


def write_archive(
    path: Path, content: bytes, storages: dict[str, bytes], order: str = "little"
) -> Path:
    """The zip archive around a pickle and the bytes of its storages."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("net/data.pkl", content)
        archive.writestr("net/byteorder", order)
        for key, numbers in storages.items():
            archive.writestr(f"net/data/{key}", numbers)
        archive.writestr("net/version", "3\n")
    return path
