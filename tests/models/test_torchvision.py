# SPDX-License-Identifier: Apache-2.0
"""Detectors of torchvision itself against their weights in ours, where installed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ssdops
from ssdops.models import SSD, build_from_weights
from ssdops.models.weights import read_torch

torch = pytest.importorskip("torch")
try:
    import torchvision  # noqa: F401
# One whose operators do not fit this PyTorch raises RuntimeError.
except (ImportError, RuntimeError) as error:
    pytest.skip(f"torchvision cannot be used: {error}", allow_module_level=True)

# Name here and there, side of the images, number of tensors.
MODELS = {
    "ssd300_vgg16": ("ssd300_vgg16", 300, 71),
    "ssdlite320_mobilenet_v3_large": ("ssdlite320_mobilenet_v3_large", 320, 406),
}


def random_model(name: str) -> Any:
    from torchvision.models import detection

    torch.manual_seed(0)
    build = getattr(detection, name)
    model = build(weights=None, weights_backbone=None, num_classes=91).eval()
    with torch.no_grad():
        # Biases are 0 and scales are equal: a mistake in their order would not show.
        for parameter, value in model.named_parameters():
            if parameter.endswith("bias"):
                value.normal_(0, 0.05)
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.weight.uniform_(0.8, 1.6)
                module.running_mean.normal_(0, 0.2)
                module.running_var.uniform_(0.3, 1.2)
        if name == "ssd300_vgg16":
            model.backbone.scale_weight.normal_(20, 1)
    return model


@pytest.fixture(scope="module", params=MODELS)
def pair(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Any, SSD, Any]:
    """Their model, ours out of its file, and images [B, 3, h, w] in [0, 1]."""
    name, side, count = MODELS[request.param]
    theirs = random_model(name)
    path = tmp_path_factory.mktemp("weights") / "net.pth"
    torch.save(theirs.state_dict(), path)
    ours, report = build_from_weights(None, path)
    assert ours.spec.name == request.param
    assert (len(report.loaded), report.skipped, report.missing) == (count, {}, {})
    images = np.random.default_rng(0).integers(0, 256, (2, 3, side, side))
    return theirs, ours, torch.from_numpy(images / 255).float()


@pytest.mark.parametrize(
    "dtype", ["float32", "float64", "float16", "bfloat16", "int64"]
)
def test_files_from_before_1_6(dtype: str, tmp_path: Path) -> None:
    numbers = torch.arange(24).to(getattr(torch, dtype))
    state = {"all": numbers, "part": numbers.view(4, 6)[1:3, ::2], "other": numbers + 1}
    path = tmp_path / "net.pth"
    torch.save(state, path, _use_new_zipfile_serialization=False)
    arrays = read_torch(path)
    assert list(arrays) == list(state)
    for name, value in state.items():
        np.testing.assert_array_equal(arrays[name], value.double().numpy())


def pixels(images: Any) -> Any:
    return np.rint(images.permute(0, 2, 3, 1).numpy() * 255).astype(np.uint8)


def test_raw_outputs_and_anchors(pair: tuple[Any, SSD, Any]) -> None:
    theirs, ours, images = pair
    with torch.no_grad():
        batch, _ = theirs.transform(list(images))
        features = list(theirs.backbone(batch.tensors).values())
        expected = theirs.head(features)
        anchors = theirs.anchor_generator(batch, features)[0].numpy()
    outputs = ours.network(ours.spec.preprocessing(pixels(images)), training=False)
    for actual, reference in (
        (outputs["logits"], expected["cls_logits"]),
        (outputs["offsets"], expected["bbox_regression"][..., [1, 0, 3, 2]]),
    ):
        limit = 1e-4 * float(reference.abs().max())
        np.testing.assert_allclose(actual, reference.numpy(), atol=limit, rtol=0)
    side = ours.spec.image_size[0]
    np.testing.assert_allclose(
        np.asarray(ours.anchors) * side, anchors[:, [1, 0, 3, 2]], atol=1e-3
    )


def test_detections(pair: tuple[Any, SSD, Any]) -> None:
    """Their post-processing and ours of the same numbers, on the same anchors.

    Offsets beyond its limit for sizes, which torchvision cuts off, are not reached.
    """
    theirs, ours, images = pair
    side, spec = ours.spec.image_size[0], ours.spec
    rng = np.random.default_rng(5)
    logits = rng.normal(0, 3, (2, len(ours.anchors), 91)).astype(np.float32)
    offsets = rng.normal(0, 1, (2, len(ours.anchors), 4)).astype(np.float32)
    anchors = torch.from_numpy(np.asarray(ours.anchors)[:, [1, 0, 3, 2]] * side)
    outputs = {
        "cls_logits": torch.from_numpy(logits),
        "bbox_regression": torch.from_numpy(offsets[..., [1, 0, 3, 2]]),
    }
    expected = theirs.postprocess_detections(
        outputs, [anchors] * 2, [tuple(images.shape[2:])] * 2
    )
    found = ssdops.detect(
        logits, offsets, ours.anchors, **spec.post_processing.to_dict()
    )
    for index, reference in enumerate(expected):
        count = int(found.num_detections[index])
        assert count == len(reference["scores"]) == spec.post_processing.max_detections
        np.testing.assert_allclose(
            found.scores[index], reference["scores"].numpy(), atol=1e-6
        )
        # Rows whose scores differ by rounding alone may change places.
        same = np.abs(np.diff(found.scores[index])) > 1e-6
        rows = np.concatenate([[True], same]) & np.concatenate([same, [True]])
        assert rows.mean() > 0.9
        labels = reference["labels"].numpy()
        np.testing.assert_array_equal(found.classes[index][rows], labels[rows])
        boxes = reference["boxes"].numpy()[:, [1, 0, 3, 2]]
        np.testing.assert_allclose(
            found.boxes[index].numpy()[rows] * side, boxes[rows], atol=0.01
        )
