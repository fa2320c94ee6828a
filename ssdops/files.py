# SPDX-License-Identifier: Apache-2.0
"""Writing results so that a reader never sees half a file."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["write_atomically", "write_json"]


def write_atomically(path: Path, write: Callable[[Path], Any]) -> None:
    """Lets `write` fill a file beside `path`, and moves it there when complete.

    Args:
        path: Final place; folders above it are created, an old file is replaced.
        write: Writes to the path it is given, whose name ends like that of `path`.

    Raises:
        OSError: If the place cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".partial-{os.getpid()}-{path.name}")
    try:
        write(partial)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Writes plain values as indented JSON, complete or not at all.

    Raises:
        OSError: If the place cannot be written.
        ValueError: If a number is not finite.
    """
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    write_atomically(path, lambda partial: partial.write_text(text, "utf-8"))
