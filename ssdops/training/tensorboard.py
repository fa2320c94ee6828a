# SPDX-License-Identifier: Apache-2.0
"""Curves and pictures of a run for TensorBoard, where it is installed."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import tensorflow as tf

from ssdops.data import Dataset, evaluation_batches
from ssdops.models import SSD
from ssdops.visualization import draw_detections

# Enough to see what goes wrong, few enough to be quick.
_PICTURES = 4
_SCORE_THRESHOLD = 0.3
_ENLARGED_SIDE = 512


class TensorBoardLog:
    """Writes event files; without the package `tensorboard`, nothing.

    Args:
        folder: of the event files.
    """

    def __init__(self, folder: Path) -> None:
        self._writer = None
        if importlib.util.find_spec("tensorboard") is not None:
            self._writer = tf.summary.create_file_writer(str(folder))

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Add numbers by name; they are in the file when this returns."""
        if self._writer is None:
            return
        with self._writer.as_default():
            for name, value in values.items():
                tf.summary.scalar(name, value, step=step)
        self._writer.flush()

    def detections(self, step: int, model: SSD, dataset: Dataset) -> None:
        """Add pictures of what the model finds in the first images of a data set."""
        shown = Dataset(dataset.records[:_PICTURES], dataset.class_names)
        if self._writer is None or not len(shown):
            return
        [batch] = evaluation_batches(shown, model.spec.image_size, _PICTURES)
        found = model.detect(batch["images"], score_threshold=_SCORE_THRESHOLD)
        pictures = []
        for i, image in enumerate(batch["images"].numpy()):
            count = int(found.num_detections[i])
            # So that the names of small objects can be read.
            factor = max(1, _ENLARGED_SIDE // max(image.shape[:2]))
            picture = draw_detections(
                image.repeat(factor, axis=0).repeat(factor, axis=1),
                found.boxes[i, :count].numpy(),
                found.classes[i, :count].numpy(),
                class_names=dataset.class_names,
                scores=found.scores[i, :count].numpy(),
            )
            pictures.append(np.asarray(picture))
        with self._writer.as_default():
            tf.summary.image(
                "detections", np.stack(pictures), step=step, max_outputs=_PICTURES
            )
        self._writer.flush()
