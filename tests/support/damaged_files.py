# SPDX-License-Identifier: Apache-2.0
"""What readers do with damaged files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any


def is_readable(read: Callable[[Path], Any], path: Path) -> bool:
    """Whether a file is read; if not, the error is a ValueError that names it."""
    try:
        read(path)
    except ValueError as error:
        if str(path) not in str(error):
            raise
        return False
    return True
