# SPDX-License-Identifier: Apache-2.0
"""Public tensor functions: validate, pick an implementation, call, gradient."""

from __future__ import annotations

from ssdops.ops.batched_nms import Detections, DetectionsWithAnchors, batched_nms
from ssdops.ops.box_iou import box_iou
from ssdops.ops.decode_boxes import decode_boxes
from ssdops.ops.encode_boxes import encode_boxes
from ssdops.ops.match_anchors import AnchorMatches, match_anchors
from ssdops.ops.nms import NmsResult, nms

__all__ = [
    "AnchorMatches",
    "Detections",
    "DetectionsWithAnchors",
    "NmsResult",
    "batched_nms",
    "box_iou",
    "decode_boxes",
    "encode_boxes",
    "match_anchors",
    "nms",
]
