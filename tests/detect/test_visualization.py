# SPDX-License-Identifier: Apache-2.0
"""Pictures of detections and grids: what is where, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ssdops.anchors import anchor_grid, anchor_grid_names
from ssdops.visualization import (
    class_color,
    draw_detections,
    enlarged,
    plot_anchors,
)

BLACK = np.zeros((200, 300, 3), np.uint8)
NAMES = ("background", "cat", "dog")


def colored(picture: Any, label: int) -> Any:
    """Where a picture has the colour of a class, bool [H, W]."""
    return (np.asarray(picture) == class_color(label)).all(axis=-1)


def test_frame_lies_on_the_box() -> None:
    picture = draw_detections(BLACK, [[0.25, 0.2, 0.75, 0.6]], [1])
    assert picture.size == (300, 200)
    frame = colored(picture, 1)
    assert frame[100, 59:63].any()
    assert frame[100, 177:181].any()
    assert frame[147:151, 120].any()
    assert not frame[60:140, 70:170].any()
    assert not frame[160:].any()


def test_image_is_not_changed() -> None:
    image = BLACK.copy()
    draw_detections(image, [[0, 0, 1, 1]], [1])
    np.testing.assert_array_equal(image, BLACK)


def test_nothing_to_draw() -> None:
    picture = draw_detections(BLACK, np.zeros((0, 4)), [], class_names=NAMES, scores=[])
    np.testing.assert_array_equal(np.asarray(picture), BLACK)


@pytest.mark.parametrize(
    "box",
    [
        [0.0, 0.0, 1.0, 1.0],
        [-0.5, -0.5, 0.3, 0.3],
        [0.9, 0.9, 3.0, 3.0],
        [0.0, 0.99, 0.02, 1.0],
        [0.99, 0.0, 1.0, 0.01],
        [0.6, 0.6, 0.4, 0.4],
        [2.0, 2.0, 3.0, 3.0],
        [0.5, 0.5, 0.5, 0.5],
        [-np.inf, -np.inf, np.inf, np.inf],
    ],
)
def test_name_is_inside_the_image(box: list[float]) -> None:
    """The patch behind the name is a large plain area of the class colour."""
    picture = draw_detections(BLACK, [box], [2], class_names=NAMES, scores=[0.987])
    patch = colored(picture, 2)
    assert patch.sum() > 400


@pytest.mark.parametrize("shape", [(1, 1), (3, 400), (400, 3), (20, 20)])
def test_any_image_size(shape: tuple[int, int]) -> None:
    image = np.full((*shape, 3), 50, np.uint8)
    picture = draw_detections(image, [[0, 0, 1, 1]], [1], class_names=NAMES)
    assert picture.size == shape[::-1]


def test_names_of_one_box_do_not_cover_each_other() -> None:
    boxes = [[0.3, 0.1, 0.8, 0.5]] * 2
    both = draw_detections(BLACK, boxes, [1, 2], class_names=NAMES, scores=[0.9, 0.8])
    alone = draw_detections(BLACK, boxes[:1], [1], class_names=NAMES, scores=[0.9])
    above = slice(0, 58)
    assert colored(alone, 1)[above].sum() > 200
    np.testing.assert_array_equal(colored(both, 1)[above], colored(alone, 1)[above])
    # The second frame lies below the first one; what shows is its name.
    assert colored(both, 2).sum() > 200


def test_the_best_of_many_is_on_top() -> None:
    boxes = [[0.4, 0.4, 0.5, 0.45]] * 40
    labels = [1] + [2] * 39
    scores = np.linspace(0.9, 0.5, 40)
    many = draw_detections(BLACK, boxes, labels, class_names=NAMES, scores=scores)
    one = draw_detections(
        BLACK, boxes[:1], labels[:1], class_names=NAMES, scores=scores[:1]
    )
    above = slice(0, 80)
    assert colored(one, 1)[above].sum() > 200
    np.testing.assert_array_equal(colored(many, 1)[above], colored(one, 1)[above])


def test_colors_of_neighbouring_classes_differ() -> None:
    colors = np.array([class_color(label) for label in range(92)])
    assert len(np.unique(colors, axis=0)) == 92
    assert np.abs(np.diff(colors, axis=0)).sum(axis=1).min() > 100


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([[0, 0, 1, 1]], [1, 2]), "labels must have 1 entries, got 2"),
        (([[0, 0, 1, np.nan]], [1]), "boxes must be numbers"),
        (([[0, 0, 1, 1]], [3]), r"labels must lie in \[0, 2\]"),
        (([[0, 0, 1, 1]], [-1]), r"labels must lie in \[0, 2\]"),
    ],
)
def test_values_that_do_not_fit_are_refused(arguments: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        draw_detections(BLACK, *arguments, class_names=NAMES)


def test_scores_must_fit() -> None:
    with pytest.raises(ValueError, match="scores must have 1 entries, got 2"):
        draw_detections(BLACK, [[0, 0, 1, 1]], [1], scores=[0.1, 0.2])


@pytest.mark.parametrize("name", anchor_grid_names())
def test_plot_has_a_panel_per_level(name: str) -> None:
    grid = anchor_grid(name)
    figure = plot_anchors(grid, "Anchors")
    assert len(figure.axes) == len(grid.levels)
    for axes, level in zip(figure.axes, grid.levels, strict=True):
        assert len(axes.patches) == 1 + level.boxes_per_cell
        [centers] = axes.lines
        assert len(centers.get_xdata()) == level.feature_size[0] * level.feature_size[1]


def test_plot_shows_the_boxes_in_pixels() -> None:
    grid = anchor_grid("ssd300_voc")
    patches = plot_anchors(grid).axes[5].patches
    square = patches[1]
    assert (square.get_x(), square.get_y()) == pytest.approx((18, 18), abs=1e-4)
    assert (square.get_width(), square.get_height()) == pytest.approx((264, 264))
    wide = patches[3]
    assert wide.get_width() == pytest.approx(264 * 2**0.5)


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((128, 128), (384, 384)),
        ((375, 500), (375, 500)),
        ((100, 90), (400, 360)),
        ((1, 900), (2, 1800)),
        ((1, 5000), (1, 5000)),
        ((3000, 2000), (3000, 2000)),
    ],
)
def test_pictures_of_small_photos_are_enlarged(
    size: tuple[int, int], expected: tuple[int, int]
) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    larger = enlarged(image)
    assert larger.shape == (*expected, 3)
    factor = expected[0] // size[0]
    np.testing.assert_array_equal(larger[::factor, ::factor], image)
