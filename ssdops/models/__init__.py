# SPDX-License-Identifier: Apache-2.0
"""Detectors: backbones, heads, the table of models, and import of weights."""

from __future__ import annotations

from ssdops.models.caffe.importing import build_from_prototxt
from ssdops.models.from_backbone import build_from_backbone
from ssdops.models.post_processing import PostProcessing
from ssdops.models.preprocessing import Preprocessing
from ssdops.models.registry import (
    available_models,
    build_from_spec,
    build_from_weights,
    build_model,
    model_spec,
)
from ssdops.models.saving import load_model, save_safetensors
from ssdops.models.spec import ModelSpec
from ssdops.models.ssd import SSD
from ssdops.models.transfer import change_classes, transfer_weights

__all__ = [
    "SSD",
    "ModelSpec",
    "PostProcessing",
    "Preprocessing",
    "available_models",
    "build_from_backbone",
    "build_from_prototxt",
    "build_from_spec",
    "build_from_weights",
    "build_model",
    "change_classes",
    "load_model",
    "model_spec",
    "save_safetensors",
    "transfer_weights",
]
