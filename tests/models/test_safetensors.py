# SPDX-License-Identifier: Apache-2.0
"""`.safetensors` files: arrays of every dtype, whole detectors, damaged ones."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import keras
import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

import ssdops
from ssdops.models import SSD, build_model, load_model, save_safetensors
from ssdops.models.weights import read_safetensors, read_weights


def container(header: Any, data: bytes = b"") -> bytes:
    """The bytes of a file with any header."""
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def tensor(dtype: str, shape: list[int], end: int) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [0, end]}


@pytest.fixture(scope="module")
def model() -> SSD:
    keras.utils.set_random_seed(3)
    names = ["background", "Fuchs", "Hühnchen"]
    return build_model("ssd_small", class_names=names, image_size=(64, 96), width=0.125)


@pytest.fixture(scope="module")
def file(model: SSD, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_safetensors(
        model, tmp_path_factory.mktemp("st") / "new" / "m.safetensors"
    )


@pytest.mark.parametrize(
    "dtype", ["f8", "f4", "f2", "i8", "i4", "i2", "i1", "u8", "u4", "u2", "u1", "?"]
)
def test_numbers_are_those_of_the_library(dtype: str, tmp_path: Path) -> None:
    array = np.arange(6).reshape(2, 3).astype(dtype)
    file = tmp_path / "a.safetensors"
    safetensors.numpy.save_file({"a": array, "none": array[:0]}, file)
    read = read_weights(file)
    assert read["a"].dtype == array.dtype
    np.testing.assert_array_equal(read["a"], array)
    assert read["none"].shape == (0, 3)


def test_bfloat16_becomes_float32(tmp_path: Path) -> None:
    values = np.array([1.0, -2.5, 3e38, np.inf], ml_dtypes.bfloat16)
    safetensors.numpy.save_file({"a": values}, tmp_path / "a.safetensors")
    read = read_safetensors(tmp_path / "a.safetensors")["a"]
    assert read.dtype == np.float32
    np.testing.assert_array_equal(read, values.astype(np.float32))


def test_one_file_is_the_whole_detector(model: SSD, file: Path) -> None:
    again = ssdops.load(file)
    assert again.spec == model.spec
    assert again.class_names == ("background", "Fuchs", "Hühnchen")
    for ours, theirs in zip(again.network.weights, model.network.weights, strict=True):
        assert ours.path == theirs.path
        np.testing.assert_array_equal(ours.numpy(), theirs.numpy())


def test_other_programs_can_read_it(model: SSD, file: Path) -> None:
    arrays = safetensors.numpy.load_file(file)
    assert arrays.keys() == {weight.path for weight in model.network.weights}
    with safetensors.safe_open(file, framework="numpy") as opened:
        description = json.loads(opened.metadata()["ssdops-model"])
    assert description["class_names"][2] == "Hühnchen"


@pytest.mark.parametrize("folder", ["", "best", "model"])
def test_folders_of_models_and_of_runs(folder: str, model: SSD, tmp_path: Path) -> None:
    model.save(tmp_path / folder)
    assert ssdops.load(tmp_path).spec == model.spec


def test_the_best_model_of_a_run_comes_first(model: SSD, tmp_path: Path) -> None:
    other = build_model("ssd_small", image_size=(64, 64), width=0.125)
    other.save(tmp_path / "model")
    model.save(tmp_path / "best")
    assert load_model(tmp_path).spec == model.spec


def test_folder_without_a_model(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"json is missing, .* in best or model"):
        load_model(tmp_path)
    with pytest.raises(ValueError, match=r"must end in \.safetensors"):
        save_safetensors(build_model("ssd_small", width=0.125), tmp_path / "model.h5")


DESCRIPTION = "ssdops-model"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "header too small"),
        (b"12345678", "not a readable .safetensors"),
        (struct.pack("<Q", 2**60) + b"{}", "header too large"),
        (container([1]), "invalid JSON in header"),
        (container({"a": tensor("F32", [10**9, 10**9], 4)}, b"1234"), "overflow"),
        (container({"a": tensor("F32", [1], 8)}, b"12345678"), "invalid shape"),
        (container({"a": tensor("F32", [2], 8)}, b"1234"), "not fully covered"),
        (container({"a": tensor("Q32", [1], 4)}, b"1234"), "invalid JSON"),
        (container({"a": tensor("F8_E4M3", [4], 4)}, b"1234"), "dtype F8_E4M3"),
        (container({"a": tensor("C64", [1], 8)}, b"12345678"), "dtype C64"),
    ],
)
def test_damaged_files(data: bytes, message: str, tmp_path: Path) -> None:
    file = tmp_path / "bad.safetensors"
    file.write_bytes(data)
    with pytest.raises(ValueError, match=message) as caught:
        read_safetensors(file)
    assert str(file) in str(caught.value)


def test_any_cut_is_noticed(file: Path, tmp_path: Path) -> None:
    data = file.read_bytes()
    for size in (0, 7, 8, 100, len(data) // 2, len(data) - 1):
        cut = tmp_path / "cut.safetensors"
        cut.write_bytes(data[:size])
        with pytest.raises(ValueError, match=r"cut\.safetensors"):
            load_model(cut)


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        (None, "no description of a model"),
        ({DESCRIPTION: "{"}, "not valid JSON"),
        ({DESCRIPTION: "[" * 100_000}, "not valid JSON"),
        ({DESCRIPTION: "[]"}, 'no entry "format"'),
        ({DESCRIPTION: '{"format": "ssdops-model"}'}, "format_version None"),
    ],
)
def test_files_that_describe_no_model(
    metadata: dict[str, str] | None, message: str, tmp_path: Path
) -> None:
    file = tmp_path / "other.safetensors"
    safetensors.numpy.save_file({"a": np.zeros(3)}, file, metadata=metadata)
    with pytest.raises(ValueError, match=message):
        load_model(file)


def test_weights_must_be_those_of_the_description(model: SSD, tmp_path: Path) -> None:
    file = tmp_path / "m.safetensors"
    description = {DESCRIPTION: json.dumps(model.description())}
    arrays = {weight.path: weight.numpy() for weight in model.network.weights}
    name = "stem1/kernel"
    for change, message in (
        (lambda: arrays.pop(name), "missing .*stem1/kernel"),
        (lambda: arrays.update({name: np.zeros(3, "f4")}), r"stem1/kernel must have"),
        (lambda: arrays.update({name: np.full((3, 3, 3, 8), np.nan)}), "NaN"),
        (lambda: arrays.update(more=np.zeros(3, "f4")), "unknown .*more"),
    ):
        change()
        safetensors.numpy.save_file(arrays, file, metadata=description)
        with pytest.raises(ValueError, match=message):
            load_model(file)
