# SPDX-License-Identifier: Apache-2.0
"""Picks the implementation of one op call."""

from __future__ import annotations

import functools
from typing import Any

import tensorflow as tf

from ssdops._cuda_driver import cuda_problem
from ssdops._implementation import requested_implementation
from ssdops._loader import (
    NativeUnavailableError,
    native_library,
    not_supported_reasons,
    xla_problem,
)


def native_module(op: str, dtype: tf.DType, argument: str | None) -> Any | None:
    """The generated native functions if this call shall use them, else None.

    Args:
        op: public op name.
        dtype: dtype of the op's boxes.
        argument: `implementation` argument of the call.

    Raises:
        NativeUnavailableError: if `"native"` is asked for and there is no kernel.
        ValueError: if the implementation asked for does not exist.
    """
    choice = requested_implementation(argument)
    if choice == "reference":
        return None
    reasons = [
        *not_supported_reasons(op, dtype.name, "GPU" if _wants_gpu() else "CPU"),
        *_reasons_of_xla(),
    ]
    if not reasons:
        return native_library().module
    if choice == "native":
        raise NativeUnavailableError(
            f"{op} has no native implementation here: " + "; ".join(reasons)
        )
    return None


def compiled_by_xla() -> bool:
    """Whether the function that is being traced will be compiled by XLA."""
    if tf.executing_eagerly():
        return False
    graph: Any = tf.compat.v1.get_default_graph()
    while graph is not None:
        # TensorFlow sets it while it traces with jit_compile=True; its own functions
        # look for it in the same way.
        get_context = getattr(graph, "_get_control_flow_context", None)
        context = get_context() if get_context is not None else None
        while context is not None:
            if context.IsXLAContext():
                return True
            context = context.outer_context
        graph = getattr(graph, "outer_graph", None)
    return False


def _reasons_of_xla() -> list[str]:
    """Why XLA cannot compile a native op in the function that is being traced."""
    if not compiled_by_xla():
        return []
    if _gpus() and _runs_on_gpu():
        return ["XLA compiles the native ops on the CPU only"]
    problem = xla_problem()
    return [f"XLA cannot compile it: {problem}"] if problem is not None else []


def _wants_gpu() -> bool:
    """Whether an op would run on a GPU for which there are no kernels.

    TensorFlow would take its tensors to the CPU and back then, without a word.
    """
    return _gpus() > 0 and cuda_problem() is not None and _runs_on_gpu()


@functools.cache
def _gpus() -> int:
    return len(tf.config.list_logical_devices("GPU"))


def _runs_on_gpu() -> bool:
    """Whether an op that is called here is placed on the GPU."""
    if tf.executing_eagerly():
        return "GPU" in tf.constant(0.0).device
    return "CPU" not in tf.no_op().device
