# SPDX-License-Identifier: Apache-2.0
"""Times of the way from image files to training batches, stage by stage.

Every case has the stages of the one before and one more: the differences are the
shares of the stages.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from measuring import thread_count
from PIL import Image

from ssdops.data import Augmentation, Dataset, Record, pipeline, training_batches

FILE_SIZE = (375, 500)  # the usual one of Pascal VOC
IMAGE_SIZE = (300, 300)
IMAGES = 32
COLOURS = ("brightness", "contrast", "saturation", "hue")
SSD = Augmentation()
STAGES = {
    "decode": None,
    "decode+resize": None,
    "decode+crop+resize": replace(
        SSD, **{f"{name}_probability": 0.0 for name in COLOURS}
    ),
    "decode+colours+crop+resize": SSD,
    "decode+colours+crop+resize+jpeg": replace(SSD, jpeg_quality=95),
}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """JPEG files as large as photographs of their size: about 70 kB."""
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    records = []
    for number in range(IMAGES):
        coarse = rng.integers(0, 256, (24, 32, 3), dtype=np.uint8)
        smooth = Image.fromarray(coarse).resize(
            FILE_SIZE[::-1], Image.Resampling.BICUBIC
        )
        grain = rng.integers(-12, 13, (*FILE_SIZE, 3))
        pixels = np.clip(np.asarray(smooth) + grain, 0, 255).astype(np.uint8)
        file = folder / f"{number}.jpg"
        Image.fromarray(pixels).save(file, quality=85)
        low = rng.uniform(0, 0.6, (4, 2))
        boxes = np.concatenate([low, low + rng.uniform(0.1, 0.4, (4, 2))], axis=1)
        records.append(
            Record(
                image=file,
                boxes=boxes.astype(np.float32),
                labels=np.ones(4, np.int32),
                difficult=np.zeros(4, bool),
                image_id=str(number),
            )
        )
    return Dataset(records, ("background", "thing"))


@pytest.mark.benchmark(group="training images")
@pytest.mark.parametrize("stage", STAGES)
def test_training_images(
    benchmark: Any, stage: str, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One call: 32 images from files."""
    # Decoded images would be kept; a large data set does not fit.
    monkeypatch.setattr(pipeline, "CACHE_BYTES", 0)
    threads = thread_count()
    size = np.mean([os.path.getsize(Path(record.image)) for record in dataset.records])
    benchmark.extra_info.update(
        stage=stage, images=IMAGES, threads=threads, mean_file_bytes=float(size)
    )
    if stage == "decode":
        result = benchmark(lambda: [record.load_image() for record in dataset.records])
        assert len(result) == IMAGES
        return
    batches = training_batches(
        dataset, IMAGE_SIZE, IMAGES, seed=0, augmentation=STAGES[stage]
    )
    options = tf.data.Options()
    options.threading.private_threadpool_size = threads
    iterator = iter(batches.with_options(options))
    result = benchmark(lambda: next(iterator)["images"])
    assert result.shape == (IMAGES, *IMAGE_SIZE, 3)
