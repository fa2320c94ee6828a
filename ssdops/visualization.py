# SPDX-License-Identifier: Apache-2.0
"""Pictures of detections and of anchor grids."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ssdops.anchors import AnchorGrid

__all__ = [
    "class_color",
    "draw_detections",
    "draw_frames",
    "enlarged",
    "plot_anchors",
]

MIN_PICTURE_SIDE = 384
MAX_ENLARGED_SIDE = 2048

Rectangle = tuple[float, float, float, float]


def enlarged(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Returns a small image larger by a whole factor, so that names are readable.

    Args:
        image: uint8 [H, W, 3].
    """
    factor = max(1, round(MIN_PICTURE_SIDE / min(image.shape[:2])))
    # An image with one very short side would grow without limit in the other.
    factor = min(factor, max(1, MAX_ENLARGED_SIDE // max(image.shape[:2])))
    return image.repeat(factor, axis=0).repeat(factor, axis=1)


def class_color(label: int) -> tuple[int, int, int]:
    """Returns the RGB colour of a class; neighbouring ids get distant hues."""
    hue = (label * 0.618034) % 1.0
    value = (1.0, 0.8)[label // 8 % 2]
    red, green, blue = colorsys.hsv_to_rgb(hue, 0.85, value)
    return round(red * 255), round(green * 255), round(blue * 255)


def draw_detections(
    image: npt.NDArray[np.uint8],
    boxes: Any,
    labels: Any,
    *,
    class_names: Sequence[str] | None = None,
    scores: Any | None = None,
) -> Image.Image:
    """Returns the image with a named frame around every object.

    Lines and letters grow with the image. A name stands above its frame, or inside or
    below it where that would cover another name or leave the image. Objects that come
    first, the best ones of a detector, lie on top.

    Args:
        image: RGB, uint8 [H, W, 3]; not changed.
        boxes: Relative corners [N, 4] (ymin, xmin, ymax, xmax); parts outside the
            image are cut off.
        labels: Class ids [N], integers.
        class_names: Name of every class id; None for the ids themselves.
        scores: Scores [N] written behind the names, or None.

    Raises:
        ValueError: If the shapes do not belong together, for NaN, and for a class id
            without a name.
    """
    boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
    labels = np.asarray(labels).reshape(-1)
    if len(labels) != len(boxes):
        raise ValueError(f"labels must have {len(boxes)} entries, got {len(labels)}")
    if scores is not None and len(scores) != len(boxes):
        raise ValueError(f"scores must have {len(boxes)} entries, got {len(scores)}")
    if np.isnan(boxes).any():
        raise ValueError("boxes must be numbers, got NaN")
    if (
        class_names is not None
        and len(labels)
        and (labels.min() < 0 or labels.max() >= len(class_names))
    ):
        raise ValueError(
            f"labels must lie in [0, {len(class_names) - 1}], the classes that have "
            f"names, got {labels.min()} to {labels.max()}"
        )
    picture = Image.fromarray(image)
    draw = ImageDraw.Draw(picture)
    width, height = picture.size
    side = min(width, height)
    line = max(1, round(side / 200))
    font = ImageFont.load_default(size=max(10, round(side / 28)))
    frames = _frames(boxes, width, height)
    for frame, label in zip(frames[::-1], labels[::-1], strict=True):
        draw.rectangle(tuple(frame), outline=class_color(int(label)), width=line)
    texts = [str(v) if class_names is None else class_names[int(v)] for v in labels]
    if scores is not None:
        texts = [
            f"{text} {float(score):.2f}"
            for text, score in zip(texts, scores, strict=True)
        ]
    patches: list[Rectangle] = []
    for frame, text in zip(frames, texts, strict=True):
        patches.append(_place_name(draw, text, tuple(frame), font, patches))
    # The first object's name is never covered by another one.
    for patch, text, label in reversed(list(zip(patches, texts, labels, strict=True))):
        _draw_name(draw, text, patch, class_color(int(label)), font)
    return picture


def draw_frames(image: npt.NDArray[np.uint8], boxes: Any, labels: Any) -> Image.Image:
    """Returns the image with a thin frame around every box, without names.

    Args:
        image: RGB, uint8 [H, W, 3]; not changed.
        boxes: Relative corners [N, 4] (ymin, xmin, ymax, xmax).
        labels: Class ids [N], integers, for the colours.
    """
    picture = Image.fromarray(image)
    draw = ImageDraw.Draw(picture)
    boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
    for frame, label in zip(_frames(boxes, *picture.size), labels, strict=True):
        draw.rectangle(tuple(frame), outline=class_color(int(label)))
    return picture


def _frames(
    boxes: npt.NDArray[np.float64], width: int, height: int
) -> npt.NDArray[np.float64]:
    """Pixels (left, top, right, bottom) of boxes, as far as they are in the image."""
    corners = np.clip(boxes, 0.0, 1.0)[:, [1, 0, 3, 2]] * [
        width - 1,
        height - 1,
        width - 1,
        height - 1,
    ]
    # Sorted corners: an inverted box is drawn, not an error.
    frames: npt.NDArray[np.float64] = np.concatenate(
        [
            np.minimum(corners[:, :2], corners[:, 2:]),
            np.maximum(corners[:, :2], corners[:, 2:]),
        ],
        axis=1,
    )
    return frames


def _pad(text_height: float) -> int:
    """Returns the margin around a name in pixels."""
    return max(1, round(text_height / 5))


def _place_name(
    draw: ImageDraw.ImageDraw,
    text: str,
    frame: Rectangle,
    font: Any,
    taken: Sequence[Rectangle],
) -> Rectangle:
    """Returns the patch (left, top, right, bottom) for the name of a frame.

    It is the first of several places above, inside and below the frame that lies in
    the image and covers least of the patches in `taken`.
    """
    image_width, image_height = draw.im.size
    left, top, right, bottom = draw.textbbox((0, 0), text, font=font)
    pad = _pad(bottom - top)
    width, height = right - left + 2 * pad, bottom - top + 2 * pad
    last_x, last_y = max(image_width - width, 0), max(image_height - height, 0)
    rows = [frame[1] - height, frame[1], frame[3], frame[3] - height]
    rows += list(np.arange(frame[1] + height, frame[3] - height, height))
    places = [
        (min(max(x, 0), last_x), y)
        for y in rows
        if 0 <= y <= last_y
        for x in (frame[0], frame[2] - width)
    ]
    if not places:
        places = [(min(max(frame[0], 0), last_x), min(max(frame[1], 0), last_y))]

    def covered(place: tuple[float, float]) -> float:
        x, y = place
        return sum(
            max(min(x + width, other[2]) - max(x, other[0]), 0)
            * max(min(y + height, other[3]) - max(y, other[1]), 0)
            for other in taken
        )

    x, y = min(places, key=covered)
    return x, y, x + width, y + height


def _draw_name(
    draw: ImageDraw.ImageDraw,
    text: str,
    patch: Rectangle,
    color: tuple[int, int, int],
    font: Any,
) -> None:
    """Writes a name on a patch of its colour, black or white as reads better."""
    left, top, _, bottom = draw.textbbox((0, 0), text, font=font)
    pad = _pad(bottom - top)
    draw.rectangle(patch, fill=color)
    luminance = 0.299 * color[0] + 0.587 * color[1] + 0.114 * color[2]
    draw.text(
        (patch[0] + pad - left, patch[1] + pad - top),
        text,
        fill=(0, 0, 0) if luminance > 120 else (255, 255, 255),
        font=font,
    )


def plot_anchors(grid: AnchorGrid, title: str = "") -> Figure:
    """Returns a figure with one panel per level of an anchor grid.

    A panel shows the frame of the image, the centres of all cells, and the boxes of
    the cell in the middle.

    Args:
        grid: Grid to draw.
        title: Heading of the figure.
    """
    from matplotlib.figure import Figure  # noqa: PLC0415
    from matplotlib.patches import Rectangle as Patch  # noqa: PLC0415

    count = len(grid.levels)
    columns = count if count < 3 else min((4, 3), key=lambda number: -count % number)
    rows = -(-count // columns)
    figure = Figure(figsize=(3.6 * columns, 3.9 * rows), layout="constrained")
    if title:
        figure.suptitle(title)
    height, width = grid.image_size
    for index, level in enumerate(grid.levels):
        axes = figure.add_subplot(rows, columns, index + 1)
        pixels = grid.level_boxes(index) * [height, width, height, width]
        centers = (pixels[:, :, 0, :2] + pixels[:, :, 0, 2:]) / 2
        axes.add_patch(Patch((0, 0), width, height, fill=False, linewidth=2))
        axes.plot(
            centers[..., 1].ravel(), centers[..., 0].ravel(), ".", color="0.6", ms=2.5
        )
        row, column = (size // 2 for size in level.feature_size)
        for number, (ymin, xmin, ymax, xmax) in enumerate(pixels[row, column]):
            axes.add_patch(
                Patch(
                    (xmin, ymin),
                    xmax - xmin,
                    ymax - ymin,
                    fill=False,
                    edgecolor=f"C{number}",
                    linewidth=1.5,
                )
            )
        shown = np.concatenate(
            [
                pixels[row, column],
                [[0, 0, height, width], [*centers[0, 0], *centers[-1, -1]]],
            ]
        )
        margin = 0.03 * max(height, width)
        axes.set_xlim(shown[:, 1].min() - margin, shown[:, 3].max() + margin)
        axes.set_ylim(shown[:, 2].max() + margin, shown[:, 0].min() - margin)
        axes.set_aspect("equal")
        rows_, columns_ = level.feature_size
        axes.set_title(
            f"level {index}: {rows_} x {columns_}, {level.boxes_per_cell} per cell",
            fontsize=10,
        )
        axes.tick_params(labelsize=7)
    return figure
