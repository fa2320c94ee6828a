# SPDX-License-Identifier: Apache-2.0
"""The source repository that the tests belong to."""

from __future__ import annotations

import subprocess
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HELPER_HEADERS = (
    "atan",
    "box_coding",
    "box_math",
    "candidate_box",
    "candidate_key",
    "confidence_loss",
    "cuda_status",
    "exp_log",
    "iou_kinds",
    "isa",
    "localization_loss",
    "parallel_for",
    "span",
    "storage",
    "workspace",
)


@cache
def tracked_files() -> tuple[Path, ...]:
    """Files under version control, relative to the root (new ones included)."""
    if not (ROOT / ".git").exists():
        pytest.skip("the rules hold for a git checkout, and this is none")
    listing = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    return tuple(Path(line) for line in listing.splitlines() if (ROOT / line).is_file())


def ops() -> tuple[str, ...]:
    """Stems of all ops: every contract header that is not a helper."""
    headers = (ROOT / "csrc/include/ssdops").glob("*.h")
    stems = {header.stem for header in headers if not header.stem.endswith("_cuda")}
    return tuple(sorted(stems - set(HELPER_HEADERS)))
