# SPDX-License-Identifier: Apache-2.0
"""Random tensors by the names that modules of PyTorch give them, without PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np

Tensors = dict[str, Any]


def convolution(
    rng: np.random.Generator, name: str, shape: tuple[int, ...], bias: bool = False
) -> Tensors:
    """`Conv2d` whose output has about the variance of its input.

    Args:
        rng: source of the numbers.
        name: of the module.
        shape: out, in, height, width.
        bias: whether it has one.
    """
    scale = np.sqrt(2 / np.prod(shape[1:]))
    weight = (rng.standard_normal(shape, np.float32) * scale).astype(np.float32)
    tensors = {f"{name}.weight": weight}
    if bias:
        tensors[f"{name}.bias"] = rng.normal(0, 0.1, shape[0]).astype(np.float32)
    return tensors


def batch_norm(rng: np.random.Generator, name: str, channels: int) -> Tensors:
    """`BatchNorm2d` as if after some training."""
    values = {
        "weight": rng.uniform(0.5, 1.5, channels),
        "bias": rng.normal(0, 0.1, channels),
        "running_mean": rng.normal(0, 0.1, channels),
        "running_var": rng.uniform(0.5, 1.5, channels),
    }
    tensors: Tensors = {
        f"{name}.{key}": value.astype(np.float32) for key, value in values.items()
    }
    tensors[f"{name}.num_batches_tracked"] = np.array(7)
    return tensors
