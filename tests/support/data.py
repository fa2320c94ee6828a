# SPDX-License-Identifier: Apache-2.0
"""Test data that is not part of the repository."""

from __future__ import annotations

import os
from pathlib import Path

from support.requirements import absent

REPOSITORY = Path(__file__).resolve().parents[2]


def data_path(relative: str) -> Path:
    """Path of a file or folder of the test data; skips the test where it is absent.

    The data is looked for in `$SSDOPS_TEST_DATA`, else in `../shared/data` beside the
    repository. With `SSDOPS_REQUIRE_DATA=1` its absence is a failure.

    Args:
        relative: path below the data folder.
    """
    configured = os.environ.get("SSDOPS_TEST_DATA")
    folder = Path(configured) if configured else REPOSITORY.parent / "shared" / "data"
    path = folder / relative
    if not path.exists():
        absent(
            f"test data {relative} is not in {folder} (set SSDOPS_TEST_DATA)",
            "SSDOPS_REQUIRE_DATA",
        )
    return path
