# SPDX-License-Identifier: Apache-2.0
"""Writes checkpoints and frozen graphs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf


def write_checkpoint(prefix: Path, variables: Mapping[str, Any]) -> None:
    """Files `<prefix>.index` and `<prefix>.data-00000-of-00001`."""
    prefix.parent.mkdir(parents=True, exist_ok=True)
    tf.raw_ops.SaveV2(
        prefix=str(prefix),
        tensor_names=list(variables),
        shape_and_slices=[""] * len(variables),
        tensors=list(variables.values()),
    )


def write_graph(path: Path, variables: Mapping[str, Any]) -> None:
    """A frozen graph: constants, each read by another node, and one of another kind."""
    graph = tf.compat.v1.GraphDef()
    for name, value in {**variables, "Postprocessor/scale": np.ones(3)}.items():
        node = graph.node.add(name=name, op="Const")
        node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(value))
        graph.node.add(name=f"{name}/read", op="Identity").input.append(name)
    path.write_bytes(graph.SerializeToString())
