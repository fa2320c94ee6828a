# SPDX-License-Identifier: Apache-2.0
"""Session set-up: what is tested, and what is left out without TensorFlow."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

import pytest
from hypothesis import settings
from support.installation import installation_problem

# Before TensorFlow is imported: its start-up log hides a failing test's own output.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# PyTorch takes Triton if it is there, which crashes where TensorFlow is loaded already.
sys.modules.setdefault("triton", None)  # type: ignore[arg-type]

settings.register_profile(
    "ssdops", max_examples=60, deadline=None, derandomize=True, database=None
)
settings.load_profile("ssdops")

HAVE_TENSORFLOW = importlib.util.find_spec("tensorflow") is not None
FOLDERS_WITHOUT_TENSORFLOW = ("kernels", "oracles", "repo", "packaging", "cpp")


def pytest_configure(config: pytest.Config) -> None:
    """Stop before the first test if the wrong package would be tested."""
    problem = installation_problem()
    if problem is not None:
        raise pytest.UsageError(problem)


def pytest_report_header() -> str:
    """Say what is left out."""
    if HAVE_TENSORFLOW:
        return "tensorflow: installed"
    kept = ", ".join(FOLDERS_WITHOUT_TENSORFLOW)
    return f"tensorflow: not installed, only these folders are collected: {kept}"


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Leave out the folders that need TensorFlow where there is none."""
    folder = Path(__file__).parent
    if HAVE_TENSORFLOW or folder not in collection_path.parents:
        return None
    top = collection_path.relative_to(folder).parts[0]
    return None if top in FOLDERS_WITHOUT_TENSORFLOW else True
