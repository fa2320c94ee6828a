# SPDX-License-Identifier: Apache-2.0
"""SSD300 of torchvision itself against its weights in ours, where it is installed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ssdops.models import build_from_weights

torch = pytest.importorskip("torch")
pytest.importorskip("torchvision")


def random_model() -> Any:
    from torchvision.models.detection import ssd300_vgg16

    torch.manual_seed(0)
    model = ssd300_vgg16(weights=None, weights_backbone=None, num_classes=91).eval()
    with torch.no_grad():
        # Biases are 0 and scales are equal: a mistake in their order would not show.
        for name, value in model.named_parameters():
            if name.endswith("bias"):
                value.normal_(0, 0.05)
        model.backbone.scale_weight.normal_(20, 1)
    return model


def test_raw_outputs_and_anchors(tmp_path: Path) -> None:
    theirs = random_model()
    torch.save(theirs.state_dict(), tmp_path / "net.pth")
    ours, report = build_from_weights("ssd300_vgg16", tmp_path / "net.pth")
    assert (len(report.loaded), report.skipped, report.missing) == (71, {}, {})

    images = np.random.default_rng(0).random((2, 300, 300, 3), dtype=np.float32)
    transform = theirs.transform
    with torch.no_grad():
        batch, _ = transform(list(torch.from_numpy(images).permute(0, 3, 1, 2)))
        features = list(theirs.backbone(batch.tensors).values())
        expected = theirs.head(features)
        anchors = theirs.anchor_generator(batch, features)[0].numpy()
    outputs = ours.network(ours.spec.preprocessing(images * 255), training=False)
    for actual, reference in (
        (outputs["logits"], expected["cls_logits"]),
        (outputs["offsets"], expected["bbox_regression"][..., [1, 0, 3, 2]]),
    ):
        limit = 1e-4 * float(reference.abs().max())
        np.testing.assert_allclose(actual, reference.numpy(), atol=limit, rtol=0)
    np.testing.assert_allclose(
        np.asarray(ours.anchors) * 300, anchors[:, [1, 0, 3, 2]], atol=1e-3
    )
