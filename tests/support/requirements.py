# SPDX-License-Identifier: Apache-2.0
"""What a test needs and may not have: skipped with a reason, a failure in CI."""

from __future__ import annotations

import os
from types import ModuleType
from typing import NoReturn

import pytest


def absent(reason: str, variable: str) -> NoReturn:
    """Skip the running test, or fail it where the requirement is declared.

    Args:
        reason: a sentence about what is absent.
        variable: environment variable that turns the skip into a failure.
    """
    if os.environ.get(variable, "0") not in ("", "0"):
        pytest.fail(f"{variable} is set, but {reason}", pytrace=False)
    pytest.skip(reason)


def native_binding() -> ModuleType:
    """`ssdops._native`, the NumPy binding of the kernels (no TensorFlow needed)."""
    try:
        import ssdops._native as native
    except ImportError as error:
        absent(f"ssdops._native cannot be imported: {error}", "SSDOPS_REQUIRE_NATIVE")
    return native


def require_native_op(op: str, dtype: str) -> None:
    """Skip unless TensorFlow has a native kernel of `op` for `dtype` here."""
    import warnings

    from ssdops._loader import NativeUnavailableWarning, not_supported_reasons

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NativeUnavailableWarning)
        reasons = not_supported_reasons(op, dtype)
    if reasons:
        absent("; ".join(reasons), "SSDOPS_REQUIRE_NATIVE")


def require_xla() -> None:
    """Skip unless XLA can compile the native ops."""
    from ssdops._loader import xla_problem

    problem = xla_problem()
    if problem is not None:
        absent(problem, "SSDOPS_REQUIRE_NATIVE")
