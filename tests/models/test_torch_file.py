# SPDX-License-Identifier: Apache-2.0
"""PyTorch's files: what `torch.save` writes, and pickles that want other things."""

from __future__ import annotations

import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.torch_file import (
    FakeTensor,
    pickled,
    write_archive,
    write_pickles,
    write_torch,
)

from ssdops.anchors import ssd300_coco, ssd300_torchvision
from ssdops.models import build_from_weights, build_model
from ssdops.models.weights import read_torch, torch_file
from ssdops.models.weights.vgg16_torch_names import with_caffe_names

RNG = np.random.default_rng(0)
VALUES = {
    "a.weight": RNG.normal(size=(3, 2)).astype(np.float32),
    "a.bias": np.float64(RNG.normal(size=3)),
    "half": RNG.normal(size=(2, 1, 2)).astype(np.float16),
    "brain": RNG.normal(size=5).astype(ml_dtypes.bfloat16),
    "num_batches_tracked": np.array(7),
    "empty": np.zeros((0, 4), np.float32),
}


def state(values: Any = VALUES) -> OrderedDict[str, Any]:
    tensors = OrderedDict((name, FakeTensor(value)) for name, value in values.items())
    # As torch.nn.Module.state_dict leaves it there.
    tensors._metadata = OrderedDict(version=1)  # type: ignore[attr-defined]
    return tensors


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("key", [None, "state_dict", "model", "model_state_dict"])
def test_every_tensor_is_read(key: str | None, old: bool, tmp_path: Path) -> None:
    content = state() if key is None else {"epoch": 3, key: state(), "args": [None]}
    arrays = read_torch(write_torch(tmp_path / "net.pth", content, old=old))
    assert list(arrays) == list(VALUES)
    for name, value in VALUES.items():
        expected = value.astype(np.float32) if name == "brain" else value
        assert arrays[name].dtype == expected.dtype
        np.testing.assert_array_equal(arrays[name], expected)


@pytest.mark.parametrize("old", [False, True])
def test_views_and_shared_numbers(old: bool, tmp_path: Path) -> None:
    numbers = np.arange(24, dtype=np.float32)
    turned = FakeTensor(numbers, size=(4, 3), stride=(1, 4))
    part = FakeTensor(numbers, size=(2, 2), stride=(6, 2))
    part.offset = 5
    turned.key = part.key = "all"
    arrays = read_torch(
        write_torch(tmp_path / "n.pt", {"turned": turned, "part": part}, old=old)
    )
    np.testing.assert_array_equal(arrays["turned"], numbers[:12].reshape(3, 4).T)
    np.testing.assert_array_equal(arrays["part"], [[5, 7], [11, 13]])


class Evil:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (Path.touch, (self.path,))


def test_nothing_is_executed(tmp_path: Path) -> None:
    proof = tmp_path / "proof"
    for content in (Evil(proof), {"a": FakeTensor(np.zeros(2)), "b": Evil(proof)}):
        for old in (False, True):
            path = write_torch(tmp_path / "net.pth", content, old=old)
            with pytest.raises(ValueError, match="which weights do not need"):
                read_torch(path)
    for part in ("version", "system", "keys"):
        evil: dict[str, Any] = {part: Evil(proof)}
        path = write_pickles(tmp_path / "net.pth", pickle.dumps({}), {}, **evil)
        with pytest.raises(ValueError, match="which weights do not need"):
            read_torch(path)
    path.write_bytes(pickle.dumps(Evil(proof)))
    with pytest.raises(ValueError, match="neither a zip archive nor"):
        read_torch(path)
    for line in (b"cos\nsystem\n(S'touch x'\ntR.", b"cbuiltins\neval\n(S'1'\ntR."):
        path = write_archive(tmp_path / "net.pth", line, {})
        with pytest.raises(
            ValueError, match=r"it asks for (os\.system|builtins\.eval)"
        ):
            read_torch(path)
    assert not proof.exists()


# Each is two of the one before.
TUPLES = b")" + b"".join(bytes([*b"q", i, *b"h", i, *b"\x86"]) for i in range(60))
BOMBS = {
    "a key that is hashed for ever": b"}" + TUPLES + b"Ns.",
    "one of several keys": b"}(" + TUPLES + b"Nu.",
    "a key of a new dictionary": b"(" + TUPLES + b"N" + b"d.",
    "a set": b"\x8f(" + TUPLES + b"\x90.",
    "a frozen set": b"(" + TUPLES + b"\x91.",
    "a place in memory": b"}r\xff\xff\xff\x7f.",
    "bytes": b"\x96" + (2**40).to_bytes(8, "little") + b".",
    "a text": b"\x8d" + (2**40).to_bytes(8, "little") + b".",
    "attributes of a function": b"ctorch._utils\n_rebuild_tensor\n}b.",
    "attributes of a type": b"ctorch\nFloatStorage\n}X\x05\x00\x00\x00dtypeX\x03\x00"
    b"\x00\x00<f8sb.",
}


@pytest.mark.parametrize("name", BOMBS)
@pytest.mark.parametrize("old", [False, True])
@pytest.mark.timeout(60)
def test_small_files_that_ask_for_much(name: str, old: bool, tmp_path: Path) -> None:
    """They are refused at once, and nothing of ours is changed by them."""
    content = b"\x80\x04" + BOMBS[name]
    path = (write_pickles if old else write_archive)(tmp_path / "net.pth", content, {})
    with pytest.raises(ValueError, match=r"net\.pth"):
        read_torch(path)
    write_torch(path, state(), old=old)
    np.testing.assert_array_equal(read_torch(path)["a.weight"], VALUES["a.weight"])


@pytest.mark.timeout(60)
def test_a_version_that_is_printed_for_ever(tmp_path: Path) -> None:
    value: Any = ()
    for _ in range(60):
        value = (value, value)
    path = write_pickles(tmp_path / "net.pth", pickle.dumps({}), {}, version=value)
    with pytest.raises(ValueError, match="has the version of a tuple, 1001 is known"):
        read_torch(path)


def tensor(value: Any = (1.0, 2.0, 3.0), **changes: Any) -> dict[str, FakeTensor]:
    made = FakeTensor(np.array(value, np.float32))
    for name, change in changes.items():
        setattr(made, name, change)
    return {"t": made}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "has no tensors by name"),
        ([FakeTensor(np.zeros(2))], "has no tensors by name"),
        ({3: FakeTensor(np.zeros(2))}, "has no tensors by name"),
        (tensor(offset=1), r"tensor t of shape \[3\] does not fit its 3 numbers"),
        (tensor(offset=-1), "no size, stride and offset"),
        (tensor(offset=None), "no size, stride and offset"),
        (tensor(stride=(2,)), "does not fit"),
        (tensor(stride=(-1,)), "no size, stride and offset"),
        (tensor(stride=(1, 1)), "1 sizes, 2 strides"),
        (tensor(size=(3.0,)), "no size, stride and offset"),
        (tensor(size=(1,) * 99, stride=(1,) * 99), "no size, stride and offset"),
        # Repeated by a stride of 0, a small file would fill the memory.
        (tensor(size=(2**40,), stride=(0,)), "does not fit"),
        (tensor(size=(2**40, 0, 2**40), stride=(1, 1, 1)), "not a readable"),
    ],
)
def test_tensors_that_are_refused(content: Any, message: str, tmp_path: Path) -> None:
    path = write_torch(tmp_path / "net.pth", content)
    with pytest.raises(ValueError, match=message) as error:
        read_torch(path)
    assert str(error.value).startswith(str(path))
    assert "\n" not in str(error.value)


def test_files_that_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "net.pth"
    with pytest.raises(ValueError, match="does not exist"):
        read_torch(path)
    for content, message in (
        (b"", "neither a zip archive nor what came before"),
        (pickle.dumps(7), "neither a zip archive nor what came before"),
        (b"PK", "File is not a zip file"),
    ):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=message):
            read_torch(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("other", "")
    with pytest.raises(ValueError, match=r"holds 0 files data\.pkl"):
        read_torch(path)
    write_torch(path, state())
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("net2/data.pkl", "")
    with pytest.raises(ValueError, match=r"holds 2 files data\.pkl"):
        read_torch(path)
    write_archive(path, pickle.dumps({}), {}, "big")
    with pytest.raises(ValueError, match=r"not a readable .* big-endian"):
        read_torch(path)
    write_archive(path, b"", {})
    with pytest.raises(ValueError, match="not a readable"):
        read_torch(path)
    write_torch(path, state())
    monkeypatch.setattr(torch_file, "_MAX_PICKLE_BYTES", 100)
    with pytest.raises(ValueError, match=r"data\.pkl is larger than 100 bytes"):
        read_torch(path)
    monkeypatch.setattr(torch_file, "MAX_WEIGHTS_BYTES", 100)
    with pytest.raises(ValueError, match="unpacks to"):
        read_torch(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"version": 1000}, "has the version 1000, 1001 is known"),
        ({"version": None}, "has the version of a NoneType"),
        ({"system": {"little_endian": False}}, "big-endian"),
        ({"system": [1]}, "big-endian"),
        ({"keys": "a"}, "does not list its numbers"),
        ({"keys": [7]}, "does not list its numbers"),
        ({"keys": ["b"]}, "numbers 'b' of no tensor"),
        ({"keys": ["a", "a"]}, "numbers 'a' of no tensor, or twice"),
        ({"keys": []}, "not a readable"),
        ({"count": 2}, r"tensor t of shape \[3\] does not fit its 2 numbers"),
        ({"count": 4}, "numbers 'a' claim 16 bytes, there are 12"),
        ({"count": -1}, "numbers 'a' claim -4 bytes"),
        ({"count": 2**62}, "numbers 'a' claim"),
    ],
)
def test_old_files_that_are_refused(
    changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    content, storages = pickled(tensor(key="a"), True)
    path = write_pickles(tmp_path / "net.pth", content, storages)
    assert read_torch(path)["t"].tolist() == [1, 2, 3]
    write_pickles(path, content, storages, **changes)
    with pytest.raises(ValueError, match=message) as error:
        read_torch(path)
    assert str(error.value).startswith(str(path))


def test_old_files_that_end_early(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_torch(tmp_path / "net.pth", state(), old=True)
    data = path.read_bytes()
    for size in [*range(0, len(data), 7), len(data) - 1]:
        path.write_bytes(data[:size])
        with pytest.raises(ValueError, match=r"net\.pth"):
            read_torch(path)
    path.write_bytes(data)
    monkeypatch.setattr(torch_file, "_MAX_PICKLE_BYTES", 200)
    with pytest.raises(ValueError, match="not a readable"):
        read_torch(path)


def test_parts_of_other_storages_are_refused(tmp_path: Path) -> None:
    """So that a file is read as it was meant, or not at all."""
    content, storages = pickled(tensor(key="a"), True)
    # The last item of the tuple that stands for a storage: None becomes True.
    changed = content.replace(b"K\x03Nt", b"K\x03\x88t")
    assert changed != content
    with pytest.raises(ValueError, match="refers to something that is no storage"):
        read_torch(write_pickles(tmp_path / "net.pth", changed, storages))


def test_many_views_of_one_storage_are_refused(tmp_path: Path) -> None:
    tensors = {}
    for index in range(60):
        tensors[f"t{index}"] = FakeTensor(np.zeros(20_000, np.float32))
        tensors[f"t{index}"].key = "all"
    with pytest.raises(ValueError, match="larger than its numbers"):
        read_torch(write_torch(tmp_path / "net.pth", tensors))


@given(st.data())
def test_damaged_files_raise_nothing_else(
    tmp_path_factory: pytest.TempPathFactory, data: Any
) -> None:
    path = tmp_path_factory.getbasetemp() / "net.pth"
    write_torch(path, state(), old=data.draw(st.booleans()))
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(content) - 1))
        content[place] = data.draw(st.integers(0, 255))
    size = data.draw(st.sampled_from([len(content), len(content) // 2]))
    path.write_bytes(content[:size])
    try:
        read_torch(path)
    except ValueError as error:
        if not str(error).startswith(str(path)):
            raise


def torchvision_arrays() -> dict[str, Any]:
    """Random weights by the names of torchvision, from the shapes of our network."""
    from ssdops.models.weights.vgg16_torch_names import _MODULES

    layers = {
        layer.name: layer
        for layer in build_model("ssd300_vgg16", num_classes=91).network.layers
    }
    arrays = {"backbone.scale_weight": RNG.normal(size=512).astype(np.float32)}
    for module, name in _MODULES["backbone.scale_weight"].items():
        if name not in layers:
            continue  # of larger models
        for parameter, weight in zip(
            ("weight", "bias"), layers[name].weights, strict=True
        ):
            shape = tuple(weight.shape)
            if len(shape) == 4:
                shape = (shape[3], shape[2], shape[0], shape[1])
            value = RNG.normal(size=shape).astype(np.float32)
            arrays[f"{module}.{parameter}"] = value
    return arrays


def test_the_model_of_torchvision(tmp_path: Path) -> None:
    arrays = torchvision_arrays()
    assert len(arrays) == 71
    path = write_torch(tmp_path / "ssd300_vgg16_coco.pth", state(arrays))
    model, report = build_from_weights("ssd300_vgg16", path)
    assert (len(report.loaded), report.skipped, report.missing) == (71, {}, {})
    assert model.spec.num_classes == 91
    assert model.spec.anchors == ssd300_torchvision()
    kernel = model.network.get_layer("conv1_1").kernel.numpy()
    expected = arrays["backbone.features.0.weight"].transpose(2, 3, 1, 0)[:, :, ::-1]
    np.testing.assert_array_equal(kernel, expected)
    fc7 = model.network.get_layer("fc7").kernel.numpy()
    expected = arrays["backbone.extra.0.7.3.weight"].transpose(2, 3, 1, 0)
    np.testing.assert_array_equal(fc7, expected)
    bias = model.network.get_layer("conv9_2_mbox_loc").bias.numpy()
    expected = arrays["head.regression_head.module_list.5.bias"].reshape(4, 4)
    np.testing.assert_array_equal(bias.reshape(4, 4), expected[:, [1, 0, 3, 2]])
    del arrays["backbone.extra.4.2.bias"]
    path = write_torch(tmp_path / "other.pth", state({**arrays, "x": np.zeros(1)}))
    with pytest.raises(ValueError, match=r"1 missing \(conv9_2\|1.*1 unknown \(x\|0"):
        build_from_weights("ssd300_vgg16", path)
    with pytest.raises(ValueError, match="has 7 feature maps, got a grid of 6"):
        build_from_weights("ssd512_vgg16", path)


def test_names_that_are_not_known_stay() -> None:
    names = ("backbone.features.0.weight", "backbone.scale_weight", "y")
    renamed = with_caffe_names(dict.fromkeys(names, np.zeros(3)))
    assert list(renamed) == ["conv1_1|0", "conv4_3_norm|0", "y|0"]


def test_the_anchors_of_torchvision() -> None:
    ours, coco = ssd300_torchvision().boxes(), ssd300_coco().boxes()
    np.testing.assert_array_equal(ours[:-2], coco[:-2])
    golden = [[0.19241, 0, 0.80759, 1], [0, 0.19241, 1, 0.80759]]
    np.testing.assert_allclose(ours[-2:], golden, atol=1e-5)
