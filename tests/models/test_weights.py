# SPDX-License-Identifier: Apache-2.0
"""Reading weight files safely, and putting Caffe blobs into a model."""

from __future__ import annotations

import io
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ssdops.models import SSD, build_from_weights, build_model
from ssdops.models.weights import load_caffe_arrays, load_caffe_blobs, read_npz
from ssdops.models.weights.caffe import blobs_from_arrays


class Boom:
    """Raises where it is unpickled."""

    def __reduce__(self) -> Any:
        return (pytest.fail, ("a pickle in the file was executed",))


@pytest.fixture(scope="module")
def model() -> SSD:
    return build_model("ssd300_vgg16", num_classes=2)


@pytest.fixture(scope="module")
def blobs(model: SSD) -> dict[str, list[Any]]:
    """Blobs in Caffe's layout of the right shapes; every value tells its place."""
    found: dict[str, list[Any]] = {}
    for layer in model.network.layers:
        if not layer.weights:
            continue
        if layer.name == "conv4_3_norm":
            found[layer.name] = [np.arange(512, dtype=np.float32)]
            continue
        height, width, inputs, outputs = layer.kernel.shape
        kernel = np.zeros((outputs, inputs, height, width), np.float32)
        kernel[:, 0, 0, 0] = np.arange(outputs)
        kernel[0, 1, 0, width - 1] = 7
        found[layer.name] = [kernel, np.arange(outputs, dtype=np.float32)]
    return found


def with_layer(blobs: dict[str, list[Any]], name: str, value: Any) -> Any:
    return {**blobs, name: value}


def test_kernels_are_transposed_to_keras(
    model: SSD, blobs: dict[str, list[Any]]
) -> None:
    report = load_caffe_blobs(model, blobs)
    assert len(report.loaded) == 2 * 35 + 1
    kernel = model.network.get_layer("conv7_1").kernel.numpy()
    np.testing.assert_array_equal(kernel[0, 0, 0], np.arange(128))
    kernel = model.network.get_layer("conv7_2").kernel.numpy()
    assert kernel[0, 2, 1, 0] == 7
    assert kernel[2, 0, 1, 0] == 0
    scale = model.network.get_layer("conv4_3_norm").scale.numpy()
    np.testing.assert_array_equal(scale, np.arange(512))


def test_localization_heads_become_y_first(
    model: SSD, blobs: dict[str, list[Any]]
) -> None:
    load_caffe_blobs(model, blobs)
    bias = model.network.get_layer("fc7_mbox_loc").bias.numpy()
    np.testing.assert_array_equal(bias[:8], [1, 0, 3, 2, 5, 4, 7, 6])
    kernel = model.network.get_layer("fc7_mbox_loc").kernel.numpy()
    np.testing.assert_array_equal(kernel[0, 0, 0, :4], [1, 0, 3, 2])
    conf = model.network.get_layer("fc7_mbox_conf").bias.numpy()
    np.testing.assert_array_equal(conf, np.arange(12))


def test_legacy_blobs_have_leading_ones(
    model: SSD, blobs: dict[str, list[Any]]
) -> None:
    """Old files store biases as [1, 1, 1, out]."""
    kernel, bias = blobs["fc7"]
    legacy = with_layer(blobs, "fc7", [kernel, bias.reshape(1, 1, 1, -1)])
    load_caffe_blobs(model, legacy)


@pytest.mark.parametrize(
    ("layer", "value", "message"),
    [
        ("fc6", [np.zeros((1024, 512, 3, 3))], r"1 missing \(fc6\|1 \[1024\]\)"),
        ("fc6", [], r"2 missing \(fc6\|0 \[1024, 512, 3, 3\], fc6\|1 \[1024\]\)"),
        (
            "fc6",
            [np.zeros((512, 1024, 3, 3)), np.zeros(1024)],
            r"fc6\|0 must have shape \[1024, 512, 3, 3\] \(out, in, height, width\) "
            r"for this model, got \[512, 1024, 3, 3\]",
        ),
        ("fc7", [np.zeros((1024, 1024, 1, 1)), np.full(1024, np.inf)], "must hold fin"),
        ("fc7", [np.zeros((1024, 1024, 1, 1)), np.full(1024, "a")], "hold numbers"),
        ("conv4_3_norm", [np.zeros(512), np.zeros(512)], "takes 1 blobs, got 2"),
        ("conv4_3_norm", [np.zeros(())], r"must have shape \[512\] .* got \[\]"),
        ("fc8", [np.zeros((2, 3))], r"1 unknown \(fc8\|0 \[2, 3\]\)"),
    ],
)
def test_blobs_that_do_not_fit_are_named(
    model: SSD, blobs: dict[str, list[Any]], layer: str, value: Any, message: str
) -> None:
    before = model.network.get_layer("conv1_1").bias.numpy()
    changed = {**blobs, "conv1_1": [blobs["conv1_1"][0], np.full(64, 3.0)]}
    with pytest.raises(ValueError, match=message):
        load_caffe_blobs(model, with_layer(changed, layer, value))
    after = model.network.get_layer("conv1_1").bias.numpy()
    np.testing.assert_array_equal(before, after)


def test_partial_import(model: SSD, blobs: dict[str, list[Any]]) -> None:
    """A backbone alone, such as an ImageNet-trained VGG-16."""
    backbone = {k: v for k, v in blobs.items() if k.startswith("conv1")}
    report = load_caffe_blobs(model, {**backbone, "fc8": [np.zeros(3)]}, strict=False)
    assert set(report.loaded) == {f"conv1_{i}|{b}" for i in (1, 2) for b in (0, 1)}
    assert report.skipped == {"fc8|0": (3,)}
    assert len(report.missing) == 71 - 4
    assert report.missing["conv2_1|0"] == (128, 64, 3, 3)


def test_file_of_blobs(blobs: dict[str, list[Any]], tmp_path: Path) -> None:
    """Number of classes is inferred; the file goes through the common entry point."""
    path = tmp_path / "weights.npz"
    arrays = {f"{k}|{i}": b for k, v in blobs.items() for i, b in enumerate(v)}
    with zipfile.ZipFile(path, "w", compression=zipfile.ZIP_STORED) as archive:
        for name, value in arrays.items():
            with archive.open(f"{name}.npy", "w") as member:
                np.save(member, value)
    model, report = build_from_weights("ssd300_vgg16", path, ["background", "face"])
    assert model.spec.num_classes == 2
    assert len(report.loaded) == 71
    bias = model.network.get_layer("conv9_2_mbox_conf").bias.numpy()
    np.testing.assert_array_equal(bias, np.arange(8))
    with pytest.raises(ValueError, match=r"weights\.npz: .*predict 2 classes.* 3 name"):
        build_from_weights("ssd300_vgg16", path, ["a", "b", "c"])
    with pytest.raises(ValueError, match=r"not those of a MobileNet-V1 SSD"):
        build_from_weights("ssd300_mobilenet_v1", path)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"conv1_1": 1}, 'must be "<layer>|<blob>"'),
        ({"|0": 1}, 'must be "<layer>|<blob>"'),
        ({"a|x": 1}, 'must be "<layer>|<blob>"'),
        ({"a|0": 1, "a|2": 1}, r"numbered from 0 without gaps, got \[0, 2\]"),
    ],
)
def test_names_of_other_files(arrays: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message.replace("|", r"\|")):
        blobs_from_arrays({name: np.zeros(value) for name, value in arrays.items()})


def test_arrays_without_heads(tmp_path: Path) -> None:
    np.savez(tmp_path / "w.npz", **{"conv2_1|0": np.zeros(3)})
    with pytest.raises(ValueError, match=r"w\.npz: .*no fitting pair of arrays"):
        build_from_weights("ssd300_vgg16", tmp_path / "w.npz")


def npz_bytes(**arrays: Any) -> bytes:
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays)
    return stream.getvalue()


def npz_with_member(content: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.npy", content)
    return stream.getvalue()


def header(shape: str, descr: str = "'<f4'") -> bytes:
    """An `.npy` header that claims a shape, without data."""
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}"
    text = text.ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


def test_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "w.npz"
    arrays = {"a|0": np.arange(6.0).reshape(2, 3), "b": np.float32(3)}
    path.write_bytes(npz_bytes(**arrays))
    found = read_npz(path)
    assert set(found) == set(arrays)
    np.testing.assert_array_equal(found["a|0"], arrays["a|0"])
    with pytest.raises(ValueError, match="must be"):
        load_caffe_arrays(build_model("ssd300_vgg16"), found)


WHOLE = npz_bytes(a=np.random.default_rng(0).normal(size=(100, 30)))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"plain text",
        WHOLE[: len(WHOLE) // 2],
        WHOLE[:-10],
        WHOLE[:60] + bytes(40) + WHOLE[100:],
        pickle.dumps(Boom()),
        npz_bytes(a=np.array([Boom()], dtype=object)),
        npz_with_member(pickle.dumps(Boom())),
        npz_with_member(b""),
        npz_with_member(b"\x93NUMPY"),
        npz_with_member(header("(3,)", "'|O'") + pickle.dumps([Boom()])),
        npz_with_member(header("(1000000, 1000000)")),
        npz_with_member(header("(-5,)")),
        npz_with_member(header("(3,)") + bytes(11)),
        npz_with_member(header("(3,)") + bytes(13)),
        npz_with_member(header("__import__('os')")),
        npz_with_member(header("(3,) + (")),
    ],
    ids=[
        "empty",
        "text",
        "half",
        "tail missing",
        "bytes zeroed",
        "pickle",
        "object array",
        "pickle inside",
        "empty member",
        "magic only",
        "object header",
        "huge claim",
        "negative claim",
        "short data",
        "long data",
        "code in header",
        "open bracket in header",
    ],
)
def test_damaged_or_dangerous_files_are_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "w.npz"
    path.write_bytes(content)
    with pytest.raises(
        ValueError, match=r"w\.npz is (not a readable|damaged)"
    ) as error:
        read_npz(path)
    assert "\n" not in str(error.value)


def test_archives_that_unpack_to_too_much_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ssdops.models.weights.arrays.MAX_WEIGHTS_BYTES", 1000)
    path = tmp_path / "w.npz"
    path.write_bytes(npz_bytes(a=np.zeros(10_000)))
    with pytest.raises(ValueError, match="unpacks to 80128 bytes, more than the 1000"):
        read_npz(path)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"w\.npz does not exist"):
        read_npz(tmp_path / "w.npz")
    with pytest.raises(ValueError, match="does not exist"):
        read_npz(tmp_path)
