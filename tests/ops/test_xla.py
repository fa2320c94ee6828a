# SPDX-License-Identifier: Apache-2.0
"""Inside functions that XLA compiles: which implementation, and that it is right.

That every op gives the same compiled is tested in its own file, as one of `MODES`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from support.bits import assert_equal_bits
from support.cases import random_boxes
from support.programs import run_program
from support.requirements import require_xla

import ssdops
from ssdops import NativeUnavailableError, box_iou, detect, image, multibox_loss, nms
from ssdops.ops import _dispatch

BOXES = random_boxes(np.random.default_rng(0), 40, dtype=np.float32)
SCORES = np.random.default_rng(1).uniform(0, 1, 40).astype(np.float32)


def compiled(function: Any) -> Any:
    return tf.function(function, jit_compile=True, autograph=False)


def op_types(function: Any, *arguments: Any) -> set[str]:
    """Types of our own ops in the graph of a compiled function."""
    graph = compiled(function).get_concrete_function(*arguments).graph
    return {op.type for op in graph.get_operations() if op.type.startswith("Ssdops>")}


def test_auto_takes_the_native_op() -> None:
    require_xla()
    assert op_types(box_iou, BOXES, BOXES) == {"Ssdops>BoxIou"}
    with ssdops.implementation("reference"):
        assert op_types(box_iou, BOXES, BOXES) == set()


def test_a_function_inside_is_compiled_too() -> None:
    require_xla()
    inner = tf.function(box_iou, autograph=False)
    assert_equal_bits(compiled(inner)(BOXES, BOXES), box_iou(BOXES, BOXES).numpy())
    seen = []

    def outer(boxes: tf.Tensor) -> tf.Tensor:
        @tf.function(autograph=False)
        def nested(boxes: tf.Tensor) -> tf.Tensor:
            seen.append(_dispatch.compiled_by_xla())
            return box_iou(boxes, boxes)

        return nested(boxes)

    compiled(outer)(BOXES)
    tf.function(outer, autograph=False)(BOXES)
    assert seen == [True, False]
    assert not _dispatch.compiled_by_xla()


def test_without_the_library_the_reference_is_compiled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_dispatch, "xla_problem", lambda: "there is no library")
    assert op_types(box_iou, BOXES, BOXES) == set()
    assert_equal_bits(compiled(box_iou)(BOXES, BOXES), box_iou(BOXES, BOXES).numpy())
    message = "XLA cannot compile it: there is no library"
    with pytest.raises(NativeUnavailableError, match=message):
        compiled(lambda b: box_iou(b, b, implementation="native"))(BOXES)


def test_on_a_gpu_the_reference_is_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_dispatch, "_gpus", lambda: 1)
    monkeypatch.setattr(_dispatch, "cuda_problem", lambda: None)
    assert op_types(box_iou, BOXES, BOXES) == set()
    with pytest.raises(NativeUnavailableError, match="on the CPU only"):
        compiled(lambda b: box_iou(b, b, implementation="native"))(BOXES)

    def on_the_cpu(boxes: tf.Tensor) -> tf.Tensor:
        with tf.device("CPU"):
            return box_iou(boxes, boxes)

    require_xla()
    assert op_types(on_the_cpu, BOXES) == {"Ssdops>BoxIou"}


def test_sizes_that_are_not_known_while_tracing() -> None:
    require_xla()
    function = tf.function(
        box_iou,
        input_signature=[tf.TensorSpec([None, 4]), tf.TensorSpec([None, 4])],
        jit_compile=True,
        autograph=False,
    )
    for count in (3, 0, 17):
        expected = box_iou(BOXES[:count], BOXES).numpy()
        assert_equal_bits(function(BOXES[:count], BOXES), expected)


def test_sizes_that_depend_on_values() -> None:
    """XLA knows a bound of such a size only; the message says what to do."""
    require_xla()
    some = tf.constant(SCORES > 0.5)

    def overlaps(implementation: str) -> Any:
        def call(boxes: tf.Tensor, some: tf.Tensor) -> tf.Tensor:
            chosen = tf.boolean_mask(boxes, some)
            iou = box_iou(chosen, boxes, implementation=implementation)
            return tf.reduce_sum(iou, axis=0)

        return compiled(call)

    message = "BoxIou cannot be compiled for boxes_a .* whose size depends on values"
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        overlaps("auto")(BOXES, some)
    expected = box_iou(BOXES[some.numpy()], BOXES).numpy().sum(axis=0)
    actual = overlaps("reference")(BOXES, some).numpy()
    np.testing.assert_allclose(actual, expected, rtol=1e-5)


def test_inputs_at_odd_places() -> None:
    """A part of a tensor begins where no kernel may read vectors."""
    require_xla()

    def parts(boxes: tf.Tensor) -> tf.Tensor:
        return box_iou(boxes[1:], boxes[3:7])

    expected = box_iou(BOXES[1:], BOXES[3:7]).numpy()
    assert_equal_bits(compiled(parts)(BOXES), expected)


def test_thresholds_may_be_tensors() -> None:
    require_xla()
    logits = np.random.default_rng(2).normal(0, 2, (2, 40, 3)).astype(np.float32)
    offsets = np.zeros((2, 40, 4), np.float32)

    def call(threshold: tf.Tensor) -> Any:
        return detect(logits, offsets, BOXES, score_threshold=threshold)

    function = compiled(call)
    for threshold in (0.1, 0.8):
        actual = function(tf.constant(threshold, tf.float64))
        expected = call(tf.constant(threshold, tf.float64))
        for a, e in zip(actual, expected, strict=True):
            assert_equal_bits(a.numpy(), e.numpy())


def test_errors_keep_their_message() -> None:
    require_xla()
    logits = tf.zeros([1, 4, 3])
    offsets = tf.zeros([1, 4, 4])

    def call(classes: tf.Tensor) -> tf.Tensor:
        return multibox_loss(logits, offsets, classes, offsets).total

    message = "target_classes must be below the 3 classes of the logits"
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        compiled(call)(tf.fill([1, 4], 3))
    assert np.isfinite(compiled(call)(tf.fill([1, 4], 2)).numpy())
    with pytest.raises(ValueError, match=r"boxes_b must have shape"):
        compiled(box_iou)(BOXES, BOXES[:, :3])


def test_xla_may_have_been_used_before() -> None:
    """XLA asks for its kernels once; ours come later."""
    require_xla()
    program = """
import tensorflow as tf
print(tf.function(lambda x: x + 1, jit_compile=True)(tf.constant(1)).numpy())
import ssdops
boxes = tf.constant([[0., 0., 1., 1.]])
def iou(boxes):
    return ssdops.box_iou(boxes, boxes, implementation="native")
print(tf.function(iou, jit_compile=True)(boxes).numpy())
rows = lambda b: ssdops.nms(b, tf.ones([1]), max_output_size=3)
print(tf.function(rows, jit_compile=True)(boxes).indices.numpy())
"""
    printed = run_program(program)
    assert "[[1.]]" in printed
    assert "[ 0 -1 -1]" in printed


def test_what_was_traced_before_can_be_compiled(tmp_path: Path) -> None:
    """A function or a saved model may be called in one that XLA compiles later."""
    require_xla()
    model = tf.Module()
    boxes = tf.TensorSpec([None, 4])
    model.plain = tf.function(lambda b: box_iou(b, b), input_signature=[boxes])
    model.jit = tf.function(
        lambda b: box_iou(b, b), input_signature=[boxes], jit_compile=True
    )
    tf.saved_model.save(model, str(tmp_path))
    program = """
import sys, tensorflow as tf, ssdops.ops
boxes = tf.constant([[0., 0., 1., 1.]])
traced = tf.function(lambda b: ssdops.box_iou(b, b)).get_concrete_function(boxes)
model = tf.saved_model.load(sys.argv[1])
for function in (traced, model.plain, model.jit):
    compiled = tf.function(lambda b: function(b) + function(b), jit_compile=True)
    print(function(boxes).numpy(), compiled(boxes).numpy())
"""
    printed = run_program(program, str(tmp_path))
    assert printed.splitlines() == ["[[1.]] [[2.]]"] * 3


def test_many_threads_at_once() -> None:
    """Several compiled functions that all spread their work."""
    require_xla()
    rng = np.random.default_rng(3)
    boxes = random_boxes(rng, 8, 3000, dtype=np.float32)
    function = compiled(lambda b: [box_iou(b[i], b[i]) for i in range(8)])
    for i, iou in enumerate(function(boxes)):
        assert_equal_bits(iou.numpy(), box_iou(boxes[i], boxes[i]).numpy())


def test_rows_of_nms_are_a_constant() -> None:
    require_xla()
    expected = nms(BOXES, SCORES, max_output_size=5)
    function = compiled(lambda b, s: nms(b, s, max_output_size=5))
    for a, e in zip(function(BOXES, SCORES), expected, strict=True):
        assert_equal_bits(a.numpy(), e.numpy())


def test_the_functions_of_tf_image() -> None:
    def combined(module: Any) -> Any:
        return module.combined_non_max_suppression(
            BOXES[None, :, None], SCORES[None, :, None], 5, 5
        )

    require_xla()
    for a, e in zip(
        compiled(lambda: combined(image))(), combined(tf.image), strict=True
    ):
        assert_equal_bits(a.numpy(), e.numpy())
    # TensorFlow's own says what it can do where the size is not known.
    function = compiled(lambda: image.non_max_suppression(BOXES, SCORES, 5))
    expected = tf.image.non_max_suppression(BOXES, SCORES, 5)
    assert_equal_bits(function().numpy(), expected.numpy())


def test_a_gradient() -> None:
    require_xla()
    rng = np.random.default_rng(4)
    logits = tf.constant(rng.normal(0, 1, (2, 30, 5)).astype(np.float32))
    offsets = tf.constant(rng.normal(0, 1, (2, 30, 4)).astype(np.float32))
    classes = tf.constant(rng.choice([0, 0, 0, 1, 4], (2, 30)).astype(np.int32))

    def gradients(logits: tf.Tensor, offsets: tf.Tensor) -> Any:
        with tf.GradientTape() as tape:
            tape.watch([logits, offsets])
            loss = multibox_loss(logits, offsets, classes, tf.zeros_like(offsets))
        return tape.gradient(loss.total, [logits, offsets])

    for a, e in zip(
        compiled(gradients)(logits, offsets), gradients(logits, offsets), strict=True
    ):
        assert_equal_bits(a.numpy(), e.numpy())


def test_keras_compiles_a_model_with_an_op() -> None:
    class Overlap(tf.keras.layers.Layer):
        def call(self, boxes: tf.Tensor) -> tf.Tensor:
            return box_iou(boxes, BOXES[:7])

    for jit_compile in (True, False, "auto"):
        inputs = tf.keras.Input([5, 4])
        outputs = tf.keras.layers.Dense(1)(Overlap()(inputs))
        model = tf.keras.Model(inputs, outputs)
        model.compile("sgd", "mse", jit_compile=jit_compile)
        x = random_boxes(np.random.default_rng(5), 8, 5, dtype=np.float32)
        y = np.ones((8, 5, 1), np.float32)
        history = model.fit(x, y, epochs=2, verbose=0)
        assert np.isfinite(history.history["loss"]).all()
        assert model.predict(x, verbose=0).shape == (8, 5, 1)


def test_vectorized_map() -> None:
    """The ops take a batch themselves; over single images it works, one by one."""
    batch = random_boxes(np.random.default_rng(6), 4, 9, dtype=np.float32)
    expected = box_iou(batch, BOXES).numpy()
    actual = tf.vectorized_map(lambda b: box_iou(b, BOXES), batch)
    assert_equal_bits(actual.numpy(), expected)


def test_determinism_of_ops_may_be_demanded() -> None:
    program = """
import numpy as np, tensorflow as tf, ssdops
tf.config.experimental.enable_op_determinism()
tf.random.set_seed(1)
rng = np.random.default_rng(0)
logits = tf.constant(rng.normal(0, 1, (2, 30, 5)), tf.float32)
offsets = tf.zeros([2, 30, 4])
boxes = tf.sort(tf.constant(rng.uniform(0, 1, (30, 4)), tf.float32))
with tf.GradientTape() as tape:
    tape.watch(logits)
    loss = ssdops.multibox_loss(logits, offsets, tf.ones([2, 30], tf.int32), offsets)
assert tape.gradient(loss.total, logits) is not None
print(ssdops.detect(logits, offsets, boxes).num_detections.numpy().tolist())
"""
    run_program(program)


def test_replicas() -> None:
    program = """
import numpy as np, tensorflow as tf, ssdops
cpus = tf.config.list_physical_devices("CPU")
two = [tf.config.LogicalDeviceConfiguration()] * 2
tf.config.set_logical_device_configuration(cpus[0], two)
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
assert strategy.num_replicas_in_sync == 2
rng = np.random.default_rng(0)
boxes = rng.uniform(0, 1, (4, 6, 4)).astype(np.float32)
data = tf.data.Dataset.from_tensor_slices(boxes).batch(4)
@tf.function
def step(batch):
    return strategy.run(lambda b: ssdops.box_iou(b, b), [batch])
for batch in strategy.experimental_distribute_dataset(data):
    parts = strategy.experimental_local_results(step(batch))
    actual = np.concatenate([part.numpy() for part in parts])
    assert (actual == ssdops.box_iou(boxes, boxes).numpy()).all()
print("equal")
"""
    assert "equal" in run_program(program)
