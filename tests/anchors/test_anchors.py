# SPDX-License-Identifier: Apache-2.0
"""Anchor grids against values computed by an independent implementation."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from support.data import data_path

from ssdops.anchors import (
    AnchorGrid,
    AnchorLevel,
    ShapeLevel,
    anchor_grid,
    anchor_grid_names,
    object_detection_grid,
    recipe_sizes,
    ssd300_coco,
    ssd300_mobilenet_v1_coco,
    ssd300_voc,
    ssd512_coco,
    ssd512_voc,
    ssd_small,
)
from ssdops.boxes import yxyx_to_cyxhw, yxyx_to_xyxy


def mobilenet_caffe() -> AnchorGrid:
    """The grid of the Caffe MobileNet-SSD: no steps, a first level without maximum."""
    sizes = ((60, None), (105, 150), (150, 195), (195, 240), (240, 285), (285, 300))
    return AnchorGrid(
        image_size=(300, 300),
        levels=tuple(
            AnchorLevel(
                feature_size=(cells, cells),
                min_sizes=(low,),
                max_sizes=() if high is None else (high,),
                aspect_ratios=(2,) if high is None else (2, 3),
            )
            for cells, (low, high) in zip((19, 10, 5, 3, 2, 1), sizes, strict=True)
        ),
    )


@dataclass(frozen=True)
class Golden:
    """Facts about a grid; boxes are (xmin, ymin, xmax, ymax), rounded to 6 digits.

    Attributes:
        grid: The grid.
        per_level: Anchors of every level.
        sums: Sums of the columns.
        outside: Number of boxes that reach outside the image.
        first: First boxes.
        last: Last boxes.
    """

    grid: AnchorGrid
    per_level: list[int]
    sums: list[float]
    outside: int
    first: list[list[float]]
    last: list[list[float]]


PER_LEVEL_300 = [5776, 2166, 600, 150, 36, 4]
PER_LEVEL_512 = [16384, 6144, 1536, 384, 96, 16, 4]

GOLDEN = {
    "VOC300": Golden(
        ssd300_voc(),
        PER_LEVEL_300,
        [3688.732, 3688.732, 5199.1613, 5199.1613],
        2869,
        [
            [-0.036667, -0.036667, 0.063333, 0.063333],
            [-0.057377, -0.057377, 0.084044, 0.084044],
            [-0.057377, -0.022022, 0.084044, 0.048689],
            [-0.022022, -0.057377, 0.048689, 0.084044],
            [-0.01, -0.036667, 0.09, 0.063333],
            [-0.030711, -0.057377, 0.110711, 0.084044],
        ],
        [
            [0.06, 0.06, 0.94, 0.94],
            [0.019375, 0.019375, 0.980625, 0.980625],
            [-0.122254, 0.188873, 1.122254, 0.811127],
            [0.188873, -0.122254, 0.811127, 1.122254],
        ],
    ),
    "COCO300": Golden(
        ssd300_coco(),
        PER_LEVEL_300,
        [3857.8476, 3857.8476, 5030.0457, 5030.0457],
        2223,
        [
            [-0.021667, -0.021667, 0.048333, 0.048333],
            [-0.037901, -0.037901, 0.064568, 0.064568],
            [-0.036164, -0.011415, 0.062831, 0.038082],
            [-0.011415, -0.036164, 0.038082, 0.062831],
            [0.005, -0.021667, 0.075, 0.048333],
            [-0.011235, -0.037901, 0.091235, 0.064568],
        ],
        [
            [0.065, 0.065, 0.935, 0.935],
            [0.022114, 0.022114, 0.977886, 0.977886],
            [-0.115183, 0.192409, 1.115183, 0.807591],
            [0.192409, -0.115183, 0.807591, 1.115183],
        ],
    ),
    "VOC512 trunc": Golden(
        ssd512_voc(),
        PER_LEVEL_512,
        [10729.2228, 10729.2228, 13834.7772, 13834.7772],
        5486,
        [
            [-0.026367, -0.026367, 0.041992, 0.041992],
            [-0.042554, -0.042554, 0.058179, 0.058179],
            [-0.040525, -0.016356, 0.05615, 0.031981],
            [-0.016356, -0.040525, 0.031981, 0.05615],
            [-0.010742, -0.026367, 0.057617, 0.041992],
            [-0.026929, -0.042554, 0.073804, 0.058179],
        ],
        [
            [0.050781, 0.050781, 0.949219, 0.949219],
            [0.014638, 0.014638, 0.985362, 0.985362],
            [-0.135291, 0.182354, 1.135291, 0.817646],
            [0.182354, -0.135291, 0.817646, 1.135291],
        ],
    ),
    "VOC512 none": Golden(
        ssd512_voc("none"),
        PER_LEVEL_512,
        [10708.9291, 10708.9291, 13855.0709, 13855.0709],
        5486,
        [
            [-0.027188, -0.027188, 0.042813, 0.042813],
            [-0.043422, -0.043422, 0.059047, 0.059047],
            [-0.041685, -0.016936, 0.05731, 0.032561],
            [-0.016936, -0.041685, 0.032561, 0.05731],
            [-0.011563, -0.027188, 0.058438, 0.042813],
            [-0.027797, -0.043422, 0.074672, 0.059047],
        ],
        [
            [0.05, 0.05, 0.95, 0.95],
            [0.013944, 0.013944, 0.986056, 0.986056],
            [-0.136396, 0.181802, 1.136396, 0.818198],
            [0.181802, -0.136396, 0.818198, 1.136396],
        ],
    ),
    "COCO512 trunc": Golden(
        ssd512_coco(),
        PER_LEVEL_512,
        [11195.1589, 11195.1589, 13368.8411, 13368.8411],
        4118,
        [
            [-0.011719, -0.011719, 0.027344, 0.027344],
            [-0.023376, -0.023376, 0.039001, 0.039001],
            [-0.019809, -0.005998, 0.035434, 0.021623],
            [-0.005998, -0.019809, 0.021623, 0.035434],
            [0.003906, -0.011719, 0.042969, 0.027344],
            [-0.007751, -0.023376, 0.054626, 0.039001],
        ],
        [
            [0.050781, 0.050781, 0.949219, 0.949219],
            [0.012383, 0.012383, 0.987617, 0.987617],
            [-0.135291, 0.182354, 1.135291, 0.817646],
            [0.182354, -0.135291, 0.817646, 1.135291],
        ],
    ),
    "COCO512 none": Golden(
        ssd512_coco("none"),
        PER_LEVEL_512,
        [11185.7645, 11185.7645, 13378.2355, 13378.2355],
        4118,
        [
            [-0.012187, -0.012187, 0.027812, 0.027812],
            [-0.02381, -0.02381, 0.039435, 0.039435],
            [-0.020472, -0.00633, 0.036097, 0.021955],
            [-0.00633, -0.020472, 0.021955, 0.036097],
            [0.003438, -0.012187, 0.043437, 0.027812],
            [-0.008185, -0.02381, 0.05506, 0.039435],
        ],
        [
            [0.05, 0.05, 0.95, 0.95],
            [0.011635, 0.011635, 0.988365, 0.988365],
            [-0.136396, 0.181802, 1.136396, 0.818198],
            [0.181802, -0.136396, 0.818198, 1.136396],
        ],
    ),
    "Caffe MobileNet-SSD": Golden(
        mobilenet_caffe(),
        [1083, 600, 150, 54, 24, 6],
        [656.1686, 656.1686, 1260.8314, 1260.8314],
        982,
        [
            [-0.073684, -0.073684, 0.126316, 0.126316],
            [-0.115106, -0.044395, 0.167737, 0.097026],
            [-0.044395, -0.115106, 0.097026, 0.167737],
            [-0.021053, -0.073684, 0.178947, 0.126316],
            [-0.062474, -0.044395, 0.220369, 0.097026],
            [0.008237, -0.115106, 0.149658, 0.167737],
        ],
        [
            [-0.171751, 0.164124, 1.171751, 0.835876],
            [0.164124, -0.171751, 0.835876, 1.171751],
            [-0.322724, 0.225759, 1.322724, 0.774241],
            [0.225759, -0.322724, 0.774241, 1.322724],
        ],
    ),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_grid_has_the_golden_values(name: str) -> None:
    golden = GOLDEN[name]
    boxes = yxyx_to_xyxy(golden.grid.boxes())
    assert boxes.dtype == np.float32
    assert golden.grid.anchors_per_level == golden.per_level
    assert golden.grid.num_anchors == len(boxes) == sum(golden.per_level)
    np.testing.assert_allclose(boxes[:6], golden.first, rtol=0, atol=1e-6)
    np.testing.assert_allclose(boxes[-4:], golden.last, rtol=0, atol=1e-6)
    sums = boxes.astype(np.float64).sum(axis=0)
    np.testing.assert_allclose(sums, golden.sums, rtol=0, atol=1e-4)
    outside = ((boxes < 0) | (boxes > 1)).any(axis=1)
    assert int(outside.sum()) == golden.outside


@pytest.mark.parametrize(
    ("make", "difference"), [(ssd512_voc, 0.0013531595), (ssd512_coco, 0.001623869)]
)
def test_truncated_sizes_change_the_512_grids(make: Any, difference: float) -> None:
    found = np.abs(make("trunc").boxes() - make("none").boxes()).max()
    assert found == pytest.approx(difference, abs=1e-6)


@pytest.mark.parametrize("make", [ssd300_voc, ssd300_coco])
def test_300_grids_have_whole_sizes_already(make: Any) -> None:
    exact = replace(make(), size_rounding="none")
    np.testing.assert_array_equal(make().boxes(), exact.boxes())


def test_explicit_steps_put_centres_outside_the_image() -> None:
    """38 cells of 8 pixels end at 304 of 300, 10 cells of 32 pixels at 320."""
    grid = ssd300_voc()
    for level, last in ((0, 1.0), (2, 304 / 300)):
        box = grid.level_boxes(level)[-1, -1, 0]
        assert (box[0] + box[2]) / 2 == pytest.approx(last, abs=1e-6)


def test_order_is_row_column_shape() -> None:
    grid = AnchorGrid((40, 60), (ShapeLevel((2, 3), ((4, 6), (10, 8))),))
    centres = yxyx_to_cyxhw(grid.boxes()) * [40, 60, 40, 60]
    expected = [
        (y, x, h, w)
        for y in (10, 30)
        for x in (10, 30, 50)
        for h, w in ((4, 6), (10, 8))
    ]
    np.testing.assert_allclose(centres, expected, rtol=1e-5)
    np.testing.assert_array_equal(grid.boxes().reshape(2, 3, 2, 4), grid.level_boxes(0))


def test_a_ratio_is_width_over_height() -> None:
    level = AnchorLevel((1, 1), (16,), (25,), (4,))
    np.testing.assert_allclose(
        level.cell_shapes(), [[16, 16], [20, 20], [8, 32], [32, 8]]
    )
    assert level.boxes_per_cell == 4


def test_ratios_are_deduplicated_as_in_caffe() -> None:
    """The listed ratio is tested, its reciprocal is not."""
    assert AnchorLevel((1, 1), (8,), (), (1, 2, 0.5, 2)).effective_ratios() == (
        1,
        2,
        0.5,
    )
    assert AnchorLevel((1, 1), (8,), (), (2, 3), flip=False).effective_ratios() == (
        1,
        2,
        3,
    )


def test_several_sizes_follow_one_another() -> None:
    level = AnchorLevel((1, 1), (4, 9), (9, 16), (4,))
    np.testing.assert_allclose(
        level.cell_shapes(),
        [[4, 4], [6, 6], [2, 8], [8, 2], [9, 9], [12, 12], [4.5, 18], [18, 4.5]],
    )


def test_clip_and_offset() -> None:
    level = ShapeLevel((1, 1), ((20, 20),))
    grid = AnchorGrid((10, 10), (level,), offset=0.0)
    np.testing.assert_allclose(grid.boxes(), [[-1, -1, 1, 1]])
    np.testing.assert_allclose(replace(grid, clip=True).boxes(), [[0, 0, 1, 1]])


@pytest.mark.parametrize(
    ("make", "first", "low", "expected"),
    [
        (ssd300_voc, (10, 20), 20, [30, 60, 111, 162, 213, 264, 315]),
        (ssd300_coco, (7, 15), 15, [21, 45, 99, 153, 207, 261, 315]),
    ],
)
def test_recipe_gives_the_published_sizes(
    make: Any, first: tuple[float, float], low: int, expected: list[float]
) -> None:
    sizes = recipe_sizes(300, 6, first, low, 90)
    assert [s for s, _ in sizes] == expected[:-1]
    assert [s for _, s in sizes] == expected[1:]
    assert [level.min_sizes[0] for level in make().levels] == expected[:-1]


def test_mobilenet_grid_is_that_of_the_object_detection_api() -> None:
    """Rows that this code computed from its published configuration."""
    rows = {
        0: (-0.023684211, -0.023684211, 0.076315790, 0.076315790),
        1: (-0.044394892, -0.115105569, 0.097026467, 0.167737156),
        1083: (-0.125, -0.125, 0.225, 0.225),
        1084: (-0.073743686, -0.197487369, 0.173743680, 0.297487378),
        1087: (-0.253124028, -0.051031243, 0.353124052, 0.151031241),
        1088: (-0.159165010, -0.159165010, 0.259165019, 0.259165019),
        1916: (0.012660295, 0.012660295, 0.987339735, 0.987339735),
    }
    boxes = ssd300_mobilenet_v1_coco().boxes()
    np.testing.assert_allclose(boxes[list(rows)], list(rows.values()), atol=2e-7)


def test_object_detection_grid_of_wide_images() -> None:
    """Sizes are relative to the shorter side, in both directions."""
    grid = object_detection_grid((240, 480))
    assert [level.feature_size for level in grid.levels] == [
        *((15, 30), (8, 15), (4, 8), (2, 4), (1, 2), (1, 1))
    ]
    centres = yxyx_to_cyxhw(grid.boxes().astype(np.float64))
    rows = {
        0: (0.5 / 15, 0.5 / 30, 0.1, 0.05),
        1: (0.5 / 15, 0.5 / 30, 0.2 / 2**0.5, 0.1 * 2**0.5),
        3 * 15 * 30 + 1: (0.5 / 8, 0.5 / 15, 0.35 / 2**0.5, 0.175 * 2**0.5),
        grid.num_anchors - 1: (0.5, 0.5, 0.95**0.5, 0.95**0.5 / 2),
    }
    np.testing.assert_allclose(centres[list(rows)], list(rows.values()), atol=1e-6)


def test_mobilenet_grid_agrees_with_the_stored_anchors() -> None:
    """Stored anchors are bytes: half a step off at most, large ones cut at byte 255."""
    with np.load(
        data_path("weights/coco_ssd_mobilenet_v1_quant/weights_dequant_float32.npz")
    ) as arrays:
        stored = arrays["anchors"].reshape(-1, 4)
        step, zero_point = (float(v) for v in arrays["anchors|scale_zp"][:2])
    expected = yxyx_to_cyxhw(ssd300_mobilenet_v1_coco().boxes().astype(np.float64))
    assert stored.shape == (1917, 4)
    low, high = -zero_point * step, (255 - zero_point) * step
    difference = np.abs(stored - np.clip(expected, low, high))
    assert difference.max() <= 0.5 * step + 1e-5
    # Neighbouring values of the grid are told apart: the comparison means something.
    wrong = np.abs(stored - np.clip(expected[:, [1, 0, 2, 3]], low, high))
    assert wrong.max() > 10 * step


@pytest.mark.parametrize("name", anchor_grid_names())
def test_json_round_trip(name: str) -> None:
    grid = anchor_grid(name)
    again = AnchorGrid.from_dict(json.loads(json.dumps(grid.to_dict())))
    assert again == grid
    np.testing.assert_array_equal(again.boxes(), grid.boxes())


@pytest.mark.parametrize("size", [(128, 128), (96, 160), (64, 32), (512, 512)])
def test_small_grid_fits_its_size(size: tuple[int, int]) -> None:
    grid = ssd_small(size)
    strides = [8 << index for index in range(len(grid.levels))]
    assert 4 * strides[-1] <= min(size) < 8 * strides[-1]
    for stride, level in zip(strides, grid.levels, strict=True):
        assert level.feature_size == tuple(-(-side // stride) for side in size)
        shapes = level.cell_shapes(grid.size_rounding)
        assert shapes[0].tolist() == [2 * stride] * 2
        assert shapes[1, 0] == pytest.approx(2 * math.sqrt(2) * stride)


LEVEL = AnchorLevel((2, 2), (10,))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: anchor_grid("ssd900"), "unknown anchor grid 'ssd900'"),
        (lambda: ssd_small((100, 128)), "multiples of 32"),
        (lambda: AnchorLevel((2, 2), ()), "at least one size"),
        (lambda: AnchorLevel((2, 2), (-1,)), "min_sizes must be positive"),
        (lambda: AnchorLevel((2, 2), (math.nan,)), "min_sizes must be positive"),
        (lambda: AnchorLevel((2, 2), (True,)), "min_sizes must be positive"),
        (lambda: AnchorLevel((2, 2), (10,), (10,)), "larger than their min_sizes"),
        (lambda: AnchorLevel((2, 2), (10,), (20, 30)), "pair with the 1 min_sizes"),
        (lambda: AnchorLevel((2, 2), (10,), (), (0,)), "aspect_ratios must be"),
        (lambda: AnchorLevel((0, 2), (10,)), "feature_size must be positive"),
        (lambda: AnchorLevel((2, 2, 2), (10,)), "feature_size must have 2"),
        (lambda: AnchorLevel((2.5, 2), (10,)), "two integers"),  # type: ignore[arg-type]
        (lambda: AnchorLevel((2, 2), (10,), step=(0, 8)), "step must be positive"),
        (lambda: AnchorLevel((2, 2), (10,), flip=1), "flip must be true or false"),  # type: ignore[arg-type]
        (lambda: ShapeLevel((2, 2), ()), "at least one"),
        (lambda: ShapeLevel((2, 2), ((1, 2, 3),)), "shapes must have 2"),  # type: ignore[arg-type]
        (lambda: AnchorGrid((10, 10), ()), "at least one level"),
        (lambda: AnchorGrid((10, 10), ("x",)), "must be AnchorLevel or"),  # type: ignore[arg-type]
        (lambda: AnchorGrid((0, 10), (LEVEL,)), "image_size must be positive"),
        (lambda: AnchorGrid((10, 10), (LEVEL,), offset=2), r"lie in \[0, 1\]"),
        (lambda: AnchorGrid((10, 10), (LEVEL,), size_rounding="up"), "size_rounding"),
        (
            lambda: AnchorGrid((10, 10), (LEVEL,), variances=(0.1, 0.1, 0.2)),  # type: ignore[arg-type]
            "variances must have 4",
        ),
        (
            lambda: AnchorGrid((10, 10), (AnchorLevel((9000, 9000), (10,)),)),
            "at most 4000000 anchors",
        ),
        (
            lambda: AnchorGrid((10, 10), (AnchorLevel((2, 2), (0.5,)),)),
            "size 0 after rounding",
        ),
        (lambda: recipe_sizes(300, 2, (10, 20), 20, 90), "levels must be at least 3"),
    ],
)
def test_values_outside_their_range_are_refused(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"levels": None}, "levels must be a list"),
        ({"levels": [3]}, r"levels\[0\] must be an object"),
        ({"levels": [{"min_sizes": [3]}]}, r"levels\[0\] is incomplete"),
        ({"levels": [{"feature_size": [1, 1], "size": 3}]}, r"unknown entries"),
        ({"levels": [{"feature_size": "ab", "min_sizes": [3]}]}, "list of numbers"),
        ({"colour": "red"}, r"unknown entries \['colour'\]"),
        ({"image_size": None}, "image_size must be a list"),
        ({"offset": "a"}, "offset must be a number"),
        ({"clip": "yes"}, "clip must be true or false"),
        ({"size_rounding": []}, "size_rounding must be"),
    ],
)
def test_malformed_descriptions_are_refused(
    change: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        AnchorGrid.from_dict({**ssd300_voc().to_dict(), **change})


def test_incomplete_descriptions_are_refused() -> None:
    with pytest.raises(ValueError, match="must be an object"):
        AnchorGrid.from_dict([1, 2])
    with pytest.raises(ValueError, match="anchors is incomplete"):
        AnchorGrid.from_dict({"levels": [{"feature_size": [1, 1], "min_sizes": [3]}]})
