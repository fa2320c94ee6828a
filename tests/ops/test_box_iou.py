# SPDX-License-Identifier: Apache-2.0
"""Public `box_iou`: every implementation and way to run it against the oracle."""

from __future__ import annotations

import re

import numpy as np
import oracles.box_iou as oracle
import pytest
import tensorflow as tf
from support.bits import assert_equal_bits, assert_within
from support.cases import quantised_boxes, random_boxes, special_boxes, ssd300_anchors
from support.contracts import (
    expect_runtime_error,
    expect_static_error,
    static_shapes,
)
from support.modes import (
    EAGER_MODES,
    FULL_DTYPES,
    HALF_DTYPES,
    IMPLEMENTATIONS,
    MODES,
    Mode,
)
from support.requirements import require_native_op
from support.tolerances import (
    ciou_tolerance,
    diou_tolerance,
    iou_gradient_tolerance,
)

from ssdops import box_iou

F32 = tf.float32
KINDS = tuple(oracle.KINDS)


def expect(result, expected, kind: str, *, compiled: bool = False) -> None:
    """Equal in every bit, or as far as arctangents and XLA are."""
    if kind == "ciou":
        assert_within(result, expected, ciou_tolerance(expected.dtype), kind)
    elif kind == "diou" and compiled and expected.dtype.itemsize > 2:
        assert_within(result, expected, diou_tolerance(expected.dtype), kind)
    else:
        assert_equal_bits(result, expected, kind)


def all_kinds(boxes_a, boxes_b, **options):
    """`box_iou` of every kind, in one graph."""
    return [box_iou(boxes_a, boxes_b, kind=kind, **options) for kind in KINDS]


all_kinds.__name__ = "box_iou"


def expect_all_kinds(mode: Mode, a, b, *, aligned: bool = False) -> None:
    """Every kind as the oracle has it; half types within float32."""
    wide = [x.astype(np.float32) if x.dtype.itemsize == 2 else x for x in (a, b)]
    results = mode.run(all_kinds, a, b, aligned=aligned)
    for kind, result in zip(KINDS, results, strict=True):
        of_pairs = oracle.box_iou_aligned if aligned else oracle.box_iou
        expected = of_pairs(*wide, kind=kind).astype(a.dtype)
        expect(result, expected, kind, compiled=mode.how == "xla")


def gradients(mode: Mode, grad, a, b, *, kinds=KINDS, **options):
    """Per kind, the gradients of `box_iou` by the tape, in the given mode."""
    if mode.implementation == "native":
        require_native_op("box_iou", np.asarray(a).dtype.name)
    options["implementation"] = mode.implementation

    def of_kinds(upstream, boxes_a, boxes_b):
        results = []
        for kind in kinds:
            with tf.GradientTape() as tape:
                tape.watch([boxes_a, boxes_b])
                value = box_iou(boxes_a, boxes_b, kind=kind, **options)
            results.append(
                tape.gradient(value, [boxes_a, boxes_b], output_gradients=upstream)
            )
        return results

    if mode.how != "eager":
        of_kinds = tf.function(of_kinds, jit_compile=mode.how == "xla", autograph=False)
    tensors = [tf.convert_to_tensor(x) for x in (grad, a, b)]
    return [[side.numpy() for side in sides] for sides in of_kinds(*tensors)]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", FULL_DTYPES)
def test_special_boxes(mode: Mode, dtype: type) -> None:
    expect_all_kinds(mode, special_boxes(dtype), special_boxes(dtype))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", FULL_DTYPES)
def test_random_boxes(mode: Mode, dtype: type) -> None:
    rng = np.random.default_rng(1)
    a = random_boxes(rng, 33, dtype=dtype)
    b = quantised_boxes(rng, 17, dtype=dtype)
    b[::2] = random_boxes(rng, 9, dtype=dtype)
    expect_all_kinds(mode, a, b)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("shape", [(0,), (19,), (2, 3, 5)])
def test_aligned_boxes(mode: Mode, shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(9)
    a = random_boxes(rng, *shape, dtype=np.float32)
    b = quantised_boxes(rng, *shape, dtype=np.float32)
    expect_all_kinds(mode, a, b, aligned=True)


@pytest.mark.parametrize("mode", MODES)
def test_gradients_are_slopes(mode: Mode) -> None:
    rng = np.random.default_rng(10)
    a, b = random_boxes(rng, 12, dtype="f8"), random_boxes(rng, 12, dtype="f8")
    grad = rng.normal(0, 1, 12)
    results = gradients(mode, grad, a, b, aligned=True)
    for kind, (by_a, by_b) in zip(KINDS, results, strict=True):
        for i in range(len(a)):
            slopes = oracle.derivative(a[i], b[i], kind=kind)
            for result, slope in zip((by_a[i], by_b[i]), slopes, strict=True):
                expected = grad[i] * slope
                np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-5)


def all_pairs_of(boxes):
    """Aligned boxes `[N, N, 4]`: each with each."""
    return np.repeat(boxes[:, None], len(boxes), 1), np.repeat(
        boxes[None], len(boxes), 0
    )


@pytest.mark.parametrize("dtype", FULL_DTYPES)
def test_gradients_are_those_of_the_reference(dtype: type) -> None:
    # On a grid: equal coordinates, touching and equal boxes, and all pairs of them.
    rng = np.random.default_rng(11)
    boxes = quantised_boxes(rng, 60, dtype=dtype)
    boxes = boxes[(boxes[:, 2:] > boxes[:, :2]).all(-1)]
    boxes = np.concatenate([boxes, random_boxes(rng, 9, dtype=dtype)])
    pairs = all_pairs_of(boxes)
    grad = rng.normal(0, 1, pairs[0].shape[:-1]).astype(dtype)
    native, reference = (
        gradients(Mode(name, "eager"), grad, *pairs, aligned=True)
        for name in ("native", "reference")
    )
    tolerance = iou_gradient_tolerance(*pairs, grad)
    for kind, results, expected in zip(KINDS, native, reference, strict=True):
        for side in (0, 1):
            assert_within(results[side], expected[side], tolerance, kind)


@pytest.mark.parametrize("dtype", FULL_DTYPES)
def test_gradients_of_special_boxes_are_finite_and_the_same(dtype: type) -> None:
    boxes = special_boxes(dtype)
    pairs = all_pairs_of(boxes)
    grad = np.ones(pairs[0].shape[:-1], dtype)
    native, reference = (
        gradients(Mode(name, "eager"), grad, *pairs, aligned=True)
        for name in ("native", "reference")
    )
    # The slopes of the box of size 1e-7 are its inverse.
    tiny = boxes[:, 2] == dtype(1e-7)
    tolerance = np.where(tiny[:, None] | tiny, 1e9, 1e3)[..., None]
    tolerance = tolerance * float(np.finfo(dtype).eps)
    for kind, results, expected in zip(KINDS, native, reference, strict=True):
        for side in (0, 1):
            assert np.isfinite(results[side]).all()
            assert_within(results[side], expected[side], tolerance, kind)


@pytest.mark.parametrize("mode", EAGER_MODES)
@pytest.mark.parametrize(("shape_a", "shape_b"), [((2, 5), (7,)), ((2, 5), (2, 17))])
def test_gradients_are_sums_of_pairs(mode: Mode, shape_a, shape_b) -> None:
    expect_sums_of_pairs(mode, shape_a, shape_b)


@pytest.mark.parametrize("mode", MODES)
def test_gradients_are_sums_of_pairs_in_graphs(mode: Mode) -> None:
    expect_sums_of_pairs(mode, (5,), (2, 7))


def expect_sums_of_pairs(mode: Mode, shape_a, shape_b) -> None:
    """Gradients of all pairs against the sums of those of aligned pairs."""
    rng = np.random.default_rng(12)
    a = random_boxes(rng, *shape_a, dtype=np.float64)
    b = random_boxes(rng, *shape_b, dtype=np.float64)
    shape = oracle.box_iou(a, b).shape
    grad = rng.normal(0, 1, shape)
    kinds = ("giou",)
    ((by_a, by_b),) = gradients(mode, grad, a, b, kinds=kinds)
    pairs_a = np.broadcast_to(a[..., :, None, :], (*shape, 4))
    pairs_b = np.broadcast_to(b[..., None, :, :], (*shape, 4))
    eager = Mode("reference", "eager")
    (parts,) = gradients(eager, grad, pairs_a, pairs_b, kinds=kinds, aligned=True)
    for result, part, axis, boxes in ((by_a, parts[0], -2, a), (by_b, parts[1], -3, b)):
        total = part.sum(axis)
        expected = total if total.ndim == boxes.ndim else total.sum(0)
        np.testing.assert_allclose(result, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("dtype", HALF_DTYPES)
def test_gradients_of_half_types(implementation: str, dtype: type) -> None:
    rng = np.random.default_rng(13)
    a, b = (random_boxes(rng, 9, dtype=np.float32).astype(dtype) for _ in range(2))
    grad = rng.normal(0, 1, (9, 9)).astype(dtype)
    mode = Mode(implementation, "eager")
    narrow = gradients(mode, grad, a, b)
    wide = gradients(mode, *(x.astype(np.float32) for x in (grad, a, b)))
    for results, expected in zip(narrow, wide, strict=True):
        for side in (0, 1):
            assert_equal_bits(results[side], expected[side].astype(dtype))


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_one_argument_alone_is_differentiable(implementation: str) -> None:
    rng = np.random.default_rng(14)
    boxes = tf.Variable(random_boxes(rng, 5, dtype=np.float32))
    if implementation == "native":
        require_native_op("box_iou", "float32")
    with tf.GradientTape() as tape:
        iou = box_iou(boxes, boxes[:2].numpy(), implementation=implementation)
    assert tape.gradient(iou, boxes).shape == (5, 4)


def test_a_loss_moves_one_box_onto_another() -> None:
    target = np.array([[0.2, 0.3, 0.7, 0.6]], np.float32)
    for kind in ("giou", "diou", "ciou"):
        box = tf.Variable([[0.75, 0.7, 0.95, 0.8]])
        for _ in range(100):
            with tf.GradientTape() as tape:
                loss = 1 - box_iou(box, target, kind=kind, aligned=True)
            box.assign_sub(0.015 * tape.gradient(loss, box))
        assert box_iou(box, target).numpy() > 0.7, kind


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("shape_a", "shape_b"),
    [
        ((0, 4), (0, 4)),
        ((0, 4), (3, 4)),
        ((5, 4), (0, 4)),
        ((1, 4), (1, 4)),
        ((2, 3, 4), (5, 4)),
        ((3, 4), (2, 5, 4)),
        ((2, 3, 4), (2, 5, 4)),
        ((0, 3, 4), (0, 5, 4)),
        ((0, 3, 4), (5, 4)),
        ((1, 3, 4), (1, 0, 4)),
    ],
)
def test_batch_dimensions(
    mode: Mode, shape_a: tuple[int, ...], shape_b: tuple[int, ...]
) -> None:
    rng = np.random.default_rng(2)
    a = random_boxes(rng, *shape_a[:-1], dtype=np.float32)
    b = random_boxes(rng, *shape_b[:-1], dtype=np.float32)
    assert_equal_bits(mode.run(box_iou, a, b), oracle.box_iou(a, b))


@pytest.mark.parametrize("mode", EAGER_MODES)
def test_all_anchors(mode: Mode) -> None:
    anchors = ssd300_anchors()
    gt = random_boxes(np.random.default_rng(3), 5, dtype=np.float32)
    assert_equal_bits(mode.run(box_iou, anchors, gt), oracle.box_iou(anchors, gt))


@pytest.mark.parametrize("dtype", HALF_DTYPES)
@pytest.mark.parametrize("how", ["eager", "graph", "xla"])
def test_half_types_are_computed_in_float32(dtype: type, how: str) -> None:
    rng = np.random.default_rng(4)
    a = random_boxes(rng, 13, dtype=np.float32).astype(dtype)
    with np.errstate(over="ignore"):
        b = special_boxes(np.float32).astype(dtype)
    expect_all_kinds(Mode("reference", how), a, b)
    if how != "xla":
        expect_all_kinds(Mode("native", how), a, b)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_values_are_fractions_and_one_for_equal_boxes(implementation: str) -> None:
    boxes = random_boxes(np.random.default_rng(5), 200, dtype=np.float32)
    iou = Mode(implementation, "eager").run(box_iou, boxes, boxes)
    assert ((iou >= 0) & (iou <= 1)).all()
    assert (np.diagonal(iou) == 1).all()
    assert_equal_bits(iou, np.ascontiguousarray(iou.T))


def test_python_lists_are_float32() -> None:
    iou = box_iou([[0.0, 0.0, 1.0, 1.0]], [[0.0, 0.5, 1.0, 1.0]])
    assert iou.dtype == tf.float32
    assert iou.numpy().tolist() == [[0.5]]


def test_lists_take_the_dtype_of_the_other_argument() -> None:
    box = np.array([[0.0, 0.0, 1.0, 1.0]])
    assert box_iou([[0.0, 0.5, 1.0, 1.0]], box).dtype == tf.float64


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize(
    ("shape_a", "shape_b", "expected"),
    [
        ((5, 4), (7, 4), [5, 7]),
        ((None, 4), (7, 4), [None, 7]),
        ((None, None), (None, None), [None, None]),
        ((2, 5, 4), (7, 4), [2, 5, 7]),
        ((5, 4), (None, 7, 4), [None, 5, 7]),
        ((None, 5, 4), (3, None, 4), [3, 5, None]),
        ((2, None, 4), (None, None, 4), [2, None, None]),
        (None, (7, 4), None),
        (None, None, None),
    ],
)
def test_shape_inference(implementation, shape_a, shape_b, expected) -> None:
    inferred = static_shapes(box_iou, implementation, [shape_a, shape_b], [F32, F32])
    assert inferred == expected


SHAPE_ERRORS = [
    ((5,), (7, 4), "boxes_a must have shape [N, 4] or [B, N, 4], got [5]"),
    ((5, 3), (7, 4), "boxes_a must have shape [N, 4] or [B, N, 4], got [5, 3]"),
    ((5, 4), (7, 5), "boxes_b must have shape [M, 4] or [B, M, 4], got [7, 5]"),
    ((5, 4), (1, 2, 7, 4), "boxes_b must have shape [M, 4] or [B, M, 4]"),
    ((2, 5, 4), (3, 7, 4), "boxes_b must have 2 elements along axis 0 as boxes_a"),
]


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize(("shape_a", "shape_b", "message"), SHAPE_ERRORS)
def test_shape_errors(implementation, shape_a, shape_b, message) -> None:
    expect_static_error(
        box_iou, implementation, [shape_a, shape_b], [F32, F32], message
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        box_iou(tf.zeros(shape_a), tf.zeros(shape_b), implementation="reference")


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize(
    ("shape_a", "shape_b"), [case[:2] for case in SHAPE_ERRORS] + [((4,), (7, 4))]
)
def test_shapes_known_at_run_time(implementation, shape_a, shape_b) -> None:
    arrays = [np.zeros(shape_a, np.float32), np.zeros(shape_b, np.float32)]
    expect_runtime_error(box_iou, implementation, arrays)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_one_image_is_not_broadcast_over_a_batch(implementation: str) -> None:
    arrays = [np.zeros((1, 5, 4), np.float32), np.zeros((2, 7, 4), np.float32)]
    signature = [[None, None, 4], [None, None, 4]]
    expect_runtime_error(box_iou, implementation, arrays, signature)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("rank_a", [2, 3])
@pytest.mark.parametrize("rank_b", [2, 3])
def test_ranks_known_at_run_time(implementation, rank_a, rank_b) -> None:
    rng = np.random.default_rng(6)
    a = random_boxes(rng, *(2, 5)[3 - rank_a :], dtype=np.float32)
    b = random_boxes(rng, *(2, 7)[3 - rank_b :], dtype=np.float32)
    mode = Mode(implementation, "eager")
    function = mode.function(box_iou, "float32")
    traced = tf.function(
        function, input_signature=[tf.TensorSpec(None, F32)] * 2, autograph=False
    )
    assert_equal_bits(traced(a, b).numpy(), oracle.box_iou(a, b))


def test_dtype_errors() -> None:
    whole = np.zeros((2, 4), np.int32)
    single = np.zeros((2, 4), np.float32)
    with pytest.raises(ValueError, match="boxes_a must have dtype float16, bfloat16"):
        box_iou(whole, whole)
    with pytest.raises(
        ValueError, match="boxes_b must have dtype float32 as boxes_a, got float64"
    ):
        box_iou(single, single.astype(np.float64))


def aligned_iou(boxes_a, boxes_b, **options):
    """`box_iou` of aligned pairs, for the checks that take an op."""
    return box_iou(boxes_a, boxes_b, aligned=True, **options)


aligned_iou.__name__ = "box_iou"


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize(
    ("shape_a", "shape_b", "expected"),
    [
        ((5, 4), (5, 4), [5]),
        ((2, 3, 5, 4), (2, 3, 5, 4), [2, 3, 5]),
        ((None, 4), (None, 4), [None]),
        (None, None, None),
    ],
)
def test_shape_inference_of_aligned_boxes(
    implementation, shape_a, shape_b, expected
) -> None:
    inferred = static_shapes(
        aligned_iou, implementation, [shape_a, shape_b], [F32, F32]
    )
    assert inferred == expected


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize(
    ("shape_a", "shape_b", "message"),
    [
        ((4,), (4,), "boxes_a must have shape [..., N, 4], got [4]"),
        ((5, 3), (5, 3), "boxes_a must have shape [..., N, 4], got [5, 3]"),
        ((5, 4), (6, 4), "boxes_b must have the shape of boxes_a, (5, 4), got (6, 4)"),
        ((5, 4), (1, 4), "boxes_b must have the shape of boxes_a, (5, 4), got (1, 4)"),
        ((5, 4), (2, 5, 4), "boxes_b must have the shape of boxes_a"),
    ],
)
def test_shape_errors_of_aligned_boxes(
    implementation, shape_a, shape_b, message
) -> None:
    shapes = [shape_a, shape_b]
    expect_static_error(aligned_iou, implementation, shapes, [F32, F32], message)
    arrays = [np.zeros(shape, np.float32) for shape in shapes]
    expect_runtime_error(aligned_iou, implementation, arrays)


def test_kind_errors() -> None:
    box = np.zeros((1, 4), np.float32)
    message = "kind must be one of 'iou', 'giou', 'diou', 'ciou', 'ioa', got 'IoU'"
    with pytest.raises(ValueError, match=re.escape(message)):
        box_iou(box, box, kind="IoU")


@pytest.mark.parametrize("mode", EAGER_MODES)
def test_split_batches_give_the_same_bits(mode: Mode) -> None:
    rng = np.random.default_rng(8)
    a = random_boxes(rng, 4, 19, dtype=np.float32)
    b = random_boxes(rng, 4, 23, dtype=np.float32)
    whole = mode.run(box_iou, a, b)
    parts = [mode.run(box_iou, a[i], b[i]) for i in range(4)]
    assert_equal_bits(whole, np.stack(parts))


@pytest.mark.parametrize("mode", MODES)
def test_tiny_boxes(mode: Mode) -> None:
    # Areas of 1e-20 and 1e-36, and some that are no number above 0 any more.
    boxes = _squares(1e-10, 1e-18, 1e-25, 1e-30)
    assert_equal_bits(mode.run(box_iou, boxes, boxes), oracle.box_iou(boxes, boxes))


@pytest.mark.parametrize("mode", MODES)
def test_subnormal_numbers_are_zero_within_tensorflow(mode: Mode) -> None:
    # An area of 1e-38 is subnormal. TensorFlow runs its kernels with such numbers
    # flushed to zero, so the oracle, which runs without, is no judge here.
    boxes = _squares(1e-10, 1e-19, 1e-39)
    iou = mode.run(box_iou, boxes, boxes)
    assert_equal_bits(iou, np.diag(np.array([1, 0, 0], np.float32)))


def _squares(*sides: float) -> np.ndarray:
    side = np.array(sides, np.float32)
    zero = np.zeros_like(side)
    return np.stack([zero, zero, side, side], -1)


def test_wrong_implementation_name() -> None:
    box = np.zeros((1, 4), np.float32)
    with pytest.raises(ValueError, match="implementation must be one of 'auto', "):
        box_iou(box, box, implementation="fast")
