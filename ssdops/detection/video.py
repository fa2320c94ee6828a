# SPDX-License-Identifier: Apache-2.0
"""Frames of video files, through PyAV or OpenCV, whichever is there."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from ssdops.image_io import ImageError

__all__ = ["Frame", "read_frames"]

Frame = tuple[int, float, npt.NDArray[np.uint8]]


def read_frames(path: str | os.PathLike[str]) -> Iterator[Frame]:
    """Yields number, time in seconds and RGB pixels uint8 [H, W, 3] of every frame.

    Args:
        path: Video file of a format that PyAV (`pip install "ssdops[video]"`) or
            OpenCV can read.

    Raises:
        ssdops.image_io.ImageError: If the file is absent or no video that can be read.
        ImportError: If neither package is installed.
    """
    if not os.path.isfile(path):
        raise ImageError(f"video {os.fspath(path)} does not exist")
    if importlib.util.find_spec("av") is not None:
        return _with_pyav(os.fspath(path))
    if importlib.util.find_spec("cv2") is not None:
        return _with_opencv(os.fspath(path))
    raise ImportError(
        'reading videos needs PyAV or OpenCV: pip install "ssdops[video]"'
    )


def _with_pyav(path: str) -> Iterator[Frame]:
    import av  # noqa: PLC0415

    try:
        with av.open(path) as container:
            if not container.streams.video:
                raise ImageError(f"{path} has no video in it")
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            for number, frame in enumerate(container.decode(stream)):
                yield number, float(frame.time or 0.0), frame.to_ndarray(format="rgb24")
    except av.FFmpegError as error:
        raise ImageError(f"video {path} cannot be read: {error}") from None


def _with_opencv(path: str) -> Iterator[Frame]:
    import cv2  # noqa: PLC0415

    video: Any = cv2.VideoCapture(path)
    try:
        rate = video.get(cv2.CAP_PROP_FPS) or 1.0
        number = 0
        while True:
            read, frame = video.read()
            if not read:
                break
            yield number, number / rate, np.ascontiguousarray(frame[..., ::-1])
            number += 1
        if number == 0:
            raise ImageError(f"video {path} cannot be read: no frame in it")
    finally:
        video.release()
