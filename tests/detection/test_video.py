# SPDX-License-Identifier: Apache-2.0
"""Frames of videos, where there is a package that reads them."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from ssdops.detection import Detector
from ssdops.detection import video as video_module
from ssdops.image_io import ImageError
from ssdops.models import build_model

FRAMES, RATE, SIZE = 12, 10, (48, 64)


@pytest.fixture(scope="module")
def detector() -> Detector:
    keras.utils.set_random_seed(0)
    model = build_model("ssd_small", image_size=(64, 64), width=0.125)
    return Detector(model, score_threshold=0.1, batch_size=4)


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Frames that become brighter."""
    av = pytest.importorskip("av")
    path = tmp_path_factory.mktemp("video") / "film.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=RATE)
        stream.height, stream.width = SIZE
        stream.pix_fmt = "yuv420p"
        for number in range(FRAMES):
            pixels = np.full((*SIZE, 3), 20 * number, np.uint8)
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@pytest.fixture(params=["av", "cv2"])
def reader(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each of the packages alone."""
    name = str(request.param)
    pytest.importorskip(name)
    find = importlib.util.find_spec
    other = {"av": "cv2", "cv2": "av"}[name]
    monkeypatch.setattr(
        video_module.importlib.util,
        "find_spec",
        lambda module: None if module == other else find(module),
    )
    return name


def test_every_frame(detector: Detector, film: Path, reader: str) -> None:
    results = list(detector.detect_video(film))
    assert [result.source for result in results] == list(range(FRAMES))
    times = [result.seconds for result in results]
    np.testing.assert_allclose(times, np.arange(FRAMES) / RATE, atol=1e-3)
    for number, result in enumerate(results):
        assert result.image_size == SIZE
        assert np.abs(result.image().astype(int) - 20 * number).max() <= 8


def test_some_frames(detector: Detector, film: Path, reader: str) -> None:
    results = list(detector.detect_video(film, every=5, max_frames=2))
    assert [result.source for result in results] == [0, 5]
    for options in ({"every": 0}, {"max_frames": 0}):
        with pytest.raises(ValueError, match="must be at least 1"):
            detector.detect_video(film, **options)


def test_what_is_no_video(detector: Detector, tmp_path: Path, reader: str) -> None:
    (tmp_path / "a.mp4").write_bytes(b"no video at all" * 100)
    with pytest.raises(ImageError, match=r"a\.mp4 cannot be read"):
        list(detector.detect_video(tmp_path / "a.mp4"))


def test_without_a_package(
    detector: Detector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find: Any = lambda module: None  # noqa: E731
    monkeypatch.setattr(video_module.importlib.util, "find_spec", find)
    (tmp_path / "a.mp4").write_bytes(b"")
    with pytest.raises(ImportError, match=r'pip install "ssdops\[video\]"'):
        detector.detect_video(tmp_path / "a.mp4")
    with pytest.raises(ImageError, match="does not exist"):
        detector.detect_video(tmp_path / "none.mp4")
