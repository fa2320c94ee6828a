# SPDX-License-Identifier: Apache-2.0
"""What is to be known of a type of Caffe's layers, and checks of its values."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from ssdops.models.plain_values import finite, number_in, whole_number
from ssdops.protobuf_text import Message

__all__ = [
    "LayerType",
    "Size",
    "Values",
    "at_least_zero",
    "both",
    "flag",
    "numbers",
    "one_of",
    "pair",
    "positive",
    "whole",
]

# Rows, columns, channels.
Size = tuple[int, int, int]
Values = Mapping[str, Any]

_LARGEST: Final = 65_536
# Of float32, but for those that processors take for 0.
_LEAST: Final = 1.2e-38


@dataclass(frozen=True)
class LayerType:
    """One type of layer.

    Attributes:
        read: The layer's message becomes plain values.
        keys: Names of these values with how to check one.
        size: Values and sizes of the inputs become the size of the output.
        build: Values, name and symbolic inputs become the symbolic output.
        weights: Values and size of the input become the number of weights.
        inputs: Least and most inputs.
    """

    read: Callable[[Message], dict[str, Any]]
    keys: Mapping[str, Callable[[str, Any], Any]]
    size: Callable[[Values, Sequence[Size]], Size]
    build: Callable[[Values, str, Sequence[Any]], Any]
    weights: Callable[[Values, Size], int] = lambda values, size: 0
    inputs: tuple[int, int] = (1, 1)


def whole(low: int, high: int = _LARGEST) -> Callable[[str, Any], int]:
    """Returns a check for integers in [low, high]."""
    return lambda name, value: whole_number(name, value, low, high)


def pair(low: int, high: int = 1024) -> Callable[[str, Any], list[int]]:
    """Returns a check for two integers in [low, high]."""

    def check(name: str, value: Any) -> list[int]:
        if not isinstance(value, list | tuple) or len(value) != 2:
            raise ValueError(f"{name} must be two integers, got {value!r}")
        return [whole_number(name, number, low, high) for number in value]

    return check


def flag(name: str, value: Any) -> bool:
    """Returns a value that is true or false."""
    if not isinstance(value, bool):
        raise ValueError(f"{name} must be true or false, got {value!r}")
    return value


def one_of(*known: str) -> Callable[[str, Any], str]:
    """Returns a check for one of several texts."""

    def check(name: str, value: Any) -> str:
        if value not in known:
            raise ValueError(f"{name} must be one of {', '.join(known)}, got {value!r}")
        return str(value)

    return check


def at_least_zero(name: str, value: Any) -> float:
    """Returns a finite number from 0."""
    return number_in(name, value, 0.0, sys.float_info.max)


def positive(name: str, value: Any) -> float:
    """Returns a finite number above 0."""
    return number_in(name, value, _LEAST, sys.float_info.max)


def numbers(name: str, value: Any) -> list[float]:
    """Returns a list of finite numbers."""
    if not isinstance(value, list | tuple) or len(value) > _LARGEST:
        raise ValueError(f"{name} must be a list of numbers, got {value!r}")
    return [finite(name, number) for number in value]


def both(message: Message, name: str, default: int) -> list[int]:
    """Returns (y, x) of `kernel_size`, `pad`, `stride` or `dilation`."""
    short = name.removesuffix("_size")
    if f"{short}_h" in message or f"{short}_w" in message:
        return [
            message.integer(f"{short}_h", default),
            message.integer(f"{short}_w", default),
        ]
    given = message.integers(name) or [default]
    return [given[0], given[-1]]
