# SPDX-License-Identifier: Apache-2.0
"""Whether a detector can be trained on a data set."""

from __future__ import annotations

from ssdops.data import Dataset
from ssdops.models import SSD

__all__ = ["check_model_and_data"]


def check_model_and_data(model: SSD, dataset: Dataset) -> None:
    """Checks that a detector can be trained on a data set.

    Raises:
        ValueError: if they differ in the number of classes, or the detector expects
            images with borders: training stretches them.
    """
    if model.spec.num_classes != dataset.num_classes:
        raise ValueError(
            f"the model has {model.spec.num_classes} classes,"
            f" the data set {dataset.num_classes}"
        )
    if model.spec.preprocessing.resize != "stretch":
        raise ValueError(
            'preprocessing.resize of the model must be "stretch" to be trained, got'
            f" {model.spec.preprocessing.resize!r}; set it afterwards"
        )
