# SPDX-License-Identifier: Apache-2.0
"""Readers, the input pipeline, and the digit scenes of the demo."""

from __future__ import annotations

from ssdops.data.augmentation import Augmentation, make_augmentation
from ssdops.data.coco import read_coco, write_coco
from ssdops.data.collection import DroppedObjectsWarning, read_class_names
from ssdops.data.csv_table import read_csv
from ssdops.data.digits import DIGIT_NAMES, SceneSettings, compose_digit_scenes
from ssdops.data.label_map import read_label_map
from ssdops.data.pipeline import evaluation_batches, readable, training_batches
from ssdops.data.records import Dataset, EncodedImage, Record
from ssdops.data.sources import DATA_FORMATS, read_dataset
from ssdops.data.tfds import read_tfds
from ssdops.data.tfrecord import read_tfrecord, write_tfrecord
from ssdops.data.voc import read_voc, write_voc

__all__ = [
    "DATA_FORMATS",
    "DIGIT_NAMES",
    "Augmentation",
    "Dataset",
    "DroppedObjectsWarning",
    "EncodedImage",
    "Record",
    "SceneSettings",
    "compose_digit_scenes",
    "evaluation_batches",
    "make_augmentation",
    "read_class_names",
    "read_coco",
    "read_csv",
    "read_dataset",
    "read_label_map",
    "read_tfds",
    "read_tfrecord",
    "read_voc",
    "readable",
    "training_batches",
    "write_coco",
    "write_tfrecord",
    "write_voc",
]
