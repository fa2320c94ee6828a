# SPDX-License-Identifier: Apache-2.0
"""Makes sure that the installed package is what is tested, not the source folder."""

from __future__ import annotations

import importlib.util
import json
import os
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
OVERRIDE = "SSDOPS_ALLOW_SOURCE_TREE"


def installation_problem() -> str | None:
    """Why the `ssdops` that would be imported is not an installation, or None."""
    if os.environ.get(OVERRIDE, "0") not in ("", "0"):
        return None
    spec = importlib.util.find_spec("ssdops")
    if spec is None:
        return "ssdops is not installed: run `python -m pip install .` first"
    places = list(spec.submodule_search_locations or [])
    source = REPOSITORY / "ssdops"
    if not any(Path(place).resolve() == source for place in places):
        return None
    if _is_editable():
        return None
    return (
        f"ssdops would be imported from the source folder {source}, which has no"
        " native libraries. Run `pytest` (not `python -m pytest`) with an installed"
        " ssdops, install with `python -m pip install -e .`, or set"
        f" {OVERRIDE}=1 to test the source folder on purpose"
    )


def _is_editable() -> bool:
    try:
        text = distribution("ssdops").read_text("direct_url.json")
    except PackageNotFoundError:
        return False
    return bool(text) and bool(json.loads(text).get("dir_info", {}).get("editable"))
