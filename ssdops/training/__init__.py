# SPDX-License-Identifier: Apache-2.0
"""Target assignment, loss, and the loop that trains a detector."""

from __future__ import annotations

from ssdops.ops import Targets, assign_targets
from ssdops.training.config import ConfigMismatchError, TrainingConfig
from ssdops.training.log import read_log
from ssdops.training.loop import (
    NonFiniteLossError,
    TrainingInterrupted,
    TrainingResult,
    train,
)
from ssdops.training.loss import MultiboxLoss, mine_hard_negatives, multibox_loss

__all__ = [
    "ConfigMismatchError",
    "MultiboxLoss",
    "NonFiniteLossError",
    "Targets",
    "TrainingConfig",
    "TrainingInterrupted",
    "TrainingResult",
    "assign_targets",
    "mine_hard_negatives",
    "multibox_loss",
    "read_log",
    "train",
]
