# SPDX-License-Identifier: Apache-2.0
"""Rules for the text of the source files."""

from __future__ import annotations

import re

from support.repository import ROOT, tracked_files

SOURCE_SUFFIXES = (".py", ".pyi", ".h", ".cc", ".cu", ".cmake")
TOP_LEVEL = {
    ".ci",
    ".clang-format",
    ".clang-tidy",
    ".clangd",
    ".gitignore",
    "CHANGELOG.md",
    "CMakeLists.txt",
    "CONTRIBUTING.md",
    "LICENSE",
    "README.md",
    "benchmarks",
    "csrc",
    "pyproject.toml",
    "setup.py",
    "ssdops",
    "tests",
}


def test_every_source_file_names_its_licence() -> None:
    for file in tracked_files():
        if file.suffix in SOURCE_SUFFIXES or file.name == "CMakeLists.txt":
            first = (ROOT / file).read_text(encoding="utf-8").split("\n", 1)[0]
            expected = "SPDX-License-Identifier: Apache-2.0"
            assert expected in first, f"{file}: the first line must be its SPDX line"


def test_top_level_is_fixed() -> None:
    found = {file.parts[0] for file in tracked_files()}
    assert found <= TOP_LEVEL, f"not in the layout: {sorted(found - TOP_LEVEL)}"


def test_no_empty_files() -> None:
    empty = [
        str(file)
        for file in tracked_files()
        if file.name != "py.typed" and not (ROOT / file).stat().st_size
    ]
    assert not empty, f"empty files: {empty}"


def test_no_machine_paths() -> None:
    pattern = re.compile(r"(^|[^\w.])/(tmp|home|root|Users)/")
    for file in tracked_files():
        if file.suffix in (".png", ".jpg", ".npz"):
            continue
        text = (ROOT / file).read_text(encoding="utf-8")
        if file.name != "test_sources.py":
            assert not pattern.search(text), f"{file} names a path of some machine"


def test_no_open_ends() -> None:
    pattern = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")
    for file in tracked_files():
        if file.suffix in SOURCE_SUFFIXES and file.name != "test_sources.py":
            text = (ROOT / file).read_text(encoding="utf-8")
            assert not pattern.search(text), f"{file} has an open end"
