# SPDX-License-Identifier: Apache-2.0
"""Import of weights that were trained elsewhere."""

from __future__ import annotations

from ssdops.models.weights.arrays import LoadReport, read_npz
from ssdops.models.weights.caffe import load_caffe_arrays, load_caffe_blobs
from ssdops.models.weights.caffemodel import read_caffemodel
from ssdops.models.weights.files import read_weights
from ssdops.models.weights.keras_file import read_keras
from ssdops.models.weights.object_detection_api import load_tflite_arrays
from ssdops.models.weights.safetensors_file import read_safetensors
from ssdops.models.weights.tflite import read_tflite
from ssdops.models.weights.torch_file import read_torch

__all__ = [
    "LoadReport",
    "load_caffe_arrays",
    "load_caffe_blobs",
    "load_tflite_arrays",
    "read_caffemodel",
    "read_keras",
    "read_npz",
    "read_safetensors",
    "read_tflite",
    "read_torch",
    "read_weights",
]
