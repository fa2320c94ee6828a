# SPDX-License-Identifier: Apache-2.0
"""Comparison with the original Caffe networks, run by OpenCV."""

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np

from ssdops.boxes import yxyx_to_xyxy
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
