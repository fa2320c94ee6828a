# SPDX-License-Identifier: Apache-2.0
"""Checks of the plain values that a description of a model is made of."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["checked_keys", "finite", "number_in", "plain_json", "whole_number"]

_MAX_DEPTH = 16


def finite(name: str, value: Any) -> float:
    """Returns `value`, checked to be a finite number."""
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        # Integers may be too large to be numbers.
        or not abs(value) <= sys.float_info.max
    ):
        raise ValueError(f"{name} must be a finite number, got {value!r}")
    return float(value)


def number_in(name: str, value: Any, low: float, high: float) -> float:
    """Returns `value`, checked to be a number in [low, high]."""
    number = finite(name, value)
    if not low <= number <= high:
        raise ValueError(f"{name} must lie in [{low:g}, {high:g}], got {number:g}")
    return number


def whole_number(name: str, value: Any, low: int, high: int) -> int:
    """Returns `value`, checked to be an integer in [low, high]."""
    if (
        isinstance(value, bool)
        or not isinstance(value, int)
        or not low <= value <= high
    ):
        raise ValueError(f"{name} must be an integer in [{low}, {high}], got {value!r}")
    return value


def checked_keys(
    data: Any, where: str, keys: Sequence[str], optional: Sequence[str] = ()
) -> Mapping[str, Any]:
    """Returns `data`, checked to be an object with these keys.

    Args:
        data: What should be an object.
        where: What messages call it.
        keys: All keys that it may have.
        optional: Those of them that it need not have.
    """
    if not isinstance(data, Mapping):
        raise ValueError(f"{where} must be an object, got {data!r}")
    missing = [key for key in keys if key not in data and key not in optional]
    unknown = sorted(str(key) for key in data if key not in keys)
    if missing or unknown:
        raise ValueError(
            f"{where} must have the entries {list(keys)}: missing {missing}, "
            f"unknown {unknown}"
        )
    return data


def plain_json(name: str, value: Any, depth: int = 0) -> Any:
    """Returns a copy of `value`, checked to be plain JSON; tuples become lists."""
    if depth > _MAX_DEPTH:
        raise ValueError(f"{name} is nested deeper than {_MAX_DEPTH} levels")
    if value is None or isinstance(value, bool | str | int):
        return value
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) for key in value):
            raise ValueError(f"{name} must have strings as keys, got {list(value)!r}")
        return {
            key: plain_json(f"{name}.{key}", entry, depth + 1)
            for key, entry in value.items()
        }
    if isinstance(value, list | tuple):
        return [
            plain_json(f"{name}[{index}]", entry, depth + 1)
            for index, entry in enumerate(value)
        ]
    return finite(name, value)
