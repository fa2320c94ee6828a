# SPDX-License-Identifier: Apache-2.0
"""The ways in which a public op is run: implementation x eager, graph, XLA."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from support.requirements import require_native_op, require_xla


@dataclass(frozen=True)
class Mode:
    """One way to run a public op.

    Attributes:
        implementation: `"reference"` or `"native"`.
        how: `"eager"`, `"graph"` or `"xla"`.
    """

    implementation: str
    how: str

    def run(self, op: Callable[..., Any], *inputs: Any, **options: Any) -> Any:
        """Call `op` on arrays and return arrays, in the structure it returns.

        Skips the running test where the native kernel asked for is absent.
        """
        tensors = [tf.convert_to_tensor(value) for value in inputs]
        function = self.function(op, tensors[0].dtype.name, **options)
        return tf.nest.map_structure(lambda tensor: tensor.numpy(), function(*tensors))

    def function(
        self, op: Callable[..., Any], dtype: str, **options: Any
    ) -> Callable[..., Any]:
        """A function of tensors that calls `op` in this way."""
        if self.implementation == "native":
            require_native_op(op.__name__, dtype)
            if self.how == "xla":
                require_xla()

        def call(*tensors: tf.Tensor) -> Any:
            return op(*tensors, implementation=self.implementation, **options)

        if self.how == "eager":
            return call
        return tf.function(call, jit_compile=self.how == "xla", autograph=False)


MODES = tuple(
    pytest.param(Mode(implementation, how), id=f"{implementation}-{how}")
    for implementation, how in (
        ("reference", "eager"),
        ("reference", "graph"),
        ("reference", "xla"),
        ("native", "eager"),
        ("native", "graph"),
        ("native", "xla"),
    )
)
EAGER_MODES = (MODES[0], MODES[3])
IMPLEMENTATIONS = ("reference", "native")
HALF_DTYPES = (tf.float16.as_numpy_dtype, tf.bfloat16.as_numpy_dtype)
FULL_DTYPES = (np.float32, np.float64)
