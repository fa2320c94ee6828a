# SPDX-License-Identifier: Apache-2.0
"""Converters between box formats, on arrays and on tensors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from ssdops import boxes as conversions

# (ymin, xmin, ymax, xmax), the second one inverted in y and outside the image.
CORNERS = np.array([[2.0, 4.0, 8.0, 12.0], [5.0, -1.0, 3.0, 40.0]])
SIZE = (10, 20)


def to_pixels(boxes: Any) -> Any:
    return conversions.relative_to_pixels(boxes, SIZE)


def to_relative(boxes: Any) -> Any:
    return conversions.pixels_to_relative(boxes, SIZE)


CASES: list[tuple[Callable[[Any], Any], list[list[float]]]] = [
    (conversions.yxyx_to_xyxy, [[4, 2, 12, 8], [-1, 5, 40, 3]]),
    (conversions.xyxy_to_yxyx, [[4, 2, 12, 8], [-1, 5, 40, 3]]),
    (conversions.yxyx_to_xywh, [[4, 2, 8, 6], [-1, 5, 41, -2]]),
    (conversions.xywh_to_yxyx, [[4, 2, 16, 10], [-1, 5, 39, 8]]),
    (conversions.yxyx_to_cyxhw, [[5, 8, 6, 8], [4, 19.5, -2, 41]]),
    (conversions.cyxhw_to_yxyx, [[-2, -2, 6, 10], [3.5, -21, 6.5, 19]]),
    (to_pixels, [[20, 80, 80, 240], [50, -20, 30, 800]]),
    (to_relative, [[0.2, 0.2, 0.8, 0.6], [0.5, -0.05, 0.3, 2]]),
    (conversions.clip_boxes, [[1, 1, 1, 1], [1, 0, 1, 1]]),
    (
        lambda boxes: conversions.clip_boxes(boxes, SIZE),
        [[2, 4, 8, 12], [5, 0, 3, 20]],
    ),
]
INVERSES = [
    (conversions.yxyx_to_xyxy, conversions.xyxy_to_yxyx),
    (conversions.yxyx_to_xywh, conversions.xywh_to_yxyx),
    (conversions.yxyx_to_cyxhw, conversions.cyxhw_to_yxyx),
    (to_pixels, to_relative),
]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("convert", "expected"), CASES)
def test_array(
    convert: Callable[[Any], Any], expected: list[list[float]], dtype: Any
) -> None:
    found = convert(CORNERS.astype(dtype))
    assert isinstance(found, np.ndarray)
    assert found.dtype == dtype
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("convert", "expected"), CASES)
def test_tensor(
    convert: Callable[[Any], Any], expected: list[list[float]], dtype: Any
) -> None:
    for call in (convert, tf.function(convert)):
        found = call(tf.constant(CORNERS, dtype))
        assert tf.is_tensor(found)
        assert found.dtype == dtype
        np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize(("there", "back"), INVERSES)
def test_there_and_back(
    there: Callable[[Any], Any], back: Callable[[Any], Any]
) -> None:
    for first, second in ((there, back), (back, there)):
        np.testing.assert_allclose(second(first(CORNERS)), CORNERS, rtol=1e-12)


@pytest.mark.parametrize(("convert", "expected"), CASES)
@pytest.mark.parametrize("shape", [(4,), (0, 4), (2, 3, 4)])
def test_any_leading_shape(
    convert: Callable[[Any], Any], expected: Any, shape: tuple[int, ...]
) -> None:
    assert convert(np.zeros(shape)).shape == shape


@pytest.mark.parametrize(("convert", "expected"), CASES)
def test_other_last_dimension_is_refused(
    convert: Callable[[Any], Any], expected: Any
) -> None:
    with pytest.raises(ValueError, match=r"\[\.\.\., 4\], got \[2, 3\]"):
        convert(np.zeros((2, 3)))


def test_conversions_are_differentiable() -> None:
    boxes = tf.constant(CORNERS)
    with tf.GradientTape() as tape:
        tape.watch(boxes)
        total = tf.reduce_sum(conversions.yxyx_to_cyxhw(boxes) * [1.0, 0.0, 0.0, 3.0])
    np.testing.assert_allclose(tape.gradient(total, boxes), [[0.5, -3, 0.5, 3]] * 2)
