# SPDX-License-Identifier: Apache-2.0
"""Picks the implementation of one op call."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

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
    reasons = not_supported_reasons(op, dtype.name)
    if not reasons:
        return native_library().module
    if choice == "native":
        raise NativeUnavailableError(
            f"{op} has no native implementation here: " + "; ".join(reasons)
        )
    return None
