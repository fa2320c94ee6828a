# SPDX-License-Identifier: Apache-2.0
"""HDF5 files on which the library that reads them crashes or hangs."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from ssdops.models import build_model, load_model
from ssdops.models.weights import hdf5_check, read_keras
from ssdops.models.weights.hdf5_check import check_hdf5


def hdf5(**datasets: Any) -> bytes:
    stream = io.BytesIO()
    with h5py.File(stream, "w") as file:
        for name, value in datasets.items():
            dataset = file.create_dataset(f"layers/{name}/vars/0", data=value)
            dataset.attrs["note"] = "text"
            file[f"layers/{name}/vars"].attrs["name"] = name
    return stream.getvalue()


WHOLE = hdf5(a=np.ones((3, 4), np.float32))
VISITORS = {
    "crash": ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "SIGSEGV"),
    "hang": ("while True: pass", "could not read it in 1 seconds"),
}


@pytest.fixture(params=VISITORS)
def visitor(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> str:
    """What is said of a file on which the library does this."""
    program, message = VISITORS[request.param]
    path = tmp_path / "visitor.py"
    path.write_text(program)
    monkeypatch.setattr(hdf5_check, "_VISITOR", path)
    monkeypatch.setattr(hdf5_check, "_SECONDS", 1)
    return message


def test_files_that_can_be_read() -> None:
    check_hdf5(WHOLE)
    check_hdf5(memoryview(WHOLE))
    check_hdf5(hdf5(a=np.zeros((0, 3)), b=np.float64(3), c=np.array([b"text"])))


@pytest.mark.parametrize("data", [b"", b"no such file", WHOLE[: len(WHOLE) // 2]])
def test_files_that_cannot(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"nable to|truncated|signature"):
        check_hdf5(data)


def test_crash_and_hang_are_errors(visitor: str, tmp_path: Path) -> None:
    """Of one process that is not ours, whoever wants to read the file."""
    with pytest.raises(ValueError, match=visitor):
        check_hdf5(WHOLE)
    path = tmp_path / "net.weights.h5"
    path.write_bytes(WHOLE)
    with pytest.raises(ValueError, match=rf"net\.weights\.h5 .*{visitor}"):
        read_keras(path)
    folder = build_model("ssd_small", image_size=(64, 64), width=0.125).save(tmp_path)
    with pytest.raises(ValueError, match=rf"model\.weights\.h5 .*{visitor}"):
        load_model(folder)


@pytest.mark.parametrize("executable", ["", "/no/such/python", "/bin/false"])
def test_without_python_nothing_is_checked(
    executable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.executable", executable)
    check_hdf5(WHOLE)


def claim(file: h5py.File) -> None:
    file.create_dataset("a", (2**50,), "f4", chunks=(1024,))


def link(file: h5py.File) -> None:
    file["a"] = h5py.ExternalLink("other.h5", "/a")


def outside(file: h5py.File) -> None:
    file.create_dataset("a", (3,), "f4", external=[("other.bin", 0, 12)])


def virtual(file: h5py.File) -> None:
    layout = h5py.VirtualLayout((3,), "f4")
    layout[:] = h5py.VirtualSource("other.h5", "a", (3,))
    file.create_virtual_dataset("a", layout)


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (claim, "claims 4503599627370496 bytes, of which 0 are stored"),
        (link, "/a is in another file"),
        (outside, "numbers of a are in another file"),
        (virtual, "numbers of a are in another file"),
    ],
)
def test_what_is_not_in_the_file(write: Any, message: str, tmp_path: Path) -> None:
    """Nothing of it is read, also where Keras itself reads the file."""
    stream = io.BytesIO()
    with h5py.File(stream, "w") as file:
        write(file)
    with pytest.raises(ValueError, match=message):
        check_hdf5(stream.getvalue())
    folder = build_model("ssd_small", image_size=(64, 64), width=0.125).save(tmp_path)
    with h5py.File(folder / "model.weights.h5", "a") as file:
        write(file)
    with pytest.raises(ValueError, match=message):
        load_model(folder)
