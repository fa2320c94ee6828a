# SPDX-License-Identifier: Apache-2.0
"""Public tensor functions: validate, pick an implementation, call, gradient."""

from __future__ import annotations

from ssdops._loader import load_libraries
from ssdops.ops.assign_targets import Targets, assign_targets
from ssdops.ops.batched_nms import Detections, DetectionsWithAnchors, batched_nms
from ssdops.ops.box_iou import box_iou
from ssdops.ops.decode_boxes import decode_boxes
from ssdops.ops.detect import DetectResult, detect
from ssdops.ops.encode_boxes import encode_boxes
from ssdops.ops.match_anchors import AnchorMatches, match_anchors
from ssdops.ops.mine_hard_negatives import mine_hard_negatives
from ssdops.ops.multibox_loss import MultiboxLoss, multibox_loss
from ssdops.ops.nms import NmsResult, nms

__all__ = [
    "AnchorMatches",
    "DetectResult",
    "Detections",
    "DetectionsWithAnchors",
    "MultiboxLoss",
    "NmsResult",
    "Targets",
    "assign_targets",
    "batched_nms",
    "box_iou",
    "decode_boxes",
    "detect",
    "encode_boxes",
    "match_anchors",
    "mine_hard_negatives",
    "multibox_loss",
    "nms",
]

# Not at the first call: a saved model with native ops can be loaded after this import.
load_libraries()
