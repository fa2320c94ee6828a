# SPDX-License-Identifier: Apache-2.0
"""FlatBuffers, read field by field without generated code, every offset checked."""

from __future__ import annotations

import struct
from typing import Any, Final

import numpy as np

from ssdops.models.weights.arrays import Array

_OFFSET: Final = "<I"
_VTABLE_HEAD: Final = 4
_MAX_TEXT: Final = 4096
# No model has as many tensors; a file of more would keep the reader busy for long.
_MAX_TABLES: Final = 1_000_000


def root_table(buffer: memoryview) -> Table:
    """The table that a file begins with.

    Raises:
        ValueError: if there is none.
    """
    return Table(buffer, _unpack(_OFFSET, buffer, 0))


class Table:
    """A table of a FlatBuffer; fields are counted from 0, as in its schema.

    Args:
        buffer: the whole file.
        position: of the table.

    Raises, from every method:
        ValueError: if something does not lie inside the file.
    """

    def __init__(self, buffer: memoryview, position: int) -> None:
        self._buffer = buffer
        self._position = position
        self._vtable = position - _unpack("<i", buffer, position)
        self._vtable_size = _unpack("<H", buffer, self._vtable)

    def number(self, field: int, layout: str, default: int = 0) -> int:
        """A number in one of the layouts of `struct`, or its default."""
        position = self._place(field)
        return default if position is None else _unpack(layout, self._buffer, position)

    def numbers(self, field: int, dtype: str) -> Array:
        """A vector of numbers, which is not copied; empty if the field is absent."""
        item = np.dtype(dtype)
        start, count = self._vector(field, item.itemsize)
        return np.frombuffer(self._buffer, item, count, start)

    def text(self, field: int) -> str:
        """A text of up to 4096 bytes; empty if the field is absent."""
        start, size = self._vector(field, 1)
        if size > _MAX_TEXT:
            raise ValueError(f"a text has {size} bytes")
        return str(self._buffer[start : start + size], "utf-8")

    def table(self, field: int) -> Table | None:
        """Another table, or None."""
        position = self._place(field)
        return None if position is None else self._table_at(position)

    def tables(self, field: int) -> list[Table]:
        """A vector of tables; empty if the field is absent."""
        start, count = self._vector(field, 4)
        if count > _MAX_TABLES:
            raise ValueError(f"it has {count} tables in a row")
        return [self._table_at(start + 4 * index) for index in range(count)]

    def has(self, field: int) -> bool:
        """Whether the field is there."""
        return self._place(field) is not None

    def _place(self, field: int) -> int | None:
        entry = _VTABLE_HEAD + 2 * field
        if entry + 2 > self._vtable_size:
            return None
        offset = _unpack("<H", self._buffer, self._vtable + entry)
        return self._position + offset if offset else None

    def _table_at(self, position: int) -> Table:
        return Table(self._buffer, position + _unpack(_OFFSET, self._buffer, position))

    def _vector(self, field: int, item_size: int) -> tuple[int, int]:
        """Where its first item is, and how many there are."""
        position = self._place(field)
        if position is None:
            return 0, 0
        position += _unpack(_OFFSET, self._buffer, position)
        count = _unpack(_OFFSET, self._buffer, position)
        if position + 4 + count * item_size > len(self._buffer):
            raise ValueError(
                f"a vector at byte {position} claims {count} items of {item_size} bytes"
                f", the file has {len(self._buffer)} bytes"
            )
        return position + 4, count


def _unpack(layout: str, buffer: memoryview, position: int) -> Any:
    # Python would count negative positions from the end.
    if position < 0 or position + struct.calcsize(layout) > len(buffer):
        raise ValueError(
            f"it points to byte {position}, the file has {len(buffer)} bytes"
        )
    return struct.unpack_from(layout, buffer, position)[0]
