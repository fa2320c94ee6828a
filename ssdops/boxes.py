# SPDX-License-Identifier: Apache-2.0
"""Converters between box formats; all else uses corners (ymin, xmin, ymax, xmax).

Every function takes a NumPy array or a TensorFlow tensor of shape [..., 4], returns
the same kind and dtype, and is differentiable on tensors. Nothing is clipped, sorted or
checked: an inverted box stays inverted.

Formats: `yxyx` corners (ymin, xmin, ymax, xmax); `xyxy` corners (xmin, ymin, xmax,
ymax); `xywh` corner and size (xmin, ymin, width, height), as in COCO files; `cyxhw`
centre and size (y, x, height, width).
"""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = [
    "clip_boxes",
    "cyxhw_to_yxyx",
    "pixels_to_relative",
    "relative_to_pixels",
    "xywh_to_yxyx",
    "xyxy_to_yxyx",
    "yxyx_to_cyxhw",
    "yxyx_to_xywh",
    "yxyx_to_xyxy",
]


def _stack(like: Any, values: list[Any]) -> Any:
    """Stacks columns along a new last axis, as NumPy array or as tensor."""
    if isinstance(like, np.ndarray):
        return np.stack(values, axis=-1)
    import tensorflow as tf  # noqa: PLC0415

    return tf.stack(values, axis=-1)


def _columns(boxes: Any) -> tuple[Any, Any, Any, Any]:
    """Splits [..., 4] into its four columns, shape checked."""
    if boxes.shape[-1] != 4:
        raise ValueError(f"boxes must have shape [..., 4], got {list(boxes.shape)}")
    return boxes[..., 0], boxes[..., 1], boxes[..., 2], boxes[..., 3]


def yxyx_to_xyxy(boxes: Any) -> Any:
    """Returns corners x first, [..., 4]."""
    ymin, xmin, ymax, xmax = _columns(boxes)
    return _stack(boxes, [xmin, ymin, xmax, ymax])


def xyxy_to_yxyx(boxes: Any) -> Any:
    """Returns corners y first, [..., 4]."""
    xmin, ymin, xmax, ymax = _columns(boxes)
    return _stack(boxes, [ymin, xmin, ymax, xmax])


def yxyx_to_xywh(boxes: Any) -> Any:
    """Returns (xmin, ymin, width, height), [..., 4]."""
    ymin, xmin, ymax, xmax = _columns(boxes)
    return _stack(boxes, [xmin, ymin, xmax - xmin, ymax - ymin])


def xywh_to_yxyx(boxes: Any) -> Any:
    """Returns corners from (xmin, ymin, width, height), [..., 4]."""
    xmin, ymin, width, height = _columns(boxes)
    return _stack(boxes, [ymin, xmin, ymin + height, xmin + width])


def yxyx_to_cyxhw(boxes: Any) -> Any:
    """Returns (centre y, centre x, height, width), [..., 4]; floating dtypes."""
    ymin, xmin, ymax, xmax = _columns(boxes)
    return _stack(
        boxes, [(ymin + ymax) / 2, (xmin + xmax) / 2, ymax - ymin, xmax - xmin]
    )


def cyxhw_to_yxyx(boxes: Any) -> Any:
    """Returns corners from (centre y, centre x, height, width), [..., 4]."""
    cy, cx, height, width = _columns(boxes)
    return _stack(
        boxes, [cy - height / 2, cx - width / 2, cy + height / 2, cx + width / 2]
    )


def relative_to_pixels(boxes: Any, image_size: tuple[int, int]) -> Any:
    """Returns corners in pixels, unclipped.

    Args:
        boxes: Relative corners [..., 4], floating dtype.
        image_size: Height and width in pixels.
    """
    height, width = image_size
    ymin, xmin, ymax, xmax = _columns(boxes)
    return _stack(boxes, [ymin * height, xmin * width, ymax * height, xmax * width])


def pixels_to_relative(boxes: Any, image_size: tuple[int, int]) -> Any:
    """Returns relative corners, unclipped.

    Args:
        boxes: Corners in pixels [..., 4], floating dtype.
        image_size: Height and width in pixels.
    """
    height, width = image_size
    ymin, xmin, ymax, xmax = _columns(boxes)
    return _stack(boxes, [ymin / height, xmin / width, ymax / height, xmax / width])


def clip_boxes(boxes: Any, image_size: tuple[float, float] = (1.0, 1.0)) -> Any:
    """Returns corners moved into the image.

    Args:
        boxes: Corners [..., 4], relative or in pixels.
        image_size: Height and width in the unit of the boxes.
    """
    height, width = image_size
    ymin, xmin, ymax, xmax = _columns(boxes)
    if isinstance(boxes, np.ndarray):
        clip: Any = np.clip
    else:
        import tensorflow as tf  # noqa: PLC0415

        clip = tf.clip_by_value
    return _stack(
        boxes,
        [
            clip(ymin, 0, height),
            clip(xmin, 0, width),
            clip(ymax, 0, height),
            clip(xmax, 0, width),
        ],
    )
