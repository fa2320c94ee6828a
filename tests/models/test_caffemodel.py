# SPDX-License-Identifier: Apache-2.0
"""Files of Caffe's weights: every format that was written, and hostile ones."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.caffemodel import VERSIONS, blob, caffemodel, field, varint

from ssdops.models import build_from_weights, build_model
from ssdops.models.weights import read_caffemodel, read_weights, wire_format

RNG = np.random.default_rng(0)
BLOBS = {
    "conv1": [RNG.normal(size=(3, 2, 1, 2)), RNG.normal(size=3)],
    "relu1": [],
    "norm/é": [RNG.normal(size=5)],
}


def write(folder: Path, content: bytes) -> Path:
    path = folder / "net.caffemodel"
    path.write_bytes(content)
    return path


def arrays_if_readable(path: Path) -> dict[str, Any] | None:
    """The arrays, or None after an error that names the file."""
    try:
        return read_caffemodel(path)
    except ValueError as error:
        if not str(error).startswith(str(path)):
            raise
        return None


@pytest.mark.parametrize("version", VERSIONS)
def test_every_format_gives_the_same_arrays(version: str, tmp_path: Path) -> None:
    arrays = read_weights(write(tmp_path, caffemodel(BLOBS, version)))
    assert list(arrays) == ["conv1|0", "conv1|1", "norm/é|0"]
    for name, value in arrays.items():
        layer, index = name.rsplit("|", 1)
        expected = BLOBS[layer][int(index)]
        dtypes = {"double": np.float64, "raw halves": np.float16}
        expected = expected.astype(dtypes.get(version, np.float32))
        if version == "legacy shape":
            expected = expected.reshape((1,) * (4 - expected.ndim) + expected.shape)
        assert value.dtype == expected.dtype
        np.testing.assert_array_equal(value, expected)


def test_fields_of_no_interest_are_passed_over(tmp_path: Path) -> None:
    extra = (
        field(9, 7) + varint(10 << 3 | 1) + bytes(8) + varint(11 << 3 | 5) + bytes(4)
    )
    value = np.arange(6.0).reshape(2, 3)
    layer = field(1, b"a") + extra + field(7, blob(value) + extra) + field(10, b"x")
    content = extra + field(100, layer) + field(3, b"input")
    [(name, array)] = read_caffemodel(write(tmp_path, content)).items()
    assert name == "a|0"
    np.testing.assert_array_equal(array, value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "it has no blob"),
        (caffemodel({"a": []}), "it has no blob"),
        (b"\x89PNG\r\n\x1a\n" + bytes(50), "not a readable .caffemodel"),
        (caffemodel({"a": [np.zeros(3)]}) * 2, "there are two layers 'a'"),
        (field(2, field(1, b"x") + field(4, b"a")), "upgrade_net_proto_binary"),
        (field(100, field(1, b"\xff")), "utf-8"),
        (field(100, field(7, field(7, field(1, varint(3))))), r"\[3\] and 0 numbers"),
        (field(100, field(7, field(5, bytes(12)))), r"\[1, 1, 1, 1\] and 3 numbers"),
        (field(100, field(7, field(5, bytes(7)))), "buffer size must be a multiple"),
        (
            field(100, field(7, field(5, bytes(4)) + field(8, bytes(8)))),
            "and 2 numbers",
        ),
        (
            field(
                100, field(7, field(5, bytes(4)) + field(10, 2) + field(12, bytes(2)))
            ),
            "and 2 numbers",
        ),
        (
            field(100, field(7, field(10, 2) + field(12, bytes(3)))),
            "multiple of element",
        ),
        (field(100, field(7, field(10, 3) + field(12, bytes(4)))), "numbers of type 3"),
        # As many numbers as 2^64 and more: nothing is allocated for them.
        (
            field(100, field(7, field(7, field(1, varint(2**62) * 4)))),
            "and 0 numbers",
        ),
        # No numbers, and one dimension that fits no index.
        (
            field(100, field(7, field(7, field(1, varint(2**63) + varint(0))))),
            "not a readable .caffemodel",
        ),
        (
            field(100, field(7, field(7, field(1, varint(0) * 99)))),
            "more than 32 dimensions",
        ),
        (varint(100 << 3 | 2) + varint(2**60), "claims 1152921504606846976 bytes"),
        (b"\xff" * 11, "more than 10 bytes"),
        (b"\x80", "ends inside a number"),
        (varint(5 << 3 | 3), "wire type 3"),
        (varint(2), "the number 0"),
    ],
)
def test_files_that_are_refused(content: bytes, message: str, tmp_path: Path) -> None:
    path = write(tmp_path, content)
    with pytest.raises(ValueError, match=message) as error:
        read_caffemodel(path)
    assert str(error.value).startswith(str(path))


def test_a_truncated_file_is_refused_or_ends_between_layers(tmp_path: Path) -> None:
    content = caffemodel(BLOBS)
    whole = 0
    for size in range(1, len(content)):
        path = write(tmp_path, content[:size])
        arrays = arrays_if_readable(path)
        if arrays is not None:
            assert list(arrays) == ["conv1|0", "conv1|1"]
            whole += 1
    assert whole == 2  # behind conv1, and behind relu1


@given(st.data())
def test_damaged_files_raise_nothing_else(
    tmp_path_factory: pytest.TempPathFactory, data: Any
) -> None:
    content = bytearray(caffemodel(BLOBS, data.draw(st.sampled_from(VERSIONS))))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(
            st.integers(0, 255)
        )
    path = write(tmp_path_factory.getbasetemp(), bytes(content))
    arrays = arrays_if_readable(path) or {}
    assert all(array.nbytes <= len(content) for array in arrays.values())


def test_a_file_of_many_tiny_fields_does_not_take_forever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire_format, "_MAX_FIELDS", 1000)
    for content in (
        field(9, 0) * 2000,
        field(100, field(7, field(7, field(1, bytes(2000))))),
    ):
        start = time.monotonic()
        with pytest.raises(ValueError, match="more than"):
            read_caffemodel(write(tmp_path, content))
        assert time.monotonic() - start < 60


def test_other_suffixes_and_missing_files(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"must end in one of \.npz, \.caffemodel, \.tfl"
    ):
        read_weights(tmp_path / "weights.bin")
    for suffix in ("npz", "CAFFEMODEL"):
        with pytest.raises(ValueError, match="does not exist"):
            read_weights(tmp_path / f"weights.{suffix}")


def trunk(model: Any) -> dict[str, list[Any]]:
    """Blobs of the convolutions of a VGG-16, in Caffe's layout."""
    return {
        layer.name: [
            np.full((layer.filters, layer.kernel.shape[2], *layer.kernel_size), 0.5),
            np.full(layer.filters, 0.25),
        ]
        for layer in model.network.layers
        if layer.weights and layer.name.startswith(("conv1_", "conv2_"))
    }


def test_a_backbone_leaves_the_rest_at_random(tmp_path: Path) -> None:
    blobs = {**trunk(build_model("ssd300_vgg16")), "fc8": [np.zeros((2, 3))]}
    path = write(tmp_path, caffemodel(blobs, "v1"))
    names = ["background", "cell"]
    with pytest.raises(ValueError, match=r"net\.caffemodel: .*do not fit .*missing"):
        build_from_weights("ssd300_vgg16", path, names)
    model, report = build_from_weights("ssd300_vgg16", path, names, strict=False)
    assert model.spec.num_classes == 2
    assert set(report.loaded) == {
        f"conv{i}_{k}|{b}" for i in (1, 2) for k in (1, 2) for b in (0, 1)
    }
    assert list(report.skipped) == ["fc8|0"]
    assert "conv3_1|0" in report.missing
    assert (model.network.get_layer("conv2_2").kernel.numpy() == 0.5).all()
    assert model.network.get_layer("conv3_1").kernel.numpy().std() > 0
    nothing = write(tmp_path, caffemodel({"conv1_1": [], "fc8": [np.zeros(3)]}))
    with pytest.raises(ValueError, match="not those of an SSD or a backbone"):
        build_from_weights("ssd300_vgg16", nothing, names, strict=False)
