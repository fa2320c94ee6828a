# SPDX-License-Identifier: Apache-2.0
"""From images to answers: the detector as one object, and what it finds."""

from __future__ import annotations

from ssdops.detection.detector import Detector
from ssdops.detection.images import image_array
from ssdops.detection.result import DetectedImage
from ssdops.detection.views import TestTimeAugmentation
from ssdops.detection.writers import write_coco, write_voc

__all__ = [
    "DetectedImage",
    "Detector",
    "TestTimeAugmentation",
    "image_array",
    "write_coco",
    "write_voc",
]
