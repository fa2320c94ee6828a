# SPDX-License-Identifier: Apache-2.0
"""One TensorFlow requirement for the build and for the installed package."""

from __future__ import annotations

import re
from importlib.metadata import requires, version

from packaging.requirements import Requirement
from packaging.version import Version
from support.repository import ROOT, tracked_files


def test_the_pin_stands_in_one_place() -> None:
    pattern = re.compile(r"tensorflow\s*(>=|==|~=|<)\s*\d")
    places = [
        str(file)
        for file in tracked_files()
        if file.suffix in (".py", ".toml", ".cfg", ".cmake", ".txt")
        and pattern.search((ROOT / file).read_text(encoding="utf-8"))
    ]
    assert places == ["setup.py"]


def test_build_and_run_requirement_are_the_same_constant() -> None:
    text = (ROOT / "setup.py").read_text(encoding="utf-8")
    assert re.search(r"setup_requires=.*\[TENSORFLOW\]", text)
    assert re.search(r"install_requires=\[\s*TENSORFLOW,", text)


def test_the_installed_package_requires_one_minor_version() -> None:
    found = [Requirement(text) for text in requires("ssdops") or ()]
    pins = [req for req in found if req.name == "tensorflow"]
    assert len(pins) == 1
    running = Version(version("tensorflow"))
    assert running in pins[0].specifier
    following = Version(f"{running.major}.{running.minor + 1}.0")
    assert following not in pins[0].specifier


def test_tools_that_format_are_pinned_exactly() -> None:
    found = [Requirement(text) for text in requires("ssdops") or ()]
    for tool in ("clang-format", "clang-tidy", "mypy", "ruff"):
        [pin] = [str(req.specifier) for req in found if req.name == tool]
        assert pin.startswith("=="), f"{tool} {pin}"
