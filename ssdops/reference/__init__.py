# SPDX-License-Identifier: Apache-2.0
"""Every op in plain TensorFlow: written to be read, XLA-compilable, always there."""

from __future__ import annotations

from ssdops.reference.assign_targets import assign_targets
from ssdops.reference.batched_nms import batched_nms
from ssdops.reference.box_iou import box_iou
from ssdops.reference.decode_boxes import decode_boxes
from ssdops.reference.detect import detect
from ssdops.reference.encode_boxes import encode_boxes
from ssdops.reference.match_anchors import match_anchors
from ssdops.reference.nms import nms

__all__ = [
    "assign_targets",
    "batched_nms",
    "box_iou",
    "decode_boxes",
    "detect",
    "encode_boxes",
    "match_anchors",
    "nms",
]
