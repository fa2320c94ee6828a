# SPDX-License-Identifier: Apache-2.0
"""Networks of `keras.applications` themselves against their weights in ours."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest
from support.damaged_files import is_readable
from typer.testing import CliRunner

from ssdops.cli import app
from ssdops.models import SSD, build_from_weights, build_model, load_model, model_spec
from ssdops.models.weights import keras_file, read_keras, read_weights
from ssdops.models.weights.caffe import load_vgg16_arrays
from ssdops.models.weights.keras_applications import VGG16

# Model and options, application's options, the last layers that both have. Keras pads
# maps of odd size in MobileNet as if they were even: with 320 pixels there are none.
PAIRS: dict[str, Any] = {
    "VGG16": ("ssd512_vgg16", {}, {}, "conv5_3", "block5_conv3"),
    "MobileNet": (
        "ssd300_mobilenet_v1",
        {"image_size": (320, 320)},
        {},
        "Conv2d_13_pointwise_relu6",
        "conv_pw_13_relu",
    ),
    "MobileNet of half the channels": (
        "ssd300_mobilenet_v1",
        {"image_size": (320, 320)},
        {"alpha": 0.5},
        "Conv2d_13_pointwise_relu6",
        "conv_pw_13_relu",
    ),
    "MobileNetV2": ("ssd300_mobilenet_v2", {}, {}, "Conv_1_relu6", "out_relu"),
    "MobileNetV2 of more channels": (
        "ssd300_mobilenet_v2",
        {},
        {"alpha": 1.4},
        "Conv_1_relu6",
        "out_relu",
    ),
    "MobileNetV3Large": (
        "ssdlite320_mobilenet_v3_large",
        {},
        {},
        "conv_last_hard_swish",
        None,
    ),
}


def application(name: str, side: int, **options: Any) -> keras.Model:
    """One with weights that show every mistake in their order."""
    keras.utils.set_random_seed(5)
    build = getattr(keras.applications, name.split(maxsplit=1)[0])
    made = build(
        weights=None, include_top=False, input_shape=(side, side, 3), **options
    )
    rng = np.random.default_rng(0)
    for layer in made.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            count = layer.gamma.shape[0]
            layer.set_weights(
                [
                    rng.uniform(0.8, 1.6, count),
                    rng.normal(0, 0.2, count),
                    rng.normal(0, 0.2, count),
                    rng.uniform(0.3, 1.2, count),
                ]
            )
        elif layer.weights and layer.bias is not None:
            layer.bias.assign(rng.normal(0, 0.1, layer.bias.shape))
    return made


def save_npz(model: keras.Model, path: Path) -> None:
    """As Keras calls the weights."""
    np.savez(path, **{weight.path: weight.numpy() for weight in model.weights})


def save_keras2(model: keras.Model, path: Path) -> None:
    """As Keras 2 wrote weights, and called them in MobileNet-V3; names in pieces."""
    groups: dict[str, Any] = {}
    for layer in model.layers:
        name = layer.name.replace("_bn", "/BatchNorm").replace("conv", "Conv")
        words = {
            weight.path.rpartition("/")[2].replace(
                "kernel",
                "depthwise_kernel"
                if isinstance(layer, keras.layers.DepthwiseConv2D)
                else "kernel",
            ): weight.numpy()
            for weight in layer.weights
        }
        groups[name] = {f"{name}/{word}:0": value for word, value in words.items()}
    with h5py.File(path, "w") as file:
        names = [name.encode() for name in groups]
        file.attrs["layer_names0"] = names[:50]
        file.attrs["layer_names1"] = names[50:]
        for name, weights in groups.items():
            group = file.create_group(name)
            group.attrs["weight_names"] = [word.encode() for word in weights]
            for word, value in weights.items():
                group.create_dataset(word, data=value)


def save_renamed(model: keras.Model, path: Path) -> None:
    """As another version may have called the layers, in their order."""
    names = {layer.name: f"other{index}" for index, layer in enumerate(model.layers)}
    arrays = {}
    for layer in model.layers:
        for weight in layer.weights:
            word = weight.path.rpartition("/")[2]
            arrays[f"{names[layer.name]}/{word}"] = weight.numpy()
    np.savez(path, **arrays)


SAVERS: dict[str, Callable[[keras.Model, Path], Any]] = {
    "whole.h5": lambda model, path: model.save(path),
    "whole.keras": lambda model, path: model.save(path),
    "net.weights.h5": lambda model, path: model.save_weights(path),
    "net.npz": save_npz,
    "net.hdf5": save_keras2,
    "renamed.npz": save_renamed,
}


@pytest.mark.parametrize(
    ("name", "file"),
    [
        *zip(PAIRS, ["whole.keras", *["net.weights.h5"] * 2, *SAVERS], strict=False),
        ("MobileNetV3Large", "whole.h5"),
        ("MobileNetV3Large", "net.hdf5"),
        ("MobileNetV3Large", "renamed.npz"),
        ("MobileNetV2", "renamed.npz"),
    ],
)
# Keras warns that whole models in HDF5 are of the past.
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_features_are_those_of_keras(name: str, file: str, tmp_path: Path) -> None:
    ours_name, ours_options, options, ours_last, last = PAIRS[name]
    side = model_spec(ours_name, **ours_options).image_size[0]
    theirs = application(name, side, **options)
    path = tmp_path / file
    SAVERS[file](theirs, path)
    ours, report = build_from_weights(ours_name, path, strict=False, **ours_options)
    assert not report.skipped
    assert len(report.loaded) == len(theirs.weights)
    trunk = keras.Model(ours.network.input, ours.network.get_layer(ours_last).output)
    seen = trunk.weights
    # fc6 and beyond, extra layers, heads.
    assert {weight.path for weight in seen}.isdisjoint(report.missing)
    assert len(report.missing) == len(ours.network.weights) - len(report.loaded)

    image = np.random.default_rng(1).integers(0, 256, (1, side, side, 3), np.uint8)
    prepared = image.astype(np.float32)
    if name.startswith("VGG16"):
        prepared = keras.applications.vgg16.preprocess_input(prepared.copy())
    elif not name.startswith("MobileNetV3"):  # that has it inside
        prepared = keras.applications.mobilenet.preprocess_input(prepared.copy())
    end = theirs.output if last is None else theirs.get_layer(last).output
    expected = keras.Model(theirs.input, end)(prepared, training=False)
    actual = trunk(ours.spec.preprocessing(image), training=False)
    scale = float(np.abs(expected).max())
    assert scale > 1e-3
    np.testing.assert_allclose(actual / scale, expected / scale, atol=1e-4)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MobileNet-V1 of a quarter of the channels, with its classifier."""
    keras.utils.set_random_seed(2)
    net = keras.applications.MobileNet(
        weights=None, alpha=0.25, classes=7, input_shape=(64, 64, 3)
    )
    path = tmp_path_factory.mktemp("keras") / "small.weights.h5"
    net.save_weights(path)
    return path


def test_a_classifier_is_skipped(small: Path) -> None:
    model, report = build_from_weights(
        "ssd300_mobilenet_v1", small, ["background", "cat"], strict=False
    )
    assert model.spec.num_classes == 2
    assert model.spec.options["depth_multiplier"] == 0.25
    assert report.skipped == {
        "conv_preds/kernel": (1, 1, 256, 7),
        "conv_preds/bias": (7,),
    }
    assert len(report.loaded) == 135


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("ssd300_mobilenet_v1", {"strict": True}, "weights do not fit model"),
        (
            "ssd300_mobilenet_v1",
            {"batch_norm": False},
            r"layer Conv2d_0 has a bias; build the model with batch_norm=true",
        ),
        ("ssd300_mobilenet_v2", {}, "not those of a MobileNet-V2 SSD"),
        ("ssd300_vgg16", {}, "array names must be|not those of an SSD"),
        (None, {"strict": True}, "it fits no model as a whole"),
    ],
)
def test_weights_of_others_are_refused(
    name: str | None, options: dict[str, Any], message: str, small: Path
) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        build_from_weights(name, small, **{"strict": False, **options})
    assert str(small) in str(caught.value)


def test_an_order_of_layers_is_that_of_one_network(tmp_path: Path) -> None:
    path = tmp_path / "renamed.npz"
    save_renamed(application("MobileNetV2", 64, alpha=0.35), path)
    with pytest.raises(ValueError, match="not those of torchvision's SSDLite"):
        build_from_weights("ssdlite320_mobilenet_v3_large", path, strict=False)
    arrays = dict(np.load(path))
    first = next(iter(arrays))
    for name, value in (
        (first, arrays[first][..., :8]),  # the next takes more channels
        (first, arrays[first][0]),
        (first.replace("kernel", "bias"), arrays[first][0, 0, 0]),
    ):
        rest = {other: array for other, array in arrays.items() if other != first}
        np.savez(path, **{name: value}, **rest)
        with pytest.raises(ValueError, match="not those of a MobileNet-V2 SSD"):
            build_from_weights("ssd300_mobilenet_v2", path, strict=False)


def test_fully_connected_layers_of_vgg16_are_reduced() -> None:
    """Those of Keras as written down, those of Caffe to the same."""
    rng = np.random.default_rng(4)
    arrays = {
        "block1_conv1/kernel": rng.normal(size=(3, 3, 3, 64)),
        "fc1/kernel": rng.integers(-100, 100, (7 * 7 * 512, 4096), np.int8),
        "fc1/bias": rng.normal(size=4096),
        "fc2/kernel": rng.integers(-100, 100, (4096, 4096), np.int8),
        "fc2/bias": rng.normal(size=4096),
        "predictions/kernel": np.zeros((4096, 10)),
    }
    model = build_model("ssd300_vgg16")
    report = VGG16.load(model, arrays, strict=False)
    assert report.skipped == {"predictions/kernel": (4096, 10)}
    assert report.loaded["fc1/kernel"] == (25088, 4096)
    fc6, fc7 = (model.network.get_layer(name) for name in ("fc6", "fc7"))
    kernel = fc6.kernel.numpy()
    for row, column, inputs, outputs in ((0, 0, 0, 0), (1, 2, 5, 9), (2, 1, 511, 1023)):
        # The cells of the map lie row by row, channel by channel.
        cell = (3 * row * 7 + 3 * column) * 512 + inputs
        expected = arrays["fc1/kernel"][cell, 4 * outputs]
        assert kernel[row, column, inputs, outputs] == expected
    np.testing.assert_array_equal(
        fc7.kernel.numpy()[0, 0], arrays["fc2/kernel"][::4, ::4]
    )
    for layer, name in ((fc6, "fc1"), (fc7, "fc2")):
        expected = arrays[f"{name}/bias"][::4].astype(np.float32)
        np.testing.assert_array_equal(layer.bias.numpy(), expected)

    taps = arrays["fc1/kernel"].reshape(7, 7, 512, 4096).transpose(3, 2, 0, 1)
    caffe = {
        "fc6|0": taps.reshape(1, 1, 4096, -1),
        "fc6|1": arrays["fc1/bias"].reshape(1, 1, 1, -1),
        "fc7|0": arrays["fc2/kernel"].T,
        "fc7|1": arrays["fc2/bias"],
        "fc8|0": np.zeros((1000, 4096), np.int8),
    }
    other = build_model("ssd300_vgg16")
    report = load_vgg16_arrays(other, caffe, strict=False)
    assert report.skipped == {"fc8|0": (1000, 4096)}
    assert list(report.loaded) == ["fc6|0", "fc6|1", "fc7|0", "fc7|1"]
    for layer in (fc6, fc7):
        for ours, theirs in zip(
            other.network.get_layer(layer.name).weights, layer.weights, strict=True
        ):
            np.testing.assert_array_equal(ours.numpy(), theirs.numpy())


def test_bfloat16_becomes_float32(tmp_path: Path) -> None:
    layer = keras.layers.Conv2D(2, 3, dtype="bfloat16", name="layer")
    model = keras.Sequential([keras.Input((4, 4, 3)), layer])
    model.save_weights(tmp_path / "half.weights.h5")
    arrays = read_keras(tmp_path / "half.weights.h5")
    assert list(arrays) == ["layer/kernel", "layer/bias"]
    assert arrays["layer/kernel"].dtype == np.float32
    expected = layer.kernel.numpy().astype(np.float32)
    np.testing.assert_array_equal(arrays["layer/kernel"], expected)


def test_a_model_inside_a_model_and_its_optimizer(tmp_path: Path) -> None:
    """Of a classifier that was fine-tuned, the network inside is found."""
    keras.utils.set_random_seed(1)
    inner = keras.applications.MobileNet(
        weights=None, alpha=0.25, include_top=False, input_shape=(64, 64, 3)
    )
    outer = keras.Sequential(
        [keras.Input((64, 64, 3)), inner, keras.layers.GlobalAveragePooling2D()]
    )
    outer.add(keras.layers.Dense(2, name="last"))
    outer.compile(loss="mse")
    outer.fit(np.zeros((2, 64, 64, 3)), np.zeros((2, 2)), verbose=0)
    path = tmp_path / "outer.keras"
    outer.save(path)
    arrays = read_keras(path)
    names = {weight.path for weight in inner.weights} | {"last/kernel", "last/bias"}
    assert arrays.keys() == names
    _, report = build_from_weights("ssd300_mobilenet_v1", path, strict=False)
    assert len(report.loaded) == len(inner.weights)


def test_import_of_the_command_line(small: Path, tmp_path: Path) -> None:
    to = tmp_path / "model"
    command = ["import", str(small), "--to", str(to), "--partial"]
    command += ["--model", "ssd300_mobilenet_v1", "--classes", "voc"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    report = json.loads((to / "import.json").read_text())
    states = [tensor["state"] for tensor in report["tensors"]]
    assert (states.count("loaded"), states.count("skipped")) == (135, 2)
    model = load_model(to)
    assert model.class_names[20] == "tvmonitor"
    kernel = read_weights(small)["conv_pw_13/kernel"]
    layer: Any = model.network.get_layer("Conv2d_13_pointwise")
    np.testing.assert_array_equal(layer.kernel.numpy(), kernel)


def hdf5(path: Path, write: Callable[[h5py.File], Any]) -> Path:
    with h5py.File(path, "w") as file:
        write(file)
    return path


@pytest.mark.parametrize("checked", [True, False])
def test_numbers_of_other_files_are_not_read(
    checked: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether or not another process could be started to look first."""
    if not checked:
        monkeypatch.setattr("sys.executable", "")
    secret = hdf5(
        tmp_path / "secret.h5", lambda file: file.create_dataset("a", data=np.ones(3))
    )
    raw = tmp_path / "raw.bin"
    raw.write_bytes(bytes(24))

    def linked(file: h5py.File) -> None:
        file.create_group("layers/a/vars")["0"] = h5py.ExternalLink(secret, "a")

    def soft(file: h5py.File) -> None:
        file["b"] = np.ones(3)
        file.create_group("layers/a/vars")["0"] = h5py.SoftLink("/b")

    def external(file: h5py.File) -> None:
        group = file.create_group("layers/a/vars")
        group.create_dataset("0", (3,), "f8", external=[(raw, 0, 24)])

    def virtual(file: h5py.File) -> None:
        layout = h5py.VirtualLayout((3,), "f8")
        layout[:] = h5py.VirtualSource(secret, "a", (3,))
        file.create_group("layers/a/vars").create_virtual_dataset("0", layout)

    for write, message in (
        (linked, "in another file" if checked else "is not there"),
        (soft, "is not there"),
        (external, "in another file"),
        (virtual, "in another file"),
    ):
        path = hdf5(tmp_path / f"{write.__name__}.h5", write)
        with pytest.raises(ValueError, match=message) as caught:
            read_keras(path)
        assert str(path) in str(caught.value)


def test_hostile_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def huge(file: h5py.File) -> None:
        shape = (2**15, 2**15)
        file.create_dataset("layers/a/vars/0", shape, "f4", chunks=True)

    def circle(file: h5py.File) -> None:
        file.create_group("layers/a/vars")
        file["layers/a/b"] = file["layers"]

    def texts(file: h5py.File) -> None:
        file["layers/a/vars/0"] = [b"abc"]

    def twins(file: h5py.File) -> None:
        for name in "ab":
            group = file.create_group(f"layers/{name}/vars")
            group["0"] = np.ones(2)
            group.attrs["name"] = "same"

    def listed(file: h5py.File) -> None:
        file.attrs["layer_names"] = [b"../../etc"]

    def unlisted(file: h5py.File) -> None:
        file.attrs["layer_names"] = [b"a"]
        file.create_group("a").attrs["weight_names"] = [b"nothing:0"]

    for write, message in (
        (huge, "claims 4294967296 bytes, of which 0 are stored"),
        (circle, "has no weights"),
        (texts, "must hold numbers"),
        (twins, "two weights same/kernel"),
        (listed, "listed but not there"),
        (unlisted, "weight nothing:0 of layer a is not there"),
        (lambda file: None, "has no weights"),
    ):
        path = hdf5(tmp_path / "hostile.h5", write)
        with pytest.raises(ValueError, match=message) as caught:
            read_keras(path)
        assert str(path) in str(caught.value)

    archive = tmp_path / "none.keras"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("config.json", "{}")
    with pytest.raises(ValueError, match=r"no item named 'model\.weights\.h5'"):
        read_keras(archive)
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("model.weights.h5", bytes(10**6))
    monkeypatch.setattr(keras_file, "MAX_WEIGHTS_BYTES", 1000)
    with pytest.raises(ValueError, match="unpacks to 1000000 bytes, more than"):
        read_keras(archive)


def test_damaged_files(tmp_path: Path) -> None:
    def written(model: SSD, name: str) -> bytes:
        path = tmp_path / name
        SAVERS[name](model.network, path)
        return path.read_bytes()

    model = build_model("ssd_small", image_size=(64, 64), width=0.125)
    rng = np.random.default_rng(0)
    for name in ("net.weights.h5", "whole.keras"):
        data = written(model, name)
        path = tmp_path / f"damaged_{name}"
        for size in rng.integers(0, len(data), 8):
            path.write_bytes(data[:size])
            assert not is_readable(read_keras, path)
        outcomes = []
        for _ in range(24):
            changed = bytearray(data)
            for place in rng.integers(0, len(data), 4):
                changed[place] = rng.integers(256)
            path.write_bytes(changed)
            outcomes.append(is_readable(read_keras, path))
        # An archive has sums that tell.
        assert any(outcomes) == name.endswith(".h5")
    assert not is_readable(read_keras, tmp_path / "absent.h5")
