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
    device = "GPU" if _lacks_gpu_kernels() and _runs_on_gpu() else "CPU"
    reasons = not_supported_reasons(op, dtype.name, device)
    if not reasons:
        return native_library().module
    if choice == "native":
        raise NativeUnavailableError(
            f"{op} has no native implementation here: " + "; ".join(reasons)
        )
    return None


@functools.cache
def _lacks_gpu_kernels() -> bool:
    """Whether TensorFlow has a GPU for which there are no kernels.

    It would take the tensors of a native op to the CPU and back then, without a word.
    """
    return cuda_problem() is not None and bool(tf.config.list_logical_devices("GPU"))


def _runs_on_gpu() -> bool:
    """Whether an op that is called here is placed on the GPU."""
    if tf.executing_eagerly():
        return "GPU" in tf.constant(0.0).device
    return "CPU" not in tf.no_op().device
