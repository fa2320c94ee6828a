# SPDX-License-Identifier: Apache-2.0
"""What the build wrote down beside the libraries, read back (no TensorFlow needed)."""

from __future__ import annotations

import functools
import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

PACKAGE_FOLDER: Final = Path(__file__).resolve().parent
FACTS_FILE: Final = PACKAGE_FOLDER / "_build_facts.json"
REBUILD_COMMAND: Final = "python -m pip install --force-reinstall --no-deps ."


@dataclass(frozen=True)
class Component:
    """One part of the native half: was it built, and if not, why.

    Attributes:
        status: `"built"`, `"skipped"` (wanted if possible, was not) or `"off"`.
        reason: a sentence; for a built component what it was built with.
    """

    status: str
    reason: str


@dataclass(frozen=True)
class BuildFacts:
    """The contents of `_build_facts.json`.

    Attributes:
        components: by name: `tensorflow`, `numpy`, `cuda`, `xla`.
        libraries: SHA-256 by file name.
        details: everything else: versions, compiler, flags.
        problem: why the file could not be read, or None.
    """

    components: dict[str, Component] = field(default_factory=dict)
    libraries: dict[str, str] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)
    problem: str | None = None


@functools.cache
def build_facts() -> BuildFacts:
    """Read the build facts; a missing or damaged file is a `problem`, not an error."""
    try:
        raw = json.loads(FACTS_FILE.read_text(encoding="utf-8"))
        components = {
            name: Component(str(entry["status"]), str(entry["reason"]))
            for name, entry in raw.pop("components").items()
        }
        libraries = {str(k): str(v) for k, v in raw.pop("libraries").items()}
        return BuildFacts(components, libraries, raw)
    except FileNotFoundError:
        return BuildFacts(problem=f"{FACTS_FILE.name} is missing: ssdops was not built")
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        return BuildFacts(problem=f"{FACTS_FILE.name} is damaged ({error!r})")


def library_problem(name: str) -> str | None:
    """Why the library file `name` should not be loaded, or None.

    A truncated or replaced shared library can crash the process while it is being
    loaded, where no exception can be caught; its checksum is compared first.
    """
    path = PACKAGE_FOLDER / name
    expected = build_facts().libraries.get(name)
    if expected is None:
        return f"{name} is not among the libraries that were built"
    try:
        actual = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        return f"{name} cannot be read: {error.strerror}"
    if actual != expected:
        return (
            f"{name} is not the file that was built (its checksum begins with"
            f" {actual[:8]}, expected {expected[:8]})"
        )
    return None
