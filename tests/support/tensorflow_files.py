# SPDX-License-Identifier: Apache-2.0
"""Writes checkpoints, frozen graphs and TensorFlow Lite files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
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


def write_lite(
    path: Path,
    network: Callable[[Any], Any],
    kind: str,
    image_size: tuple[int, int] = (300, 300),
) -> Path:
    """A network on images [1, h, w, 3] as TensorFlow's own converter writes it.

    The kind is "float32", "float16", "int8 weights", or "int8" for all of it with bytes
    as input.
    """
    graph = tf.Graph()
    with graph.as_default():
        images = tf.compat.v1.placeholder(tf.float32, (1, *image_size, 3), "images")
        outputs = network(images)
        definition = graph.as_graph_def()
    frozen = path.with_suffix(".pb")
    frozen.write_bytes(definition.SerializeToString())
    converter = tf.compat.v1.lite.TFLiteConverter.from_frozen_graph(
        str(frozen), ["images"], [output.op.name for output in outputs]
    )
    if kind != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if kind == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if kind == "int8":
        rng = np.random.default_rng(0)
        shape = (1, *image_size, 3)
        converter.representative_dataset = lambda: (
            [rng.integers(0, 256, shape).astype(np.float32)] for _ in range(4)
        )
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = tf.uint8
    path.write_bytes(converter.convert())
    return path
