# SPDX-License-Identifier: Apache-2.0
"""Layers see only what the layer rules allow: includes and imports."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.repository import ROOT, tracked_files

# Folder -> what its quoted and angled includes may be.
STANDARD = r"<[a-z_0-9]+>"
CONTRACTS = r'"ssdops/[a-z_]+\.h"'
INCLUDES = {
    "csrc/include": (STANDARD, CONTRACTS, "<cuda_runtime_api.h>"),
    "csrc/cpu": (STANDARD, CONTRACTS, r'"[a-z_0-9]+\.h"', "<immintrin.h>"),
    "csrc/cuda": (STANDARD, CONTRACTS, r'"[a-z_]+\.h"', r"<cub/.*>", r"<cuda.*>"),
    "csrc/tensorflow": (STANDARD, CONTRACTS, r'"[a-z_]+\.h"'),
    "csrc/xla": (STANDARD, CONTRACTS, r'"[a-z_]+\.h"'),
    "csrc/python": (STANDARD, CONTRACTS, r'"[a-z_]+\.h"', r"<pybind11/.*>"),
}
PRELUDES = (
    "csrc/tensorflow/tf_prelude.h",
    "csrc/xla/ffi_prelude.h",
    "csrc/xla/xla_prelude.h",
)

# Package or module -> the ssdops modules that it may import, besides its own.
LEAVES = ("ssdops.constants",)
IMPORTS = {
    "ssdops.constants": (),
    "ssdops.anchors": LEAVES,
    "ssdops.boxes": LEAVES,
    "ssdops.files": LEAVES,
    "ssdops.image_io": LEAVES,
    "ssdops.protobuf_text": (),
    "ssdops.resizing": (),
    "ssdops.visualization": (*LEAVES, "ssdops.boxes"),
    "ssdops.reference": LEAVES,
    "ssdops.ops": (
        *LEAVES,
        "ssdops.reference",
        "ssdops._cuda_driver",
        "ssdops._loader",
        "ssdops._implementation",
    ),
    "ssdops.image": ("ssdops.ops",),
    "ssdops.models": (
        *LEAVES,
        "ssdops.anchors",
        "ssdops.boxes",
        "ssdops.files",
        "ssdops.image_io",
        "ssdops.ops",
        "ssdops.protobuf_text",
        "ssdops.resizing",
    ),
    "ssdops.data": (
        *LEAVES,
        "ssdops.boxes",
        "ssdops.files",
        "ssdops.image_io",
        "ssdops.ops",
        "ssdops.protobuf_text",
        "ssdops.resizing",
    ),
    "ssdops.evaluation": (
        *LEAVES,
        "ssdops.boxes",
        "ssdops.data",
        "ssdops.files",
        "ssdops.image_io",
        "ssdops.models",
        "ssdops.ops",
    ),
    "ssdops.training": (
        *LEAVES,
        "ssdops.boxes",
        "ssdops.data",
        "ssdops.evaluation",
        "ssdops.files",
        "ssdops.image_io",
        "ssdops.models",
        "ssdops.ops",
        "ssdops.visualization",
    ),
    "ssdops.benchmarking": (
        *LEAVES,
        "ssdops.__version__",
        "ssdops._build_facts",
        "ssdops.anchors",
        "ssdops.files",
        "ssdops.ops",
    ),
    "ssdops.detection": (
        *LEAVES,
        "ssdops.boxes",
        "ssdops.data",
        "ssdops.evaluation",
        "ssdops.image_io",
        "ssdops.models",
        "ssdops.ops",
        "ssdops.visualization",
    ),
    "ssdops.inspection": (
        "ssdops.anchors",
        "ssdops.data",
        "ssdops.image_io",
        "ssdops.ops",
    ),
    "ssdops.reporting": (
        "ssdops.anchors",
        "ssdops.ops",
        "ssdops.data",
        "ssdops.files",
        "ssdops.models",
        "ssdops.training",
        "ssdops.visualization",
    ),
}
NO_TENSORFLOW = (
    "ssdops/__init__.py",
    "ssdops/_build_facts.py",
    "ssdops/_cuda_driver.py",
    "ssdops/_implementation.py",
    "ssdops/anchors",
    "ssdops/benchmarking/arithmetic.py",
    "ssdops/benchmarking/floors.py",
    "ssdops/benchmarking/processes.py",
    "ssdops/benchmarking/report.py",
    "ssdops/benchmarking/results.py",
    "ssdops/benchmarking/session.py",
    "ssdops/benchmarking/worker.py",
    "ssdops/resizing.py",
    "ssdops/benchmarking/workloads.py",
    "ssdops/constants.py",
    "tests/kernels",
    "tests/oracles",
)


def python_files(folder: str) -> list[Path]:
    return [
        file
        for file in tracked_files()
        if file.suffix == ".py" and file.is_relative_to(folder)
    ]


def imported_modules(path: Path) -> Iterator[str]:
    """Full names of everything that a file imports at run time, at any depth."""
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    typing_only = {
        id(child)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        for child in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def is_inside(module: str, package: str) -> bool:
    return module == package or module.startswith(package + ".")


def test_relative_imports_are_not_used() -> None:
    for path in python_files("ssdops"):
        tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
        levels = [n.level for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)]
        assert not any(levels), f"{path}: write the full module name"


@pytest.mark.parametrize("layer", IMPORTS)
def test_python_layer_imports_only_downwards(layer: str) -> None:
    path = layer.replace(".", "/")
    files = python_files(path) or python_files(path + ".py")
    assert files, f"{layer} does not exist"
    for file in files:
        for module in imported_modules(file):
            if not is_inside(module, "ssdops"):
                continue
            allowed = (layer, *IMPORTS[layer])
            assert any(is_inside(module, package) for package in allowed), (
                f"{file} imports {module}; {layer} may import {', '.join(allowed)}"
            )


@pytest.mark.parametrize("place", NO_TENSORFLOW)
def test_no_tensorflow_here(place: str) -> None:
    files = python_files(place)
    assert files, f"{place} does not exist"
    for file in files:
        for module in imported_modules(file):
            assert module.split(".")[0] not in ("tensorflow", "keras"), (
                f"{file} imports {module}; it must work without TensorFlow"
            )


def test_private_tensorflow_is_not_used() -> None:
    for file in tracked_files():
        if file.suffix != ".py":
            continue
        for module in imported_modules(file):
            assert not is_inside(module, "tensorflow.python"), (
                f"{file} imports {module}; use the public tf.* names"
            )


@pytest.mark.parametrize("folder", INCLUDES)
def test_includes_stay_in_their_layer(folder: str) -> None:
    for file in tracked_files():
        if not file.is_relative_to(folder) or str(file) in PRELUDES:
            continue
        text = (ROOT / file).read_text(encoding="utf-8")
        for include in re.findall(r"^\s*#include\s+(\S+)", text, re.MULTILINE):
            assert any(re.fullmatch(p, include) for p in INCLUDES[folder]), (
                f"{file} includes {include}, which {folder} may not"
            )
            if folder == "csrc/include":
                assert "cuda" not in include or file.stem.endswith(
                    ("_cuda", "cuda_status")
                ), f"{file}: CUDA types belong in *_cuda.h"


def test_shims_compute_no_coordinates() -> None:
    """Arithmetic on boxes lives in the kernels, never in a framework's shim."""
    for file in tracked_files():
        if file.is_relative_to("csrc/tensorflow") or file.is_relative_to("csrc/xla"):
            text = (ROOT / file).read_text(encoding="utf-8")
            assert "box_math.h" not in text, f"{file} includes box_math.h"
            assert "box_coding.h" not in text, f"{file} includes box_coding.h"
