# SPDX-License-Identifier: Apache-2.0
"""Checks of the values that levels and grids are made of."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, Final

__all__ = ["checked_fields", "flag", "positive_numbers", "size_pair"]

MAX_IMAGE_SIDE: Final = 16384


def positive_numbers(
    name: str, values: Any, length: int | None = None
) -> tuple[float, ...]:
    """Returns `values` as a tuple of finite positive numbers, integers kept."""
    if not isinstance(values, tuple | list):
        raise ValueError(f"{name} must be a list of numbers, got {values!r}")
    if length is not None and len(values) != length:
        raise ValueError(
            f"{name} must have {length} values, got {len(values)}: {list(values)}"
        )
    for value in values:
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            # Integers may be too large to be numbers.
            or not 0 < value <= sys.float_info.max
        ):
            raise ValueError(
                f"{name} must be positive finite numbers, got {value!r} in "
                f"{list(values)}"
            )
    return tuple(values)


def size_pair(name: str, values: Any) -> tuple[int, int]:
    """Returns `values` as a pair (height, width) of positive integers."""
    height, width = positive_numbers(name, values, 2)
    if not (isinstance(height, int) and isinstance(width, int)):
        raise ValueError(f"{name} must be two integers, got {list(values)}")
    if max(height, width) > MAX_IMAGE_SIDE:
        raise ValueError(
            f"{name} must be at most {MAX_IMAGE_SIDE} in each direction, "
            f"got {list(values)}"
        )
    return height, width


def flag(name: str, value: Any) -> bool:
    """Returns `value`, checked to be a boolean."""
    if not isinstance(value, bool):
        raise ValueError(f"{name} must be true or false, got {value!r}")
    return value


def checked_fields(cls: type[Any], data: Any, where: str) -> dict[str, Any]:
    """Returns `data` checked to hold only fields of the dataclass `cls`."""
    if not isinstance(data, Mapping):
        raise ValueError(f"{where} must be an object, got {data!r}")
    known = {field.name for field in fields(cls)}
    unknown = sorted(str(key) for key in data if key not in known)
    if unknown:
        raise ValueError(
            f"{where} has unknown entries {unknown}; known are {sorted(known)}"
        )
    return dict(data)
