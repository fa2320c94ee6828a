# SPDX-License-Identifier: Apache-2.0
"""Argument checks shared by the public ops: one wording, with names and numbers."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import tensorflow as tf

FLOAT_DTYPES: Final = (tf.float16, tf.bfloat16, tf.float32, tf.float64)


def float_tensors(**arguments: Any) -> list[tf.Tensor]:
    """Convert arguments to tensors of one common floating dtype.

    Tensors and arrays keep their dtype; Python numbers and lists take that of the
    first tensor or array, or float32.

    Raises:
        ValueError: if a dtype is not floating, or two differ.
    """
    leader, dtype = "", tf.float32
    for name, value in arguments.items():
        if hasattr(value, "dtype"):
            leader, dtype = name, tf.as_dtype(value.dtype)
            break
    if dtype not in FLOAT_DTYPES:
        raise ValueError(
            f"{leader} must have dtype float16, bfloat16, float32 or float64,"
            f" got {dtype.name}"
        )
    tensors = []
    for name, value in arguments.items():
        if hasattr(value, "dtype") and tf.as_dtype(value.dtype) != dtype:
            raise ValueError(
                f"{name} must have dtype {dtype.name} as {leader},"
                f" got {tf.as_dtype(value.dtype).name}"
            )
        tensors.append(tf.convert_to_tensor(value, dtype=dtype))
    return tensors


def int32_tensor(name: str, value: Any) -> tf.Tensor:
    """Convert an integer argument to an int32 tensor.

    Raises:
        ValueError: if it is not of an integer dtype.
    """
    if not isinstance(value, tf.Tensor | tf.Variable):
        value = np.asarray(value)
        if value.size == 0 and value.dtype == np.float64:
            value = value.astype(np.int32)  # an empty list has no dtype of its own
    dtype = tf.as_dtype(value.dtype)
    if not dtype.is_integer:
        raise ValueError(f"{name} must have an integer dtype, got {dtype.name}")
    return tf.cast(value, tf.int32)


def bool_tensor(name: str, value: Any) -> tf.Tensor:
    """Convert a boolean argument to a bool tensor.

    Raises:
        ValueError: if it is not of dtype bool.
    """
    if not isinstance(value, tf.Tensor | tf.Variable):
        value = np.asarray(value)
        if value.size == 0 and value.dtype == np.float64:
            value = value.astype(np.bool_)  # an empty list has no dtype of its own
    dtype = tf.as_dtype(value.dtype)
    if dtype != tf.bool:
        raise ValueError(f"{name} must have dtype bool, got {dtype.name}")
    return tf.convert_to_tensor(value)


def shape(name: str, tensor: tf.Tensor, *patterns: str) -> None:
    """Check the statically known part of a shape.

    Args:
        name: argument name for the message.
        tensor: the argument.
        patterns: accepted shapes such as `"[B, A, 4]"`: a number must be equal, a
            letter is anything.

    Raises:
        ValueError: if the static shape fits no pattern.
    """
    actual = tensor.shape
    if actual.rank is None:
        return
    if not any(_fits(actual.as_list(), pattern) for pattern in patterns):
        expected = " or ".join(patterns)
        found = [("?" if size is None else size) for size in actual.as_list()]
        text = "[" + ", ".join(map(str, found)) + "]"
        raise ValueError(f"{name} must have shape {expected}, got {text}")


def runtime_shapes(*arguments: tuple[str, tf.Tensor, str]) -> list[tf.Tensor]:
    """Check what is known of the shapes only when the op runs.

    The native kernels check their own inputs; plain TensorFlow would broadcast.

    Args:
        *arguments: name, tensor and shape pattern, such as `"[B, A, 4]"` or
            `"[..., A, 4]"`; the same letter stands for the same size everywhere.

    Returns:
        The tensors, with every size that is known from another argument.
    """
    tensors = [tensor for _, tensor, _ in arguments]
    if all(tensor.shape.is_fully_defined() for tensor in tensors):
        return tensors
    patterns = [_sizes(pattern) for _, _, pattern in arguments]
    tf.debugging.assert_shapes(
        [
            (tensor, tuple(... if size == "..." else size for size in pattern))
            for tensor, pattern in zip(tensors, patterns, strict=True)
        ],
        message="shapes of " + ", ".join(f"{n} {p}" for n, _, p in arguments),
    )
    known: dict[str | int, int | None] = {}
    for tensor, pattern in zip(tensors, patterns, strict=True):
        if tensor.shape.rank is not None:
            for letter, size in zip(
                reversed(pattern), reversed(tensor.shape.as_list()), strict=False
            ):
                if letter != "..." and size is not None:
                    known[letter] = size
    return [
        tensor
        if "..." in pattern
        else tf.ensure_shape(
            tensor, [p if isinstance(p, int) else known.get(p) for p in pattern]
        )
        for tensor, pattern in zip(tensors, patterns, strict=True)
    ]


def same_size(
    name_a: str, a: tf.Tensor, axis_a: int, name_b: str, b: tf.Tensor, axis_b: int
) -> None:
    """Check that two axes have equal static sizes, as far as both are known.

    Raises:
        ValueError: if they differ.
    """
    if a.shape.rank is None or b.shape.rank is None:
        return
    size_a, size_b = a.shape[axis_a], b.shape[axis_b]
    if size_a is not None and size_b is not None and size_a != size_b:
        raise ValueError(
            f"{name_b} must have {size_a} elements along axis {axis_b} as {name_a}"
            f" along axis {axis_a}, got {size_b}"
        )


def fraction(name: str, value: float) -> float:
    """Check a number in [0, 1].

    Raises:
        ValueError: if it is outside, NaN, or no number.
    """
    number = _number(name, value)
    if not 0.0 <= number <= 1.0:
        raise ValueError(f"{name} must be in [0, 1], got {value}")
    return number


def within(name: str, value: float, low: float, high: float) -> float:
    """Check a number in `[low, high]`.

    Raises:
        ValueError: if it is outside, NaN, or no number.
    """
    number = _number(name, value)
    if not low <= number <= high:
        raise ValueError(f"{name} must be in [{low:g}, {high:g}], got {value}")
    return number


def finite(name: str, value: float) -> float:
    """Check a finite number.

    Raises:
        ValueError: if it is infinite, NaN, or no number.
    """
    number = _number(name, value)
    if not math.isfinite(number):
        raise ValueError(f"{name} must be finite, got {value}")
    return number


def finite_not_negative(name: str, value: float) -> float:
    """Check a finite number of at least 0.

    Raises:
        ValueError: if it is negative, infinite, NaN, or no number.
    """
    number = _number(name, value)
    if not 0.0 <= number < math.inf:
        raise ValueError(f"{name} must be finite and at least 0, got {value}")
    return number


def one_of(name: str, value: str, choices: Sequence[str]) -> str:
    """Check a name.

    Raises:
        ValueError: if it is none of the choices.
    """
    if value not in choices:
        expected = ", ".join(map(repr, choices))
        raise ValueError(f"{name} must be one of {expected}, got {value!r}")
    return value


def flag(name: str, value: bool) -> bool:
    """Check a truth value.

    Raises:
        ValueError: if it is none.
    """
    if not isinstance(value, bool | np.bool_):
        raise ValueError(f"{name} must be True or False, got {value!r}")
    return bool(value)


def matching_thresholds(
    iou_threshold: float, negative_threshold: float | None
) -> tuple[float, float]:
    """Check the two thresholds of matching; None as the second means the first.

    Raises:
        ValueError: if one is no number in [0, 1], or the second above the first.
    """
    positive = fraction("iou_threshold", iou_threshold)
    if negative_threshold is None:
        return positive, positive
    negative = fraction("negative_threshold", negative_threshold)
    if negative > positive:
        raise ValueError(
            f"negative_threshold must be at most iou_threshold ({positive}),"
            f" got {negative}"
        )
    return positive, negative


def not_nan(name: str, value: float) -> float:
    """Check that a number is not NaN.

    Raises:
        ValueError: if it is, or if it is no number.
    """
    number = _number(name, value)
    if math.isnan(number):
        raise ValueError(f"{name} must be a number, got nan")
    return number


def positive_int(name: str, value: int) -> int:
    """Check an integer of at least 1 that fits 32 bits.

    Raises:
        ValueError: if it is smaller, larger, or no integer.
    """
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise ValueError(f"{name} must be an integer, got {value!r}")
    if not 1 <= value < 2**31:
        raise ValueError(f"{name} must be in [1, 2147483647], got {value}")
    return int(value)


def class_id(name: str, value: int | None) -> int | None:
    """Check a class id of at least 0, or None.

    Raises:
        ValueError: if it is negative or no integer.
    """
    if value is None:
        return None
    integer = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not integer or value < 0:
        raise ValueError(f"{name} must be None or at least 0, got {value!r}")
    return int(value)


def score_thresholds(
    name: str, value: Any, num_classes: int | None
) -> float | tuple[float, ...] | tf.Tensor:
    """Check a number that is not NaN, or one for each class.

    Args:
        name: argument name for the message.
        value: number, sequence of numbers, or tensor.
        num_classes: how many there must be, if known.

    Raises:
        ValueError: if there are not as many, or one is NaN.
    """
    if isinstance(value, float | int | np.floating | np.integer):
        return not_nan(name, float(value))
    if isinstance(value, tf.Tensor | tf.Variable):
        shape(name, value, "[]", "[C]")
        _one_per_class(name, value.shape[0] if value.shape.rank else None, num_classes)
        return tf.cast(value, tf.float64)
    try:
        numbers = tuple(not_nan(name, number) for number in value)
    except TypeError:
        raise ValueError(
            f"{name} must be a number or one per class, got {value!r}"
        ) from None
    _one_per_class(name, len(numbers), num_classes)
    return numbers


def _one_per_class(name: str, count: int | None, num_classes: int | None) -> None:
    if None not in (count, num_classes) and count != num_classes:
        raise ValueError(f"{name} must have {num_classes} numbers, got {count}")


def class_subset(
    name: str, value: Sequence[int] | None, num_classes: int | None
) -> tuple[int, ...] | None:
    """Check different class ids, or None.

    Raises:
        ValueError: if there are none, or one is out of range.
    """
    if value is None:
        return None
    classes = tuple(class_id(name, item) or 0 for item in value)
    if not classes:
        raise ValueError(f"{name} must have at least one class, or be None")
    if num_classes is not None and max(classes) >= num_classes:
        raise ValueError(
            f"{name} must have classes below {num_classes}, got {max(classes)}"
        )
    return classes


def constant(value: Any, dtype: tf.DType = tf.float64) -> Any:
    """A number, or several, for an input of a native op that is not a tensor.

    Eagerly, making a tensor takes longer than some kernels: equal values share one.
    """
    if isinstance(value, tf.Tensor) or not tf.executing_eagerly():
        return value
    return _eager_constant(value, dtype)


def no_boxes(dtype: tf.DType) -> tf.Tensor:
    """Boxes `[0, 4]` for a native input that is not used."""
    return tf.zeros([0, 4], dtype)


@functools.lru_cache(maxsize=512)
def _eager_constant(value: Any, dtype: tf.DType) -> tf.Tensor:
    with tf.device("CPU:0"):
        return tf.constant(value, dtype)


def variances(values: Sequence[float]) -> tuple[float, float, float, float]:
    """Check four positive finite variances.

    Raises:
        ValueError: if there are not four, or one is not positive and finite.
    """
    numbers = tuple(float(value) for value in values)
    if len(numbers) != 4 or not all(math.isfinite(v) and v > 0 for v in numbers):
        raise ValueError(
            f"variances must be 4 positive finite numbers, got {tuple(values)}"
        )
    return numbers


def _number(name: str, value: float) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        raise ValueError(f"{name} must be a number, got {value!r}") from None


def _sizes(pattern: str) -> list[str | int]:
    inside = pattern.strip("[]")
    sizes = (size.strip() for size in inside.split(",")) if inside else ()
    return [int(size) if size.isdigit() else size for size in sizes]


def _fits(actual: list[int | None], pattern: str) -> bool:
    expected = _sizes(pattern)
    if expected[:1] == ["..."]:
        expected = expected[1:]
        if len(actual) < len(expected):
            return False
        actual = actual[len(actual) - len(expected) :]
    if len(actual) != len(expected):
        return False
    return all(
        size is None or isinstance(want, str) or size == want
        for size, want in zip(actual, expected, strict=True)
    )
