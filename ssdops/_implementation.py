# SPDX-License-Identifier: Apache-2.0
"""Which implementation of the ops is asked for: per process, per scope, per call."""

from __future__ import annotations

import contextlib
import contextvars
import os
from collections.abc import Iterator
from typing import Final

IMPLEMENTATIONS: Final = ("auto", "native", "reference")
ENVIRONMENT_VARIABLE: Final = "SSDOPS_IMPLEMENTATION"

_scope: contextvars.ContextVar[str | None] = contextvars.ContextVar(
    "ssdops_implementation", default=None
)


@contextlib.contextmanager
def implementation(name: str) -> Iterator[None]:
    """Choose the implementation of every ssdops op called inside the scope.

    The choice is made where an op is called in Python; in a `tf.function` that is
    while it is traced, so a function traced before keeps what it was traced with.

    Args:
        name: `"auto"` takes the native kernel where there is one for the device and
            dtype and else plain TensorFlow; `"native"` never falls back;
            `"reference"` forces plain TensorFlow.

    Raises:
        ValueError: if `name` is none of the three.

    Example:
        >>> with ssdops.implementation("reference"):
        ...     iou = ssdops.box_iou(anchors, gt_boxes)
    """
    token = _scope.set(_checked(name, "implementation"))
    try:
        yield
    finally:
        _scope.reset(token)


def requested_implementation(argument: str | None = None) -> str:
    """The implementation that holds here: argument, else scope, else environment.

    Args:
        argument: the `implementation` argument of the call, or None.

    Returns:
        `"auto"`, `"native"` or `"reference"`.

    Raises:
        ValueError: if the argument or the environment variable names no implementation.
    """
    if argument is not None:
        return _checked(argument, "implementation")
    scope = _scope.get()
    if scope is not None:
        return scope
    value = os.environ.get(ENVIRONMENT_VARIABLE, "auto")
    return _checked(value, f"environment variable {ENVIRONMENT_VARIABLE}")


def _checked(name: str, source: str) -> str:
    if name not in IMPLEMENTATIONS:
        expected = ", ".join(repr(choice) for choice in IMPLEMENTATIONS)
        raise ValueError(f"{source} must be one of {expected}, got {name!r}")
    return name
