# SPDX-License-Identifier: Apache-2.0
"""The random changes of training images, as the official code makes them."""

from __future__ import annotations

from ssdops.data.augmentation.augment import augment
from ssdops.data.augmentation.settings import (
    INTERPOLATIONS,
    Augmentation,
    make_augmentation,
)

__all__ = ["INTERPOLATIONS", "Augmentation", "augment", "make_augmentation"]
