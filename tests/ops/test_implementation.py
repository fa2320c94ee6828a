# SPDX-License-Identifier: Apache-2.0
"""Which implementation a call takes: argument, then scope, then environment."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from support.programs import run_program
from support.requirements import require_native_op

import ssdops
from ssdops import (
    NativeUnavailableError,
    assign_targets,
    batched_nms,
    box_iou,
    decode_boxes,
    detect,
    encode_boxes,
    match_anchors,
    mine_hard_negatives,
    multibox_loss,
    nms,
)
from ssdops._build_facts import BuildFacts, Component
from ssdops._implementation import requested_implementation
from ssdops._loader import (
    KERNEL_DTYPES,
    NATIVE_OPS,
    NativeUnavailableWarning,
    not_supported_reasons,
)

VARIABLE = "SSDOPS_IMPLEMENTATION"
BOX = np.array([[0, 0, 1, 1]], np.float32)
CALLS = {
    "box_iou": lambda **kw: box_iou(BOX, BOX, **kw),
    "match_anchors": lambda **kw: match_anchors(
        BOX, BOX[None], np.ones((1, 1), np.int32), **kw
    ),
    "assign_targets": lambda **kw: assign_targets(
        BOX, BOX[None], np.ones((1, 1), np.int32), **kw
    ),
    "encode_boxes": lambda **kw: encode_boxes(BOX, BOX, **kw),
    "decode_boxes": lambda **kw: decode_boxes(BOX, BOX, **kw),
    "batched_nms": lambda **kw: batched_nms(BOX[None], BOX[None], **kw),
    "detect": lambda **kw: detect(BOX[None], BOX[None], BOX, **kw),
    "mine_hard_negatives": lambda **kw: mine_hard_negatives(
        BOX[:, :1], np.ones((1, 1), np.int32), **kw
    ),
    "multibox_loss": lambda **kw: multibox_loss(
        BOX[None], BOX[None], np.ones((1, 1), np.int32), BOX[None], **kw
    ),
    "nms": lambda **kw: nms(BOX, BOX[:, 0], **kw),
}


@pytest.fixture(autouse=True)
def no_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)


def op_types(call: Any) -> set[str]:
    """Types of the ssdops operations in the graph that `call` builds."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NativeUnavailableWarning)
        with tf.Graph().as_default() as graph:
            call()
    types = {operation.type for operation in graph.get_operations()}
    return {name for name in types if name.startswith("Ssdops>")}


def is_native(call: Any) -> bool:
    return bool(op_types(call))


def test_default_is_auto() -> None:
    assert requested_implementation() == "auto"


def test_argument_over_scope_over_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "native")
    assert requested_implementation() == "native"
    with ssdops.implementation("reference"):
        assert requested_implementation() == "reference"
        assert requested_implementation("auto") == "auto"
        with ssdops.implementation("auto"):
            assert requested_implementation() == "auto"
        assert requested_implementation() == "reference"
    assert requested_implementation() == "native"


def test_scope_ends_with_an_exception() -> None:
    with pytest.raises(KeyError), ssdops.implementation("reference"):
        raise KeyError
    assert requested_implementation() == "auto"


def test_scope_is_of_one_thread() -> None:
    seen: list[str] = []
    with ssdops.implementation("reference"):
        thread = threading.Thread(
            target=lambda: seen.append(requested_implementation())
        )
        thread.start()
        thread.join()
    assert seen == ["auto"]


def test_environment_is_read_at_every_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "reference")
    assert requested_implementation() == "reference"
    monkeypatch.setenv(VARIABLE, "auto")
    assert requested_implementation() == "auto"


@pytest.mark.parametrize("name", ["", "NATIVE", "cuda"])
def test_wrong_names(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    message = "implementation must be one of 'auto', 'native', 'reference', got "
    with pytest.raises(ValueError, match=message), ssdops.implementation(name):
        pass
    with pytest.raises(ValueError, match=message):
        box_iou(BOX, BOX, implementation=name)
    monkeypatch.setenv(VARIABLE, name)
    with pytest.raises(ValueError, match=f"environment variable {VARIABLE} must be"):
        box_iou(BOX, BOX)


@pytest.mark.parametrize("op", CALLS)
def test_reference_has_no_native_operation(op: str) -> None:
    assert op_types(lambda: CALLS[op](implementation="reference")) == set()


@pytest.mark.parametrize("op", CALLS)
def test_native_and_auto_take_the_kernel(op: str) -> None:
    require_native_op(op, "float32")
    camel = "".join(part.capitalize() for part in op.split("_"))
    for name in ("native", "auto", None):
        assert op_types(lambda name=name: CALLS[op](implementation=name)) == {
            f"Ssdops>{camel}"
        }


def test_scope_and_environment_reach_the_op(monkeypatch: pytest.MonkeyPatch) -> None:
    require_native_op("box_iou", "float32")
    call = CALLS["box_iou"]
    with ssdops.implementation("reference"):
        assert not is_native(call)
        assert is_native(lambda: call(implementation="native"))
    monkeypatch.setenv(VARIABLE, "reference")
    assert not is_native(call)
    with ssdops.implementation("native"):
        assert is_native(call)


def test_a_traced_function_keeps_its_implementation() -> None:
    require_native_op("box_iou", "float32")
    function = tf.function(lambda: box_iou(BOX, BOX), autograph=False)
    with ssdops.implementation("reference"):
        traced = function.get_concrete_function()
    types = {operation.type for operation in traced.graph.get_operations()}
    assert not any(name.startswith("Ssdops>") for name in types)


@pytest.fixture
def no_half_types(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(KERNEL_DTYPES["box_iou"], "CPU", ("float32", "float64"))


@pytest.mark.usefixtures("no_half_types")
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_native_never_falls_back(dtype: str) -> None:
    box = tf.cast(BOX, dtype)
    with pytest.raises(NativeUnavailableError) as caught:
        box_iou(box, box, implementation="native")
    assert "box_iou has no native implementation here: " in str(caught.value)
    assert f"not for {dtype}" in str(caught.value)


@pytest.mark.usefixtures("no_half_types")
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_auto_falls_back_for_other_dtypes(dtype: str) -> None:
    box = tf.cast(BOX, dtype)
    assert not is_native(lambda: box_iou(tf.cast(BOX, dtype), tf.cast(BOX, dtype)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NativeUnavailableWarning)
        assert box_iou(box, box).numpy().astype(np.float32).tolist() == [[1]]


@pytest.mark.parametrize("op", CALLS)
def test_reasons_are_sentences_about_this_op(op: str) -> None:
    assert set(CALLS) == set(NATIVE_OPS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NativeUnavailableWarning)
        reasons = not_supported_reasons(op, "int8")
    assert any(op in reason and "int8" in reason for reason in reasons)


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., str | None]]:
    """`cuda_problem` of a build with CUDA 13.0 and a driver of another version."""
    from ssdops import _cuda_driver

    def problem(version: tuple[int, int] | None, status: str = "built") -> str | None:
        facts = BuildFacts(
            {"cuda": Component(status, "no nvcc")}, {}, {"cuda_version": "13.0.88"}
        )
        monkeypatch.setattr(_cuda_driver, "build_facts", lambda: facts)
        monkeypatch.setattr(_cuda_driver, "_driver_version", lambda: version)
        _cuda_driver.cuda_problem.cache_clear()
        return _cuda_driver.cuda_problem()

    yield problem
    _cuda_driver.cuda_problem.cache_clear()


def test_a_driver_that_is_too_old_is_named(
    driver: Callable[..., str | None],
) -> None:
    assert driver((13, 0)) is None
    assert driver((14, 2)) is None
    text = driver((12, 5)) or ""
    assert "supports CUDA 12.5" in text
    assert "built with CUDA 13.0.88" in text
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NativeUnavailableWarning)
        assert f"no GPU kernels: {text}" in not_supported_reasons(
            "nms", "float32", "GPU"
        )
    assert "no NVIDIA driver" in (driver(None) or "")
    assert driver((13, 0), "skipped") == "the CUDA kernels were not built (no nvcc)"


def test_a_gpu_without_kernels_gets_the_reference(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Else its tensors would go to the CPU and back without a word."""
    from ssdops.ops import _dispatch

    require_native_op("box_iou", "float32")
    monkeypatch.setattr(_dispatch, "_gpus", lambda: 1)
    monkeypatch.setattr(_dispatch, "cuda_problem", lambda: "no driver")
    monkeypatch.setattr(_dispatch, "_runs_on_gpu", lambda: True)
    assert not is_native(lambda: box_iou(BOX, BOX))
    with pytest.raises(NativeUnavailableError, match="no GPU kernels"):
        box_iou(BOX, BOX, implementation="native")
    monkeypatch.setattr(_dispatch, "_runs_on_gpu", lambda: False)
    assert is_native(lambda: box_iou(BOX, BOX))


def test_importing_the_ops_leaves_tensorflow_to_be_configured() -> None:
    # Threads and memory growth can be set only until TensorFlow makes its first tensor.
    program = (
        "import tensorflow as tf; from ssdops import *; import ssdops.image;"
        "tf.config.threading.set_intra_op_parallelism_threads(1)"
    )
    run_program(program)
