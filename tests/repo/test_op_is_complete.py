# SPDX-License-Identifier: Apache-2.0
"""Every op exists in every layer, under the same stem."""

from __future__ import annotations

import re

import pytest
from support.repository import ROOT, ops

FILES = (
    "csrc/include/ssdops/{op}.h",
    "csrc/include/ssdops/{op}_cuda.h",
    "csrc/cpu/{op}.cc",
    "csrc/cuda/{op}.cu",
    "csrc/tensorflow/{op}_op.cc",
    "csrc/python/bind_{op}.cc",
    "ssdops/reference/{op}.py",
    "ssdops/ops/{op}.py",
    "tests/oracles/{op}.py",
    "tests/kernels/test_{op}.py",
    "tests/ops/test_{op}.py",
    "benchmarks/bench_{op}.py",
)
MENTIONS = (
    ("csrc/CMakeLists.txt", r"ssdops_add_op\({op}[ )]"),
    ("ssdops/_native.pyi", r"def {op}\("),
    ("ssdops/__init__.py", r'"{op}": "ssdops.ops"'),
    ("README.md", r"\| `{op}` \|"),
    ("CHANGELOG.md", r"`{op}`"),
)


def test_there_are_ops() -> None:
    assert len(ops()) >= 5


@pytest.mark.parametrize("op", ops())
@pytest.mark.parametrize("pattern", FILES)
def test_layer_has_a_file(op: str, pattern: str) -> None:
    path = ROOT / pattern.format(op=op)
    assert path.is_file(), f"{op} is incomplete: {pattern.format(op=op)} is missing"


@pytest.mark.parametrize("op", ops())
@pytest.mark.parametrize(("file", "pattern"), MENTIONS)
def test_op_is_mentioned(op: str, file: str, pattern: str) -> None:
    text = (ROOT / file).read_text(encoding="utf-8")
    assert re.search(pattern.format(op=op), text), f"{op} is not mentioned in {file}"


@pytest.mark.parametrize("op", ops())
def test_loader_knows_the_registered_kernels(op: str) -> None:
    """The loader's table is what C++ registers: names and dtypes."""
    pytest.importorskip("tensorflow")
    from ssdops._loader import KERNEL_DTYPES, NATIVE_OPS

    source = (ROOT / f"csrc/tensorflow/{op}_op.cc").read_text(encoding="utf-8")
    registered = re.findall(r'REGISTER_OP\("Ssdops>(\w+)"\)', source)
    names = ["ssdops" + re.sub(r"([A-Z])", r"_\1", name).lower() for name in registered]
    assert sorted(NATIVE_OPS[op]) == sorted(names)
    if "SSDOPS_FOR_EACH_FLOAT(SSDOPS_REGISTER)" in source:
        dtypes = ("bfloat16", "float16", "float32", "float64")
    else:
        dtypes = ("float32", "float64")
        assert "SSDOPS_REGISTER(float)\nSSDOPS_REGISTER(double)\n" in source
    assert sorted(KERNEL_DTYPES[op]["CPU"]) == sorted(dtypes)
