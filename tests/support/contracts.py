# SPDX-License-Identifier: Apache-2.0
"""Checks that every public op is put through: shape inference, errors, gradients."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from support.requirements import require_native_op

Shape = Sequence[int | None] | None


def static_shapes(
    op: Callable[..., Any],
    implementation: str,
    shapes: Sequence[Shape],
    dtypes: Sequence[tf.DType],
    **options: Any,
) -> Any:
    """Static output shapes of `op`, traced in a graph of its own.

    A fresh graph per call: a `tf.function` could answer with an older, more general
    trace.

    Args:
        op: public op.
        implementation: `"reference"` or `"native"`.
        shapes: static shapes of the inputs; None is of unknown rank.
        dtypes: their dtypes.
        options: keywords of the op.

    Returns:
        A list of sizes per output in the structure of the result, None for unknown.
    """
    if implementation == "native":
        require_native_op(op.__name__, dtypes[0].name)
    with tf.Graph().as_default():
        inputs = [
            tf.compat.v1.placeholder(dtype, shape)
            for dtype, shape in zip(dtypes, shapes, strict=True)
        ]
        result = op(*inputs, implementation=implementation, **options)
        return tf.nest.map_structure(
            lambda t: None if t.shape.rank is None else t.shape.as_list(), result
        )


def expect_static_error(
    op: Callable[..., Any],
    implementation: str,
    shapes: Sequence[Shape],
    dtypes: Sequence[tf.DType],
    message: str,
) -> None:
    """Assert that tracing with these shapes raises ValueError with this message."""
    with pytest.raises(ValueError, match=re.escape(message)):
        static_shapes(op, implementation, shapes, dtypes)


def expect_runtime_error(
    op: Callable[..., Any],
    implementation: str,
    arrays: Sequence[Any],
    signature: Sequence[Shape] | None = None,
) -> None:
    """Assert InvalidArgumentError for shapes that are known only at run time.

    Args:
        op: public op.
        implementation: `"reference"` or `"native"`.
        arrays: inputs that do not fit.
        signature: the static shapes that the op sees; by default of unknown rank.
    """
    if implementation == "native":
        require_native_op(op.__name__, np.asarray(arrays[0]).dtype.name)
    shapes = [None] * len(arrays) if signature is None else signature
    specs = [
        tf.TensorSpec(shape, tf.as_dtype(array.dtype))
        for shape, array in zip(shapes, arrays, strict=True)
    ]

    @tf.function(input_signature=specs, autograph=False)
    def traced(*inputs: tf.Tensor) -> Any:
        return op(*inputs, implementation=implementation)

    with pytest.raises(tf.errors.InvalidArgumentError):
        traced(*[tf.constant(array) for array in arrays])


def expect_no_gradient(
    op: Callable[..., Any], implementation: str, *inputs: Any
) -> None:
    """Assert that no floating output of `op` depends differentiably on an input."""
    tensors = [tf.convert_to_tensor(value) for value in inputs]
    if implementation == "native":
        require_native_op(op.__name__, tensors[0].dtype.name)
    watched = [tensor for tensor in tensors if tensor.dtype.is_floating]
    with tf.GradientTape() as tape:
        for tensor in watched:
            tape.watch(tensor)
        outputs = tf.nest.flatten(op(*tensors, implementation=implementation))
        total = tf.add_n(
            [tf.reduce_sum(o) for o in outputs if o.dtype == watched[0].dtype]
        )
    assert tape.gradient(total, watched) == [None] * len(watched)
