# SPDX-License-Identifier: Apache-2.0
"""Numbers that give SSD its meaning, shared by every layer.

Source: the official Caffe implementation (`bbox_util.cpp`,
`multibox_loss_layer.cpp`, `detection_output_layer.cpp`).
"""

from __future__ import annotations

BACKGROUND_CLASS = 0
"""Class id of the background; it counts in `num_classes`."""

PADDING_LABEL = 0
"""Ground-truth label of a padding row."""

IGNORE_LABEL = -1
"""Ground-truth label of an ignore region."""

NEGATIVE = -1
"""`matched_gt` of an anchor without a ground truth."""

IGNORED = -2
"""`matched_gt` of an anchor that is neither positive nor negative."""

MIN_MATCH_IOU = 1e-6
"""Pairs with an IoU of at most this much do not overlap for the matcher."""

VARIANCES = (0.1, 0.1, 0.2, 0.2)
"""Scale of the offsets `(ty, tx, th, tw)`."""

MEAN_RGB = (123, 117, 104)
"""Mean colour of the pictures that VGG-16 was trained on, in grey levels."""

AUGMENTATION_NAMES = ("ssd", "mirror", "none")
"""Random changes of training images that a configuration may name."""
