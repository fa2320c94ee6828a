# SPDX-License-Identifier: Apache-2.0
"""Messages of Protocol Buffers, read field by field without their description.

Weights come in files of other programs' messages; this reads what is needed of them and
needs neither those programs nor generated code.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

VARINT: Final = 0
FIXED64: Final = 1
BYTES: Final = 2
FIXED32: Final = 5

_SIZES: Final = {FIXED64: 8, FIXED32: 4}
_VARINT_BYTES: Final = 10
# Weights are in few, large fields: a file of more would keep the reader busy for hours.
_MAX_FIELDS: Final = 2_000_000


class WireReader:
    """Reads the messages of one file.

    Raises, from every method:
        ValueError: for what is no message, or a file of absurdly many fields.
    """

    def __init__(self) -> None:
        self._fields_left = _MAX_FIELDS

    def fields(
        self, message: memoryview
    ) -> Iterator[tuple[int, int, int | memoryview]]:
        """The fields of a message, in their order.

        Yields:
            Number, wire type and value of each: an int from 0 for `VARINT`, else the
            bytes, which are part of `message`.
        """
        position = 0
        while position < len(message):
            self._count()
            tag, position = self._varint(message, position)
            number, wire_type = tag >> 3, tag & 7
            if number == 0:
                raise ValueError("a field has the number 0")
            if wire_type == VARINT:
                value, position = self._varint(message, position)
                yield number, wire_type, value
                continue
            if wire_type == BYTES:
                size, position = self._varint(message, position)
            elif wire_type in _SIZES:
                size = _SIZES[wire_type]
            else:
                raise ValueError(f"field {number} has the wire type {wire_type}")
            if size > len(message) - position:
                raise ValueError(
                    f"field {number} claims {size} bytes, there are"
                    f" {len(message) - position}"
                )
            yield number, wire_type, message[position : position + size]
            position += size

    def varints(self, packed: memoryview) -> Iterator[int]:
        """The numbers of a packed repeated field."""
        position = 0
        while position < len(packed):
            self._count()
            value, position = self._varint(packed, position)
            yield value

    def _count(self) -> None:
        self._fields_left -= 1
        if self._fields_left < 0:
            raise ValueError(f"it has more than {_MAX_FIELDS} fields")

    def _varint(self, message: memoryview, position: int) -> tuple[int, int]:
        """A number, and the position behind it."""
        value = 0
        for index in range(_VARINT_BYTES):
            if position + index >= len(message):
                raise ValueError("it ends inside a number")
            byte = message[position + index]
            value |= (byte & 127) << (7 * index)
            if byte < 128:
                return value, position + index + 1
        raise ValueError(f"a number has more than {_VARINT_BYTES} bytes")
