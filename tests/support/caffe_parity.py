# SPDX-License-Identifier: Apache-2.0
"""Comparison with the original Caffe networks, run by OpenCV."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from ssdops.boxes import yxyx_to_xyxy
from ssdops.models import SSD
from support.data import data_path


def weight_generator() -> Any:
    """The program that made the weights of the reference, and files of them."""
    path = data_path("parity/random_weights") / "gen_random_weights.py"
    spec = importlib.util.spec_from_file_location("gen_random_weights", path)
    assert spec is not None
    assert spec.loader is not None
    generator = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generator)
    return generator


def assert_close(found: Any, expected: Any, relative: float = 1e-3) -> None:
    """Compares with a tolerance relative to the largest magnitude."""
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= relative * np.abs(expected).max()


def assert_same_detections(found: Any, expected: Any) -> None:
    """Compares with rows [0, class, score, xmin, ymin, xmax, ymax], unused ones 0.

    Rows whose scores differ by rounding alone may change places.
    """
    used = expected[:, 2] > 0
    count = int(used.sum())
    assert int(found.num_detections[0]) == count
    assert used[:count].all()
    np.testing.assert_allclose(found.scores[0], expected[:, 2], rtol=0, atol=1e-5)
    ours = np.column_stack(
        [found.classes[0], found.scores[0], yxyx_to_xyxy(found.boxes[0].numpy())]
    )[:count]
    differences = np.abs(ours[:, None] - expected[None, :count, 1:]).max(axis=-1)
    partners = differences.argmin(axis=1)
    assert sorted(partners) == list(range(count))
    assert differences[np.arange(count), partners].max() < 1e-4


def run_beside_reference(
    model: SSD, name: str, photos: Sequence[str], stages: Mapping[str, str]
) -> dict[str, dict[str, Any]]:
    """Per photo the reference arrays, and what the network and its stages give."""
    layers = {layer: model.network.get_layer(layer).output for layer in stages.values()}
    network = keras.Model(model.network.input, {**model.network.output, **layers})
    found: dict[str, dict[str, Any]] = {}
    for photo in photos:
        with np.load(data_path(f"parity/random_weights/{name}_{photo}.npz")) as npz:
            reference = dict(npz)
        images = reference["image_bgr_300"][None, ..., ::-1]
        ours = network(model.spec.preprocessing(images), training=False)
        found[photo] = {
            "reference": reference,
            "images": images,
            **{key: value.numpy() for key, value in ours.items()},
        }
    return found


def assert_same_outputs(ours: Mapping[str, Any]) -> None:
    """Compares offsets, x first in the reference, and logits of 21 classes."""
    reference = ours["reference"]
    x_first = ours["offsets"][..., [1, 0, 3, 2]]
    assert_close(x_first, reference["mbox_loc"].reshape(1, -1, 4), 1e-4)
    assert_close(ours["logits"], reference["mbox_conf"].reshape(1, -1, 21), 1e-4)


def assert_same_layer(
    outputs: Mapping[str, Mapping[str, Any]], blob: str, layer: str
) -> None:
    """Compares statistics of a layer on every photo, and channels on one."""
    for ours in outputs.values():
        features = ours[layer][0]
        statistics = np.array([np.abs(features).mean(), features.std()])
        assert_close(statistics, ours["reference"][f"{blob}__absmean"], 1e-4)
    channels = outputs["000001"][layer][0, :, :, ::16].transpose(2, 0, 1)
    expected = outputs["000001"]["reference"][f"{blob}__ch_stride16"]
    assert_close(channels, expected, 1e-4)


def assert_same_priors(model: SSD, reference: Mapping[str, Any]) -> None:
    """Compares the anchors and their variances."""
    boxes, variances = reference["mbox_priorbox"][0].reshape(2, -1, 4)
    ours = yxyx_to_xyxy(model.anchors.numpy())
    np.testing.assert_allclose(ours, boxes, rtol=0, atol=1e-6)
    expected = np.tile(model.spec.variances, (len(boxes), 1))
    np.testing.assert_allclose(variances, expected, rtol=1e-6)
