# SPDX-License-Identifier: Apache-2.0
"""The random changes of training images, as the official code makes them."""

from __future__ import annotations

from ssdops.data.augmentation.augment import augment
from ssdops.data.augmentation.settings import (
    AUGMENTATIONS,
    INTERPOLATIONS,
    Augmentation,
)

__all__ = ["AUGMENTATIONS", "INTERPOLATIONS", "Augmentation", "augment"]
