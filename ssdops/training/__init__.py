# SPDX-License-Identifier: Apache-2.0
"""The loop that trains a detector."""

from __future__ import annotations

from ssdops.training.config import ConfigMismatchError, TrainingConfig
from ssdops.training.log import read_log
from ssdops.training.loop import (
    NonFiniteLossError,
    TrainingInterrupted,
    TrainingResult,
    train,
)

__all__ = [
    "ConfigMismatchError",
    "NonFiniteLossError",
    "TrainingConfig",
    "TrainingInterrupted",
    "TrainingResult",
    "read_log",
    "train",
]
