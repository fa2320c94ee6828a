# SPDX-License-Identifier: Apache-2.0
"""SSDLite on MobileNet-V3; `test_torchvision` compares it with torchvision itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from ssdops.models import SSD, build_from_weights, build_model, load_model
from ssdops.models.weights.torchvision_ssdlite import _modules

NAME = "ssdlite320_mobilenet_v3_large"
# Tensors of the file that torchvision publishes, with their shapes -> layer here.
KNOWN: dict[str, tuple[tuple[int, ...], str]] = {
    "backbone.features.0.0.0.weight": ((16, 3, 3, 3), "conv1"),
    "backbone.features.0.1.block.0.0.weight": ((16, 1, 3, 3), "block1_depthwise"),
    "backbone.features.0.4.block.2.fc1.weight": ((24, 72, 1, 1), "block4_excitation1"),
    "backbone.features.0.13.0.weight": ((672, 112, 1, 1), "block13_expand"),
    "backbone.features.1.0.1.0.weight": ((672, 1, 5, 5), "block13_depthwise"),
    "backbone.features.1.0.3.0.weight": ((80, 672, 1, 1), "block13_project"),
    "backbone.features.1.3.0.weight": ((480, 80, 1, 1), "conv_last"),
    "backbone.extra.0.1.0.weight": ((256, 1, 3, 3), "extra1_2"),
    "head.classification_head.module_list.0.1.weight": (
        (546, 672, 1, 1),
        "block13_expand_mbox_conf",
    ),
    "head.regression_head.module_list.5.0.0.weight": (
        (128, 1, 3, 3),
        "extra4_3_mbox_loc_dw",
    ),
}


def state(model: SSD) -> dict[str, Any]:
    """Random tensors by torchvision's names."""
    rng = np.random.default_rng(0)
    modules = _modules([layer.name for layer in model.network.layers])
    arrays = {}
    for layer in model.network.layers:
        if not layer.weights:
            continue
        module = modules[layer.name]
        if isinstance(layer, keras.layers.BatchNormalization):
            count = layer.gamma.shape[0]
            for parameter in ("weight", "bias", "running_mean", "running_var"):
                arrays[f"{module}.{parameter}"] = rng.uniform(0.5, 1.5, count)
            arrays[f"{module}.num_batches_tracked"] = np.array(3)
            continue
        height, width, inputs, outputs = layer.kernel.shape
        shape = (outputs, inputs, height, width)
        if isinstance(layer, keras.layers.DepthwiseConv2D):
            shape = (inputs, 1, height, width)
        arrays[f"{module}.weight"] = rng.normal(size=shape)
        if layer.bias is not None:
            arrays[f"{module}.bias"] = rng.normal(size=layer.bias.shape)
    return {name: array.astype(np.float32) for name, array in arrays.items()}


@pytest.fixture(scope="module")
def model() -> SSD:
    return build_model(NAME)


@pytest.fixture(scope="module")
def arrays(model: SSD) -> dict[str, Any]:
    return state(model)


def saved(folder: Path, arrays: dict[str, Any]) -> Path:
    np.savez(folder / "weights.npz", **arrays)
    return folder / "weights.npz"


def test_published_names_and_shapes(arrays: dict[str, Any], tmp_path: Path) -> None:
    model, report = build_from_weights(None, saved(tmp_path, arrays))
    assert model.spec.name == NAME
    assert len(report.loaded) == 406
    assert model.network.count_params() == sum(
        array.size for name, array in arrays.items() if not name.endswith("tracked")
    )
    for name, (shape, layer) in KNOWN.items():
        assert arrays[name].shape == shape
        kernel = model.network.get_layer(layer).kernel.numpy()
        depthwise = kernel.shape[3] == 1
        expected = arrays[name].transpose((2, 3, 0, 1) if depthwise else (2, 3, 1, 0))
        np.testing.assert_array_equal(kernel, expected, err_msg=name)


def test_boxes_become_y_first(arrays: dict[str, Any], tmp_path: Path) -> None:
    model, _ = build_from_weights(NAME, saved(tmp_path, arrays))
    bias = model.network.get_layer("extra4_3_mbox_loc").bias.numpy().reshape(-1, 4)
    stored = arrays["head.regression_head.module_list.5.1.bias"].reshape(-1, 4)
    np.testing.assert_array_equal(bias, stored[:, [1, 0, 3, 2]])


def test_specification(model: SSD) -> None:
    assert model.anchors.shape == (3234, 4)
    assert np.asarray(model.anchors)[0] == pytest.approx(
        [0.025 - 0.1, 0.025 - 0.1, 0.025 + 0.1, 0.025 + 0.1], abs=1e-6
    )
    assert model.network.output["logits"].shape == (None, 3234, 91)
    limits = model.spec.post_processing
    assert (limits.score_threshold, limits.iou_threshold) == (0.001, 0.55)
    assert (limits.pre_nms_top_k, limits.max_detections, limits.clip) == (
        300,
        300,
        True,
    )


def test_other_tails_heads_and_classes(tmp_path: Path) -> None:
    whole = build_model(NAME, num_classes=3, reduced_tail=False)
    again, report = build_from_weights(None, saved(tmp_path, state(whole)))
    assert again.spec.options == {
        "reduced_tail": False,
        "head": "ssdlite",
        "padding": "symmetric",
    }
    assert again.spec.num_classes == 3
    assert not report.missing
    plain = build_model(NAME, num_classes=1000, head="ssd")
    assert plain.network.output["logits"].shape == (None, 3234, 1000)
    assert load_model(plain.save(tmp_path / "plain")).spec == plain.spec
    for options in ({"head": "fpn"}, {"reduced_tail": 1}, {"padding": "valid"}):
        with pytest.raises(ValueError, match="must be"):
            build_model(NAME, **options)


def test_files_of_something_else(arrays: dict[str, Any], tmp_path: Path) -> None:
    name = "backbone.features.0.13.0.weight"
    for changed, message in (
        ({**arrays, name: arrays[name][:5]}, r"features.0.13.0.weight must have shape"),
        ({**arrays, "more": np.zeros(3)}, r"0 missing, 1 unknown \(more \[3\]\)"),
        ({**arrays, name: arrays[name] * np.nan}, "NaN"),
        ({k: v for k, v in arrays.items() if k != name}, "1 missing"),
        ({"a": np.zeros(3)}, "not those of torchvision's SSDLite"),
    ):
        with pytest.raises(ValueError, match=message):
            build_from_weights(NAME, saved(tmp_path, changed))
    partly = {key: value for key, value in arrays.items() if "head" not in key}
    partly["head.classification_head.module_list.0.1.bias"] = np.zeros(12)
    model, report = build_from_weights(NAME, saved(tmp_path, partly), strict=False)
    assert model.spec.num_classes == 2
    assert len(report.missing) == 12 * 7 - 1
    assert not report.skipped
