# SPDX-License-Identifier: Apache-2.0
"""The nms kernel through its NumPy binding, against the oracle."""

from __future__ import annotations

import re
from types import ModuleType
from typing import Any

import numpy as np
import oracles.nms as oracle
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ml_dtypes import bfloat16
from oracles.box_iou import iou
from support import strategies
from support.binding import expect_error, expect_thread_count_error
from support.bits import assert_all_equal_bits
from support.buffers import run_kernel
from support.cases import (
    SIZES,
    beside,
    quantised_boxes,
    random_boxes,
    special_boxes,
    ssd300_anchors,
    tied_scores,
)

FULL_DTYPES = (np.float32, np.float64)
DTYPES = (*FULL_DTYPES, np.float16, bfloat16)
NAMES = ("indices", "num_valid")


def check(native: ModuleType, boxes: Any, scores: Any, **options: Any) -> Any:
    """The kernel's result, after it was compared with the slow oracle's."""
    result = run_kernel(native.nms, boxes, scores, **options)
    assert_all_equal_bits(result, oracle.nms(boxes, scores, **options), NAMES)
    return result


def check_many(native: ModuleType, boxes: Any, scores: Any, **options: Any) -> Any:
    """The same for thousands of boxes."""
    # An emulated GPU takes seconds for a thousand boxes that are kept.
    several_slices = len(boxes) == 2049 and boxes.dtype == np.float32
    if native.cuda_is_emulated() and len(boxes) > 300 and not several_slices:
        result = run_kernel(native.nms, boxes, scores, compare_device=None, **options)
    else:
        result = run_kernel(native.nms, boxes, scores, **options)
    expected = oracle.nms_of_many(boxes, scores, **options)
    assert_all_equal_bits(result, expected, NAMES)
    return result


def spread(rng: np.random.Generator, count: int, dtype: Any, side: float = 78) -> Any:
    """Boxes with sides of 60 to 140, about one per square of this side."""
    size = rng.uniform(60, 140, (count, 2))
    centre = rng.uniform(0, side * np.sqrt(count), (count, 2))
    return np.concatenate([centre - size / 2, centre + size / 2], -1).astype(dtype)


def clustered(rng: np.random.Generator, count: int, dtype: Any) -> Any:
    """About twenty boxes around each of some places."""
    places = spread(rng, count // 20 + 1, np.float64, 200)
    boxes = places[rng.integers(0, len(places), count)]
    return (boxes + rng.normal(0, 6, boxes.shape)).astype(dtype)


def random_options(rng: np.random.Generator, count: int) -> dict[str, Any]:
    return {
        "score_threshold": float(rng.choice([-np.inf, -1, 0, 0.25, 0.5, np.inf])),
        "iou_threshold": float(rng.integers(0, 9) / 8),
        "max_output_size": int(rng.choice([-1, 0, 1, 3, 10, count + 1])),
        "any_diagonal": bool(rng.integers(0, 2)),
    }


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("count", SIZES)
def test_sizes(native: ModuleType, count: int, dtype: type) -> None:
    rng = np.random.default_rng(count)
    boxes = quantised_boxes(rng, count, dtype=dtype)
    scores = tied_scores(rng, count, dtype=dtype)
    check(native, boxes, scores)
    for rows in (0, 15, 16, 17):
        check(native, boxes, scores, max_output_size=rows)


@pytest.mark.parametrize("seed", range(100))
def test_ties_and_options(native: ModuleType, seed: int) -> None:
    rng = np.random.default_rng(seed)
    dtype = DTYPES[seed % 4]
    count = int(rng.integers(0, 50))
    boxes = quantised_boxes(rng, count, dtype=dtype, steps=int(rng.integers(2, 9)))
    scores = tied_scores(rng, count, dtype=dtype, steps=int(rng.integers(1, 9)))
    check(native, boxes, scores, **random_options(rng, count))


@given(data=st.data())
def test_grid(data: Any, native: ModuleType) -> None:
    count = data.draw(st.integers(0, 10))
    dtype = data.draw(st.sampled_from(FULL_DTYPES))
    boxes = data.draw(strategies.boxes(count, dtype))
    quarters = st.lists(st.integers(0, 4), min_size=count, max_size=count)
    scores = (np.array(data.draw(quarters)) / 4).astype(dtype)
    limit = data.draw(st.integers(0, 8)) / 8
    check(native, boxes, scores, iou_threshold=limit)


@pytest.mark.parametrize("dtype", FULL_DTYPES)
def test_special_boxes_and_scores(native: ModuleType, dtype: type) -> None:
    boxes = special_boxes(dtype)
    tiny = float(np.finfo(dtype).smallest_subnormal)
    values = [-np.inf, -1, -tiny, -0.0, 0.0, tiny, 0.25, 1, np.inf, np.nan, -np.nan]
    for seed in range(20):
        rng = np.random.default_rng(seed)
        scores = rng.choice(values, len(boxes)).astype(dtype)
        check(native, boxes, scores, **random_options(rng, len(boxes)))


@pytest.mark.parametrize("dtype", FULL_DTYPES)
@pytest.mark.parametrize("limit", [0.0, 1e-30, 0.25, 0.5, 0.75])
def test_special_boxes_among_many(
    native: ModuleType, dtype: type, limit: float
) -> None:
    rng = np.random.default_rng(1)
    boxes = np.concatenate([spread(rng, 700, dtype) / 100, special_boxes(dtype)])
    boxes = rng.permutation(np.concatenate([boxes, boxes[:300]]))
    scores = tied_scores(rng, len(boxes), dtype=dtype, steps=100)
    check_many(native, boxes, scores, iou_threshold=limit)
    check_many(native, boxes, scores, iou_threshold=limit, any_diagonal=True)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("make", [spread, clustered])
@pytest.mark.parametrize("count", [191, 193, 257, 1000, 2048, 2049, 4097])
def test_many(native: ModuleType, make: Any, count: int, dtype: type) -> None:
    rng = np.random.default_rng(count)
    boxes = make(rng, count, dtype)
    scores = rng.normal(0, 1, count).astype(dtype)
    for limit in (0.3, 0.5, 0.8):
        check_many(native, boxes, scores, iou_threshold=limit)


@pytest.mark.parametrize("make", [spread, clustered])
def test_twenty_thousand(native: ModuleType, make: Any) -> None:
    rng = np.random.default_rng(2)
    boxes = make(rng, 20000, np.float32)
    check_many(native, boxes, rng.uniform(0, 1, 20000).astype(np.float32))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rows", [1, 5, 100, 512, 513, 700, 3000])
def test_few_rows_of_many(native: ModuleType, rows: int, dtype: type) -> None:
    rng = np.random.default_rng(rows)
    for boxes in (spread(rng, 5000, dtype), clustered(rng, 5000, dtype)):
        scores = rng.uniform(0, 1, 5000).astype(dtype)
        check_many(native, boxes, scores, max_output_size=rows)
        ties = tied_scores(rng, 5000, dtype=dtype)
        check_many(native, boxes, ties, max_output_size=rows, score_threshold=0.1)


def widely_different_sizes(rng: np.random.Generator, count: int, dtype: Any) -> Any:
    size = np.exp(rng.uniform(np.log(1e-3), np.log(1e3), (count, 2)))
    centre = rng.uniform(0, 100, (count, 2))
    return np.concatenate([centre - size / 2, centre + size / 2], -1).astype(dtype)


def one_huge_box(rng: np.random.Generator, count: int, dtype: Any) -> Any:
    boxes = spread(rng, count, dtype)
    boxes[rng.integers(0, count, 3)] = [-1e6, -1e6, 1e6, 1e6]
    return boxes


def one_place(rng: np.random.Generator, count: int, dtype: Any) -> Any:
    return np.tile(np.array([[3, 4, 5, 6]], dtype), (count, 1))


def nested(rng: np.random.Generator, count: int, dtype: Any) -> Any:
    size = np.exp(rng.uniform(-5, 5, (count, 1))) * [[1, 1]]
    return np.concatenate([-size, size], 1).astype(dtype)


def thin_lines(rng: np.random.Generator, count: int, dtype: Any) -> Any:
    top = np.arange(count)[:, None] / 4.0
    return np.concatenate([top, 0 * top, top + 1, 0 * top + 5000], 1).astype(dtype)


def far_away(rng: np.random.Generator, count: int, dtype: Any) -> Any:
    boxes = clustered(rng, count, np.float64)
    boxes[::7] += 1e7
    boxes[::11] -= 1e12
    return boxes.astype(dtype)


def empty_ones(rng: np.random.Generator, count: int, dtype: Any) -> Any:
    boxes = clustered(rng, count, dtype)
    boxes[::2, 2:] = boxes[::2, :2]
    return boxes


def infinite_ones(rng: np.random.Generator, count: int, dtype: Any) -> Any:
    boxes = clustered(rng, count, dtype)
    boxes[::5, 3] = np.inf
    boxes[::7, 0] = -np.inf
    boxes[::9, 1] = np.nan
    return boxes


def vanishing(rng: np.random.Generator, count: int, dtype: Any) -> Any:
    boxes = clustered(rng, count, np.float64)
    return (boxes * np.float64(2.0) ** -70).astype(dtype)


def vanishing_and_enormous(rng: np.random.Generator, count: int, dtype: Any) -> Any:
    boxes = clustered(rng, count, np.float64)
    scale = rng.choice([2.0**-75, 2.0**-52, 1, 2.0**55, 2.0**62], (count, 1))
    return (boxes * scale).astype(dtype)


def edges_of_cells(rng: np.random.Generator, count: int, dtype: Any) -> Any:
    corner = rng.integers(-40, 40, (count, 2)) * 4.0
    size = 2.0 ** rng.integers(1, 6, (count, 2))
    return np.concatenate([corner, corner + size], 1).astype(dtype)


def anchors(rng: np.random.Generator, count: int, dtype: Any) -> Any:
    return rng.permutation(ssd300_anchors(dtype))[:count]


HARD = [
    widely_different_sizes,
    one_huge_box,
    one_place,
    nested,
    thin_lines,
    far_away,
    empty_ones,
    infinite_ones,
    vanishing,
    vanishing_and_enormous,
    edges_of_cells,
    anchors,
]


@pytest.mark.parametrize("dtype", FULL_DTYPES)
@pytest.mark.parametrize("count", [500, 2500])
@pytest.mark.parametrize("make", HARD)
def test_what_is_hard_for_cells(
    native: ModuleType, make: Any, count: int, dtype: type
) -> None:
    # With the lower count, the first boxes are compared with all others.
    rng = np.random.default_rng(3)
    boxes = make(rng, count, dtype)
    scores = rng.uniform(0, 1, len(boxes)).astype(dtype)
    for limit in (0.0, 1e-7, 0.1, 0.5, 0.95, 1.0):
        check_many(native, boxes, scores, iou_threshold=limit)


@pytest.mark.parametrize("dtype", FULL_DTYPES)
def test_the_two_oracles_agree(dtype: type) -> None:
    rng = np.random.default_rng(4)
    for make in HARD:
        boxes = make(rng, 150, dtype)
        scores = tied_scores(rng, 150, dtype=dtype, steps=30)
        for limit in (0.0, 0.4):
            expected = oracle.nms(boxes, scores, iou_threshold=limit)
            actual = oracle.nms_of_many(boxes, scores, iou_threshold=limit)
            assert_all_equal_bits(actual, expected, NAMES)


@pytest.mark.parametrize("dtype", FULL_DTYPES)
@pytest.mark.parametrize("copies", [1, 150])
def test_iou_threshold_and_its_neighbours(
    native: ModuleType, dtype: type, copies: int
) -> None:
    # Many copies far apart go through the cells, a single pair does not.
    rng = np.random.default_rng(5)
    apart = (np.arange(copies) * 8)[:, None, None]
    for _ in range(20):
        first = random_boxes(rng, dtype=dtype)
        second = first + rng.normal(0, 0.02, 4).astype(dtype)
        boxes = np.stack([first, second]) + apart.astype(dtype)
        ious = np.array([iou(*pair) for pair in boxes])
        if not ((ious > 0) & (ious < 1)).all():
            continue
        scores = rng.permutation(np.linspace(0.1, 0.9, 2 * copies)).astype(dtype)
        for limit in beside(ious[0]):
            result = check_many(
                native, boxes.reshape(-1, 4), scores, iou_threshold=limit
            )
            assert result[1] == copies + (ious <= dtype(limit)).sum()


@pytest.mark.parametrize("dtype", FULL_DTYPES)
def test_score_threshold_and_its_neighbours(native: ModuleType, dtype: type) -> None:
    boxes = np.array([[0, 0, 1, 1]], dtype)
    scores = np.array([0.01], dtype)
    limits = (*beside(scores[0]), 0.01)
    for limit, count in zip(limits, (1, 0, 0, 0), strict=True):
        assert check(native, boxes, scores, score_threshold=limit)[1] == count


@pytest.mark.parametrize("dtype", FULL_DTYPES)
def test_distinct_scores_of_neighbouring_bits(native: ModuleType, dtype: type) -> None:
    rng = np.random.default_rng(6)
    word = np.dtype(f"u{np.dtype(dtype).itemsize}")
    for count in (20, 300, 5000):
        steps = rng.permutation(np.arange(count)).astype(word)
        scores = (np.array(0.5, dtype).view(word) + steps).view(dtype)
        boxes = spread(rng, count, dtype)
        check_many(native, boxes, scores)
        check_many(native, boxes, -scores, max_output_size=50)
        equal = np.full(count, -2.5, dtype)
        check_many(native, boxes, equal)
        check_many(native, boxes, equal, max_output_size=50)


@pytest.mark.parametrize("dtype", FULL_DTYPES)
def test_scores_alike_in_their_highest_bits(native: ModuleType, dtype: type) -> None:
    rng = np.random.default_rng(8)
    word = np.dtype(f"u{np.dtype(dtype).itemsize}")
    for count in (30, 600, 3000):
        # One far score widens the range of bits in which they differ.
        scores = np.array(0.5, dtype).view(word) + rng.integers(0, 40, count)
        scores = scores.astype(word).view(dtype)
        scores[count // 2] = 1e30
        boxes = spread(rng, count, dtype)
        check_many(native, boxes, scores, iou_threshold=0.1)
        check_many(native, boxes, scores, score_threshold=-np.inf, max_output_size=7)


@pytest.mark.parametrize("kept", [63, 64, 65, 66])
@pytest.mark.parametrize("copies", [1, 4, 10])
def test_kept_and_left_boxes(native: ModuleType, kept: int, copies: int) -> None:
    # As many places as boxes are compared with all others, or one more or less.
    rng = np.random.default_rng(kept)
    places = np.arange(kept)[:, None] * 10.0 + [0, 0, 5, 5]
    boxes = np.repeat(places, copies, 0).astype(np.float32)
    boxes = np.concatenate([boxes, boxes[:200]])
    scores = rng.uniform(0, 1, len(boxes)).astype(np.float32)
    assert check_many(native, boxes, scores)[1] == kept
    # The best box of every place comes first, or the places one after another.
    first = np.sort(scores)[::-1]
    assert check_many(native, boxes, first)[1] == kept
    order = np.argsort(np.arange(len(boxes)) % copies, kind="stable")
    assert check_many(native, boxes[order], first)[1] == kept


@pytest.mark.parametrize("crowds", [64, 70])
@pytest.mark.parametrize("alone", [0, 1, 15, 16, 17, 150, 192, 193, 400])
def test_lone_boxes_behind_crowds(native: ModuleType, alone: int, crowds: int) -> None:
    # The first boxes suppress many, those that are left none.
    rng = np.random.default_rng(9)
    places = np.arange(crowds + alone)[:, None] * 10.0 + [0, 0, 5, 5]
    boxes = np.concatenate([np.repeat(places[:crowds], 12, 0), places[crowds:]])
    boxes = boxes.astype(np.float32)
    scores = np.sort(rng.uniform(0, 1, len(boxes)))[::-1].astype(np.float32)
    for rows in (-1, 600):
        found = check_many(native, boxes, scores, max_output_size=rows)
        assert found[1] == crowds + alone


def test_more_rows_only_add_rows(native: ModuleType) -> None:
    rng = np.random.default_rng(7)
    boxes = clustered(rng, 3000, np.float32)
    scores = tied_scores(rng, 3000, dtype=np.float32, steps=200)
    whole, count = native.nms(boxes, scores)
    for rows in (1, 50, 130, 3001):
        some, found = native.nms(boxes, scores, max_output_size=rows)
        assert found == min(rows, count)
        assert (some[:found] == whole[:found]).all()
        assert (some[found:] == -1).all()


def test_shape_errors(native: ModuleType) -> None:
    boxes = np.zeros((7, 4), np.float32)
    scores = np.zeros(7, np.float32)
    for wrong in (boxes[0], boxes[None], boxes[:, :3]):
        text = ", ".join(map(str, wrong.shape))
        message = f"boxes must have shape [N, 4], got [{text}]"
        expect_error(native.nms, wrong, scores, message=message)
    for wrong in (scores[:6], scores[None], boxes):
        text = ", ".join(map(str, wrong.shape))
        with pytest.raises(ValueError, match=re.escape(f"of boxes, got [{text}]")):
            native.nms(boxes, wrong)


def test_dtype_errors(native: ModuleType) -> None:
    boxes = np.zeros((7, 4), np.float32)
    scores = np.zeros(7, np.float32)
    expect_error(
        native.nms,
        boxes.astype(np.int32),
        scores,
        message="boxes must have dtype float16, bfloat16, float32 or float64",
    )
    expect_error(
        native.nms,
        boxes,
        scores.astype(np.float64),
        message="scores must have dtype float32, got float64",
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"score_threshold": float("nan")}, "score_threshold must be"),
        ({"iou_threshold": float("nan")}, "iou_threshold must be in [0, 1], got nan"),
        ({"iou_threshold": 1.25}, "iou_threshold must be in [0, 1], got 1.25"),
        ({"iou_threshold": -0.25}, "iou_threshold must be in [0, 1], got -0.25"),
        ({"max_output_size": -2}, "max_output_size must be at least -1, got -2"),
    ],
)
def test_option_errors(
    native: ModuleType, options: dict[str, Any], message: str
) -> None:
    boxes = np.zeros((7, 4), np.float32)
    expect_error(native.nms, boxes, boxes[:, 0], **options, message=message)


def test_output_and_thread_errors(native: ModuleType) -> None:
    boxes = np.zeros((5, 4), np.float32)
    scores = np.zeros(5, np.float32)
    indices = np.zeros(5, np.int32)
    with pytest.raises(ValueError, match="out must have 2 arrays"):
        native.nms(boxes, scores, out=(indices,))
    with pytest.raises(ValueError, match="out for num_valid must be"):
        native.nms(boxes, scores, out=(indices, indices))
    expect_thread_count_error(native.nms, boxes, scores)
