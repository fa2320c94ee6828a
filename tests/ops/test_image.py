# SPDX-License-Identifier: Apache-2.0
"""`ssdops.image` against the functions of `tf.image` that it stands in for."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from support.bits import assert_equal_bits
from support.cases import quantised_boxes, random_boxes, special_boxes, tied_scores
from support.requirements import require_native_op

import ssdops
from ssdops import image

NAMES = image.__all__
CLUSTERS = np.array(
    [
        [0, 0, 1, 1],
        [0, 0.1, 1, 1.1],
        [0, -0.1, 1, 0.9],
        [0, 10, 1, 11],
        [0, 10.1, 1, 11.1],
        [0, 100, 1, 101],
    ],
    np.float32,
)
CLUSTER_SCORES = np.array([0.9, 0.75, 0.6, 0.95, 0.5, 0.3], np.float32)
ERRORS = (ValueError, TypeError, tf.errors.InvalidArgumentError)


@pytest.fixture(autouse=True)
def _native() -> None:
    require_native_op("nms", "float32")


def same(name: str, *arguments: Any, **options: Any) -> Any:
    """Result of our function, after TensorFlow's gave the same bits."""
    expected = getattr(tf.image, name)(*arguments, **options)
    actual = getattr(image, name)(*arguments, **options)
    for a, e in zip(tf.nest.flatten(actual), tf.nest.flatten(expected), strict=True):
        assert_equal_bits(a.numpy(), e.numpy(), name)
    return actual


def same_in_graph(name: str, *arguments: Any, **options: Any) -> None:
    """Our function traced with unknown shapes, against TensorFlow's."""
    expected = getattr(tf.image, name)(*arguments, **options)
    specs = [
        tf.TensorSpec([None] * np.ndim(a), tf.as_dtype(np.asarray(a).dtype))
        for a in arguments
    ]

    @tf.function(input_signature=specs, autograph=False)
    def traced(*tensors: tf.Tensor) -> Any:
        return getattr(image, name)(*tensors, **options)

    actual = traced(*[tf.constant(a) for a in arguments])
    for a, e in zip(tf.nest.flatten(actual), tf.nest.flatten(expected), strict=True):
        assert_equal_bits(a.numpy(), e.numpy(), name)


def random_case(seed: int) -> tuple[Any, Any, dict[str, Any]]:
    """Boxes, scores and options; odd seeds in float16."""
    rng = np.random.default_rng(seed)
    count = int(rng.choice([0, 1, 2, 17, 60, 300, 1200]))
    dtype = (np.float32, np.float16)[seed % 2]
    kind = seed // 2 % 4
    if kind == 0:
        boxes = random_boxes(rng, count, dtype=dtype)
    elif kind == 1:
        boxes = quantised_boxes(rng, count, dtype=dtype)
    elif kind == 2:  # corners of any diagonal
        boxes = rng.uniform(-1, 1, (count, 4)).astype(dtype)
    else:
        with np.errstate(over="ignore"):
            special = special_boxes(dtype)
        boxes = special[rng.integers(0, len(special), count)]
    scores = rng.uniform(-0.2, 1, count).astype(dtype)
    if rng.integers(0, 2):
        scores = tied_scores(rng, count, dtype=dtype, steps=8)
    options = {
        "max_output_size": int(rng.choice([0, 1, 5, 50, 2000])),
        "iou_threshold": dtype(rng.choice([0, 0.1, 0.25, 0.3, 0.5, 0.7, 1])),
        "score_threshold": dtype(rng.choice([-np.inf, 0, 0.3])),
    }
    return boxes, scores, options


@pytest.mark.parametrize("name", NAMES)
def test_signatures(name: str) -> None:
    ours = inspect.signature(getattr(image, name)).parameters
    theirs = inspect.signature(getattr(tf.image, name)).parameters
    assert list(ours) == list(theirs)
    for parameter in ours:
        assert ours[parameter].default == theirs[parameter].default
        assert ours[parameter].kind == theirs[parameter].kind


@pytest.mark.parametrize("seed", range(80))
def test_non_max_suppression(seed: int) -> None:
    boxes, scores, options = random_case(seed)
    same("non_max_suppression", boxes, scores, **options)


@pytest.mark.parametrize("seed", range(80))
def test_with_scores(seed: int) -> None:
    boxes, scores, options = random_case(seed)
    for sigma in (0, 0.1, 0.5):
        same(
            "non_max_suppression_with_scores",
            boxes,
            scores,
            soft_nms_sigma=boxes.dtype.type(sigma),
            **options,
        )


def test_thousands_of_boxes() -> None:
    rng = np.random.default_rng(1)
    size = rng.uniform(60, 140, (4000, 2))
    corner = rng.uniform(0, 3000, (4000, 2))
    boxes = np.concatenate([corner + size, corner], -1).astype(np.float32)
    scores = rng.uniform(0, 1, 4000).astype(np.float32)
    for rows in (10, 300, 4000):
        same("non_max_suppression", boxes, scores, rows)
        same("non_max_suppression", boxes, scores, rows, 0.2)


def test_three_clusters() -> None:
    selected = same("non_max_suppression", CLUSTERS, CLUSTER_SCORES, 3, 0.5)
    assert selected.numpy().tolist() == [3, 0, 5]
    for rows in (0, 2, 3, 30):
        same_in_graph("non_max_suppression", CLUSTERS, CLUSTER_SCORES, np.int32(rows))


def test_flipped_coordinates() -> None:
    flipped = CLUSTERS.copy()
    flipped[::2] = flipped[::2][:, [2, 3, 0, 1]]
    flipped[1] = flipped[1][[0, 3, 2, 1]]
    selected = same("non_max_suppression", flipped, CLUSTER_SCORES, 3, 0.5)
    assert selected.numpy().tolist() == [3, 0, 5]


def test_single_and_identical_boxes() -> None:
    one = np.array([[0, 0, 1, 1]], np.float32)
    assert same("non_max_suppression", one, [0.9], 3).numpy().tolist() == [0]
    ten = np.tile(one, (10, 1))
    scores = np.full(10, 0.9, np.float32)
    assert same("non_max_suppression", ten, scores, 3).numpy().tolist() == [0]


def test_zero_iou_threshold() -> None:
    scores = np.ones(6, np.float32)
    selected = same("non_max_suppression", CLUSTERS, scores, 3, 0.0)
    assert selected.numpy().tolist() == [0, 3, 5]


def test_soft_nms_of_three_clusters() -> None:
    indices, scores = same(
        "non_max_suppression_with_scores",
        CLUSTERS,
        CLUSTER_SCORES,
        6,
        iou_threshold=1.0,
        score_threshold=0.0,
        soft_nms_sigma=0.5,
    )
    assert indices.numpy().tolist() == [3, 0, 1, 5, 4, 2]
    expected = [0.95, 0.9, 0.384, 0.3, 0.256, 0.197]
    np.testing.assert_allclose(scores, expected, atol=1e-3)


def test_python_lists_and_half_thresholds() -> None:
    same("non_max_suppression", CLUSTERS.tolist(), CLUSTER_SCORES.tolist(), 3)
    same("non_max_suppression", [[0, 0, 1, 1], [0, 0, 1, 2]], [1, 2], 2)
    half = CLUSTERS.astype(np.float16)
    scores = CLUSTER_SCORES.astype(np.float16)
    for threshold in (0.3, np.float16(0.3), tf.constant(0.3, tf.float16)):
        limit = tf.cast(-np.inf, tf.convert_to_tensor(threshold).dtype)
        same("non_max_suppression", half, scores, 3, threshold, limit)


SINGLE_ERRORS = [
    ([0.0, 0.0, 1.0, 1.0], [0.9], 3, 0.5, "Shape must be rank 2 but is rank 1"),
    ([[0.0, 0.0, 1.0]], [0.9], 3, 0.5, "Dimension must be 4 but is 3"),
    ([[0.0, 0.0, 1.0, 1.0]], [0.9, 0.75], 3, 0.5, "must be equal, but are 1 and 2"),
    ([[0.0, 0.0, 1.0, 1.0]], [[0.9]], 3, 0.5, "Shape must be rank 1 but is rank 2"),
    ([[0.0, 0.0, 1.0, 1.0]], [0.9], [3], 0.5, "Shape must be rank 0 but is rank 1"),
    ([[0.0, 0.0, 1.0, 1.0]], [0.9], 3, [[0.5]], "Shape must be rank 0 but is rank 2"),
    ([[0.0, 0.0, 1.0, 1.0]], [0.9], 3, -0.5, r"iou_threshold must be in \[0, 1\]"),
    ([[0.0, 0.0, 1.0, 1.0]], [0.9], 3, 1.5, r"iou_threshold must be in \[0, 1\]"),
    ([[0.0, 0.0, 1.0, 1.0]], [0.9], -1, 0.5, "output size must be non-negative"),
]


@pytest.mark.parametrize("name", NAMES[1:2] + NAMES[3:])
@pytest.mark.parametrize(("boxes", "scores", "rows", "limit", "message"), SINGLE_ERRORS)
def test_errors(name, boxes, scores, rows, limit, message) -> None:
    arguments = (tf.constant(boxes), tf.constant(scores), rows, limit)
    with pytest.raises(ERRORS):
        getattr(tf.image, name)(*arguments)
    function = getattr(image, name)
    with pytest.raises(ERRORS, match=message):
        function(*arguments)
    with pytest.raises(ERRORS, match=message):
        tf.function(function, autograph=False)(*arguments)


def test_negative_sigma_is_an_error() -> None:
    for module in (image, tf.image):
        with pytest.raises(ERRORS, match="soft_nms_sigma_val must be >= 0"):
            module.non_max_suppression_with_scores(
                CLUSTERS, CLUSTER_SCORES, 3, soft_nms_sigma=-1.0
            )


def test_other_dtypes_are_refused_as_there() -> None:
    for dtype in (tf.float64, tf.int32):
        boxes, scores = tf.cast(CLUSTERS, dtype), tf.cast(CLUSTER_SCORES, dtype)
        for module in (image, tf.image):
            with pytest.raises(ERRORS):
                module.non_max_suppression(boxes, scores, 3)


@pytest.mark.parametrize("seed", range(60))
def test_combined(seed: int) -> None:
    rng = np.random.default_rng(seed)
    batch, count = int(rng.integers(1, 4)), int(rng.choice([1, 5, 40, 300]))
    classes = int(rng.choice([1, 2, 5, 17, 33]))
    per_row = (1, classes)[seed % 2]
    shape = (batch, count, per_row)
    make = (random_boxes, quantised_boxes)[seed // 2 % 2]
    boxes = make(rng, *shape, dtype=np.float32)
    scores = rng.uniform(-0.2, 1, (batch, count, classes)).astype(np.float32)
    if seed % 3 == 0:  # many are equal, some below the -1 of places not taken
        scores = np.round(scores * 9 - 2).astype(np.float32) / 2
    same(
        "combined_non_max_suppression",
        boxes,
        scores,
        int(rng.choice([1, 5, 50, 300])),
        int(rng.choice([1, 10, 100, 700])),
        iou_threshold=float(rng.choice([0, 0.3, 0.5, 1])),
        score_threshold=float(rng.choice([-np.inf, 0, 0.3])),
        pad_per_class=bool(rng.integers(0, 2)),
        clip_boxes=bool(rng.integers(0, 2)),
    )


@pytest.mark.parametrize("pad_per_class", [False, True])
@pytest.mark.parametrize("clip_boxes", [False, True])
def test_combined_clusters(pad_per_class: bool, clip_boxes: bool) -> None:
    boxes = CLUSTERS[None, :, None]
    scores = np.stack([CLUSTER_SCORES, CLUSTER_SCORES[::-1]], -1)[None]
    arguments = (boxes, scores, np.int32(2), np.int32(9))
    options = {"pad_per_class": pad_per_class, "clip_boxes": clip_boxes}
    same("combined_non_max_suppression", *arguments, **options)
    same_in_graph("combined_non_max_suppression", *arguments, **options)


@pytest.mark.parametrize(
    ("boxes", "scores"),
    [((2, 0, 1, 4), (2, 0, 3)), ((0, 5, 1, 4), (0, 5, 3)), ((2, 5, 1, 4), (2, 5, 0))],
)
def test_combined_without_boxes(boxes: Any, scores: Any) -> None:
    found = image.combined_non_max_suppression(
        np.zeros(boxes, np.float32), np.ones(scores, np.float32), 3, 7
    )
    assert found.nmsed_boxes.shape == (boxes[0], 7, 4)
    assert found.valid_detections.numpy().tolist() == [0] * boxes[0]
    assert not found.nmsed_scores.numpy().any()


def test_combined_static_shapes() -> None:
    def shapes(module: Any, pad_per_class: bool) -> list[Any]:
        with tf.Graph().as_default():
            boxes = tf.compat.v1.placeholder(tf.float32, [None, 20, 1, 4])
            scores = tf.compat.v1.placeholder(tf.float32, [2, None, 3])
            found = module.combined_non_max_suppression(
                boxes, scores, 4, 100, pad_per_class=pad_per_class
            )
            return [tensor.shape.as_list() for tensor in found]

    for pad_per_class in (False, True):
        ours, theirs = (shapes(m, pad_per_class) for m in (image, tf.image))
        assert [shape[1:] for shape in ours] == [shape[1:] for shape in theirs]


COMBINED_ERRORS: list[tuple[dict[str, Any], str | None]] = [
    ({"boxes": np.zeros((1, 6, 4), "f4")}, None),
    ({"boxes": np.zeros((1, 6, 1, 3), "f4")}, None),
    ({"boxes": np.zeros((1, 6, 3, 4), "f4")}, "third dimension of boxes must be"),
    ({"boxes": np.zeros((1, 5, 1, 4), "f4")}, None),
    ({"boxes": np.zeros((2, 6, 1, 4), "f4")}, None),
    ({"scores": np.zeros((6, 2), "f4")}, None),
    ({"max_output_size_per_class": [1]}, None),
    ({"max_output_size_per_class": 0}, None),
    ({"max_total_size": 0}, "max_total_size"),
    ({"max_total_size": 2**31}, "int32"),
    ({"max_total_size": np.int64(2**31)}, "int32"),
    ({"iou_threshold": 1.5}, r"iou_threshold must be in \[0, 1\]"),
    ({"iou_threshold": [0.5]}, None),
]


@pytest.mark.parametrize(("wrong", "message"), COMBINED_ERRORS)
def test_combined_errors(wrong: dict[str, Any], message: str | None) -> None:
    right: dict[str, Any] = {
        "boxes": np.zeros((1, 6, 1, 4), "f4"),
        "scores": np.zeros((1, 6, 2), "f4"),
        "max_output_size_per_class": 3,
        "max_total_size": 7,
    }
    for module in (image, tf.image):
        with pytest.raises(ERRORS, match=message):
            module.combined_non_max_suppression(**{**right, **wrong})


def test_padded_clusters() -> None:
    name = "non_max_suppression_padded"
    boxes, scores = tf.constant(CLUSTERS), tf.constant(CLUSTER_SCORES)
    padded, count = same(name, boxes, scores, 5, pad_to_max_output_size=True)
    assert padded.numpy().tolist() == [3, 0, 5, 0, 0]
    assert count.numpy() == 3
    selected, _ = same(name, boxes, scores, 5)
    assert selected.numpy().tolist() == [3, 0, 5]
    options = {"iou_threshold": 0.5, "score_threshold": 0.55}
    same(name, boxes, scores, 5, pad_to_max_output_size=True, **options)


@pytest.mark.parametrize("batch", [(2,), (2, 3)])
def test_padded_batches(batch: tuple[int, ...]) -> None:
    rng = np.random.default_rng(2)
    boxes = tf.constant(random_boxes(rng, *batch, 40, dtype=np.float32))
    scores = tf.constant(rng.uniform(0, 1, (*batch, 40)), tf.float32)
    name = "non_max_suppression_padded"
    for rows in (3, 40, 60):
        same(name, boxes, scores, rows, pad_to_max_output_size=True)
    with pytest.raises(ValueError, match="pad_to_max_output_size"):
        image.non_max_suppression_padded(boxes, scores, 3)


def test_reference_is_tensorflow_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    called = []
    for name in NAMES:
        monkeypatch.setattr(
            tf.image, name, lambda *_, name=name: called.append(name) or [name]
        )
    with ssdops.implementation("reference"):
        for name in NAMES:
            getattr(image, name)(CLUSTERS, CLUSTER_SCORES, 3, 4)
    assert called == NAMES


def test_xla_through_the_reference() -> None:
    @tf.function(jit_compile=True, autograph=False)
    def compiled(boxes: tf.Tensor, scores: tf.Tensor) -> Any:
        with ssdops.implementation("reference"):
            return image.non_max_suppression_padded(
                boxes, scores, 5, pad_to_max_output_size=True
            )

    assert compiled(CLUSTERS, CLUSTER_SCORES)[0].numpy().tolist() == [3, 0, 5, 0, 0]


def test_not_differentiable() -> None:
    boxes, scores = tf.constant(CLUSTERS), tf.constant(CLUSTER_SCORES)
    with tf.GradientTape() as tape:
        tape.watch([boxes, scores])
        _, kept = image.non_max_suppression_with_scores(boxes, scores, 3)
        found = image.combined_non_max_suppression(
            boxes[None, :, None], scores[None, :, None], 3, 3
        )
        total = tf.reduce_sum(kept) + tf.reduce_sum(found.nmsed_scores)
    assert tape.gradient(total, [boxes, scores]) == [None, None]
