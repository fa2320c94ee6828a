# SPDX-License-Identifier: Apache-2.0
"""What the installed package consists of."""

from __future__ import annotations

import re
import shutil
import subprocess
from importlib.metadata import files
from pathlib import Path

import pytest
from support.requirements import require_native_op

from ssdops._build_facts import PACKAGE_FOLDER, build_facts


def installed() -> list[str]:
    return [str(path) for path in files("ssdops") or ()]


def test_no_tensorflow_library_is_packed() -> None:
    packed = [path.name for path in PACKAGE_FOLDER.rglob("*")]
    assert not [name for name in packed if name.startswith("libtensorflow")]


def test_types_are_packed() -> None:
    assert (PACKAGE_FOLDER / "py.typed").is_file()
    assert (PACKAGE_FOLDER / "_native.pyi").is_file()


def test_only_the_package_is_installed() -> None:
    ours = re.compile(r"ssdops(-[\d.]+\.dist-info)?$|\.\.$|__editable__|__pycache__$")
    tops = {path.split("/")[0] for path in installed()}
    unexpected = {top for top in tops if not ours.match(top)}
    assert not unexpected


def test_build_facts_are_complete() -> None:
    facts = build_facts()
    assert facts.problem is None
    assert set(facts.components) == {"tensorflow", "numpy", "cuda", "xla"}
    for component in facts.components.values():
        assert component.status in ("built", "skipped", "off")
        assert component.reason


def library(prefix: str) -> Path:
    require_native_op("box_iou", "float32")
    [name] = [n for n in build_facts().libraries if n.startswith(prefix)]
    return PACKAGE_FOLDER / name


def symbols(path: Path, *options: str) -> list[str]:
    nm = shutil.which("nm")
    if nm is None:
        pytest.skip("nm (binutils) is not installed")
    run = subprocess.run(
        [nm, "-D", *options, str(path)], check=True, capture_output=True, text=True
    )
    return run.stdout.splitlines()


def test_op_library_exports_nothing() -> None:
    assert symbols(library("_ssdops_tf"), "--defined-only") == []


def test_binding_exports_only_its_entry_point() -> None:
    exported = symbols(library("_native."), "--defined-only")
    assert [line.split()[-1] for line in exported] == ["PyInit__native"]


def test_binding_needs_only_python_and_the_standard_libraries() -> None:
    # Python's symbols come from the interpreter, so the linker's own check for
    # undefined symbols cannot be used there: this is the same check.
    undefined = symbols(library("_native."), "--undefined-only")
    names = [line.split()[-1] for line in undefined if " w " not in line]
    foreign = [name for name in names if "@" not in name and not name.startswith("Py")]
    foreign = [name for name in foreign if not name.startswith("_Py")]
    if build_facts().details.get("sanitize") == "OFF":
        assert foreign == []
