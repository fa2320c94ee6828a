# SPDX-License-Identifier: Apache-2.0
"""A damaged native half costs one warning and some speed, never a result."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from support.requirements import require_native_op

from ssdops._build_facts import PACKAGE_FOLDER

pytest.importorskip("tensorflow")

LIBRARY = "_ssdops_tf.so"
FACTS = "_build_facts.json"
# Two op calls: the warning must not be repeated.
PROGRAM = """
import ssdops
iou = ssdops.box_iou([[0., 0., 1., 1.]], [[0., 0.5, 1., 1.]])
iou = ssdops.box_iou([[0., 0., 1., 1.]], [[0., 0.5, 1., 1.]])
print("iou", iou.numpy().tolist())
try:
    ssdops.box_iou([[0., 0., 1., 1.]], [[0., 0., 1., 1.]], implementation="native")
except ssdops.NativeUnavailableError as error:
    print("native:", error)
"""


def edit_facts(package: Path, **changes: object) -> None:
    path = package / FACTS
    facts = json.loads(path.read_text(encoding="utf-8"))
    facts.update(changes)
    path.write_text(json.dumps(facts), encoding="utf-8")


def truncate(package: Path) -> None:
    data = (package / LIBRARY).read_bytes()
    (package / LIBRARY).write_bytes(data[: len(data) // 2])


def fill_with_garbage(package: Path) -> None:
    (package / LIBRARY).write_bytes(b"\x7fELF" + bytes(range(256)) * 64)


def remove(package: Path) -> None:
    (package / LIBRARY).unlink()


def claim_other_tensorflow(package: Path) -> None:
    edit_facts(package, tensorflow_version="2.20.0")


def damage_facts(package: Path) -> None:
    (package / FACTS).write_text("{", encoding="utf-8")


def remove_facts(package: Path) -> None:
    (package / FACTS).unlink()


def replace_by_a_library_without_ops(package: Path) -> None:
    """Loads without an error, but registers nothing."""
    [other] = package.glob("_native.*.so")
    data = other.read_bytes()
    (package / LIBRARY).write_bytes(data)
    facts = json.loads((package / FACTS).read_text(encoding="utf-8"))
    facts["libraries"][LIBRARY] = hashlib.sha256(data).hexdigest()
    edit_facts(package, libraries=facts["libraries"])


def replace_by_text_with_a_matching_checksum(package: Path) -> None:
    data = b"not a shared library"
    (package / LIBRARY).write_bytes(data)
    edit_facts(package, libraries={LIBRARY: hashlib.sha256(data).hexdigest()})


CASES: dict[str, tuple[Callable[[Path], None], str]] = {
    "truncated": (truncate, "is not the file that was built"),
    "garbage": (fill_with_garbage, "is not the file that was built"),
    "missing": (remove, "cannot be read: No such file"),
    "other TensorFlow": (claim_other_tensorflow, "was built for TensorFlow 2.20.0"),
    "damaged facts": (damage_facts, "_build_facts.json is damaged"),
    "no facts": (remove_facts, "_build_facts.json is missing"),
    "no ops": (replace_by_a_library_without_ops, "_ssdops_tf.so"),
    "no library": (replace_by_text_with_a_matching_checksum, "cannot be loaded"),
}


def run(package: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "PYTHONPATH": str(package.parent),
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }
    environment.pop("SSDOPS_IMPLEMENTATION", None)
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=package.parent,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A copy of the installed package that a test may damage."""
    require_native_op("box_iou", "float32")
    copy = tmp_path / "ssdops"
    shutil.copytree(
        PACKAGE_FOLDER, copy, ignore=shutil.ignore_patterns("__pycache__", "*.pyc")
    )
    return copy


@pytest.mark.parametrize("case", CASES)
def test_one_warning_and_right_results(package: Path, case: str) -> None:
    damage, reason = CASES[case]
    damage(package)
    result = run(package, "-c", PROGRAM)
    assert result.returncode == 0, result.stderr
    assert "iou [[0.5]]" in result.stdout
    assert result.stderr.count("NativeUnavailableWarning") == 1, result.stderr
    assert "same results, slower" in result.stderr
    assert reason in result.stderr
    assert "pip install" in result.stderr
    # Whoever demands the native op gets the reason instead of the reference.
    assert "native: box_iou has no native implementation" in result.stdout
    assert reason in result.stdout


@pytest.mark.parametrize("damage", ["missing", "other"])
def test_without_the_xla_library_xla_compiles_the_reference(
    package: Path, damage: str
) -> None:
    library = package / "_ssdops_xla.so"
    if not library.exists():
        pytest.skip("the XLA library was not built")
    if damage == "missing":
        library.unlink()
        reason = "cannot be read: No such file"
    else:
        library.write_bytes(b"not a library")
        reason = "is not the file that was built"
    program = """
import tensorflow as tf, ssdops
def iou(boxes):
    return ssdops.box_iou(boxes, boxes)
boxes = tf.constant([[0., 0., 1., 1.], [0., 0.5, 1., 1.]])
print("iou", tf.function(iou, jit_compile=True)(boxes).numpy().tolist())
print("native", bool(ssdops.box_iou(boxes, boxes, implementation="native") is not None))
"""
    result = run(package, "-c", program)
    assert result.returncode == 0, result.stderr
    assert "iou [[1.0, 0.5], [0.5, 1.0]]" in result.stdout
    assert "native True" in result.stdout
    assert "NativeUnavailableWarning" not in result.stderr
    report = run(package, "-m", "ssdops", "doctor", "--json")
    assert report.returncode == 0, report.stderr
    xla = json.loads(report.stdout)["xla"]
    assert xla.startswith("reference (")
    assert reason in xla


def test_doctor_tells_and_exits_with_1(package: Path) -> None:
    truncate(package)
    result = run(package, "-m", "ssdops", "doctor", "--json")
    assert result.returncode == 1, result.stderr
    report = json.loads(result.stdout)
    assert report["native"] is False
    assert "is not the file that was built" in report["problems"][0]
    assert {row["implementation"] for row in report["ops"]} == {"reference"}
    result = run(package, "-m", "ssdops", "doctor")
    assert result.returncode == 1
    assert "NOT active" in result.stdout
    assert "is not the file that was built" in result.stdout


def test_doctor_on_a_whole_installation(package: Path) -> None:
    result = run(package, "-m", "ssdops", "doctor", "--json")
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout)
    assert report["native"] is True
    assert report["numpy_binding"] is True
    assert report["problems"] == []
    native = {
        (row["op"], row["dtype"])
        for row in report["ops"]
        if row["implementation"] == "native"
    }
    for dtype in ("float16", "bfloat16", "float32", "float64"):
        assert ("box_iou", dtype) in native
    text = run(package, "-m", "ssdops", "doctor").stdout
    for word in (
        "tensorflow",
        "compiler",
        "box_iou",
        "float32",
        "Native ops are active",
    ):
        assert word in text


def test_doctor_without_tensorflow(package: Path) -> None:
    fake = package.parent / "tensorflow"
    fake.mkdir()
    (fake / "__init__.py").write_text("raise ImportError('there is none here')")
    result = run(package, "-m", "ssdops", "doctor")
    assert result.returncode == 1
    assert "TensorFlow cannot be imported" in result.stdout
    assert "there is none here" in result.stdout
    assert "Traceback" not in result.stderr


def test_the_binding_works_without_tensorflow(package: Path) -> None:
    program = """
import sys
sys.modules["tensorflow"] = None  # any import of it fails
import numpy as np
from ssdops import _native
box = np.array([[0, 0, 1, 1]], np.float32)
print(_native.box_iou(box, box).tolist())
"""
    result = run(package, "-c", program)
    assert result.returncode == 0, result.stderr
    assert "[[1.0]]" in result.stdout
