# SPDX-License-Identifier: Apache-2.0
"""The loop that trains a detector, and its settings.

Names are imported on first use: the settings, and so the command line, do without
TensorFlow.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from ssdops.training.config import ConfigMismatchError, TrainingConfig
from ssdops.training.toml_files import (
    merged,
    read_recipe,
    read_run_file,
    read_values,
    recipes,
)

__all__ = [
    "ConfigMismatchError",
    "DataConfig",
    "EvaluationCallback",
    "KerasDetector",
    "KerasMultiboxLoss",
    "ModelConfig",
    "NonFiniteLossError",
    "RunConfig",
    "TrainingConfig",
    "TrainingInterrupted",
    "TrainingResult",
    "WorkerLostError",
    "execute_run",
    "fit_batches",
    "loss_parts",
    "make_strategy",
    "merged",
    "read_log",
    "read_recipe",
    "read_run_file",
    "read_values",
    "recipes",
    "run_config",
    "train",
]

if TYPE_CHECKING:
    from ssdops.training.distribution import WorkerLostError, make_strategy
    from ssdops.training.keras_fit import (
        EvaluationCallback,
        KerasDetector,
        KerasMultiboxLoss,
        fit_batches,
        loss_parts,
    )
    from ssdops.training.log import read_log
    from ssdops.training.loop import (
        NonFiniteLossError,
        TrainingInterrupted,
        TrainingResult,
        train,
    )
    from ssdops.training.run import (
        DataConfig,
        ModelConfig,
        RunConfig,
        execute_run,
        run_config,
    )

# Public name -> module that defines it.
_HOME = {
    "NonFiniteLossError": "loop",
    "TrainingInterrupted": "loop",
    "TrainingResult": "loop",
    "WorkerLostError": "distribution",
    "make_strategy": "distribution",
    "read_log": "log",
    "train": "loop",
    "EvaluationCallback": "keras_fit",
    "KerasDetector": "keras_fit",
    "KerasMultiboxLoss": "keras_fit",
    "fit_batches": "keras_fit",
    "loss_parts": "keras_fit",
    "DataConfig": "run",
    "ModelConfig": "run",
    "RunConfig": "run",
    "execute_run": "run",
    "run_config": "run",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'ssdops.training' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"ssdops.training.{_HOME[name]}"), name)
    globals()[name] = value  # the next access is an ordinary one
    return value
