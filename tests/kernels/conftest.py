# SPDX-License-Identifier: Apache-2.0
"""The NumPy binding of the kernels, for every test here."""

from __future__ import annotations

from types import ModuleType

import pytest
from support.requirements import native_binding


@pytest.fixture(scope="session")
def native() -> ModuleType:
    """`ssdops._native`; the test is skipped where it was not built."""
    return native_binding()
