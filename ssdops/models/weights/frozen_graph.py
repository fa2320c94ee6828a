# SPDX-License-Identifier: Apache-2.0
"""Constants of frozen TensorFlow graphs (`.pb`); the graph itself is never run."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any, Final

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError

from ssdops.models.weights.arrays import MAX_WEIGHTS_BYTES, Array, read_file
from ssdops.models.weights.wire_format import WireReader

__all__ = ["SAVED_MODEL", "read_frozen_graph"]

SAVED_MODEL: Final = "saved_model.pb"
_MAX_NODES: Final = 200_000
# Fields of saved_model.proto and meta_graph.proto.
_META_GRAPHS, _GRAPH_DEF = 2, 2
_QUANTIZED: Final = (tf.quint8, tf.qint8)


def read_frozen_graph(path: str | os.PathLike[str]) -> dict[str, Array]:
    """The constants of a frozen graph as arrays, by the names of their nodes.

    Constants of 8 bits that go through a `Dequantize` node become float32 and have the
    name of that node.

    Args:
        path: File of a binary `GraphDef`; or `saved_model.pb`, of whose first graph
            the same holds.

    Returns:
        Arrays of numbers; strings and empty constants are left out.

    Raises:
        ValueError: If the file is absent, larger than 2 GiB, damaged or something else,
            has constants of more than 4 GiB, or is quantised in another way; one
            sentence that names it.
    """
    path = Path(path)
    data = read_file(path)
    graph = tf.compat.v1.GraphDef()
    try:
        if path.name == SAVED_MODEL:
            data = _first_graph(data)
        graph.ParseFromString(bytes(data))
        if not 0 < len(graph.node) <= _MAX_NODES:
            raise ValueError(f"it has {len(graph.node)} nodes")
        return _constants(graph)
    except (DecodeError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"{path} is not a readable frozen graph: {reason}") from None


def _first_graph(saved_model: memoryview) -> memoryview:
    """Returns the first `GraphDef` of a `SavedModel`."""
    reader = WireReader()
    for number, _, meta_graph in reader.fields(saved_model):
        if number == _META_GRAPHS and isinstance(meta_graph, memoryview):
            for field, _, graph in reader.fields(meta_graph):
                if field == _GRAPH_DEF and isinstance(graph, memoryview):
                    return graph
    raise ValueError("it has no graph")


def _constants(graph: Any) -> dict[str, Array]:
    arrays: dict[str, Array] = {}
    total = 0
    for node in graph.node:
        if node.op != "Const":
            continue
        tensor = node.attr["value"].tensor
        dtype = tf.dtypes.as_dtype(tensor.dtype)
        sizes = [dimension.size for dimension in tensor.tensor_shape.dim]
        if (not sizes and not tensor.ByteSize()) or dtype in (tf.string, tf.resource):
            continue
        if min(sizes, default=0) < 0:
            raise ValueError(f"constant {node.name} has the shape {sizes}")
        # A small file may ask for any number of equal values.
        total += math.prod(sizes) * dtype.size
        if total > MAX_WEIGHTS_BYTES:
            raise ValueError(f"its constants have more than {MAX_WEIGHTS_BYTES} bytes")
        array = tf.make_ndarray(tensor)
        if array.dtype.names:  # quantised numbers are records of one field
            array = array[array.dtype.names[0]]
        arrays[node.name] = array
    for node in graph.node:
        if node.op == "Dequantize":
            parts = [arrays.pop(name, None) for name in node.input]
            arrays[node.name] = _dequantized(node, parts)
    return arrays


def _dequantized(node: Any, parts: list[Array | None]) -> Array:
    """Returns what a `Dequantize` node gives."""
    dtype = tf.dtypes.as_dtype(node.attr["T"].type)
    mode = (node.attr["mode"].s or b"MIN_COMBINED").decode()
    if len(parts) != 3 or any(part is None for part in parts):
        raise ValueError(f"{node.name} must have three constants as inputs")
    if dtype not in _QUANTIZED:
        raise ValueError(f"{node.name} must be of 8 bits, got {dtype.name}")
    values, low, high = (np.asarray(part) for part in parts)
    if low.size != 1 or high.size != 1 or node.attr["narrow_range"].b:
        raise ValueError(f"{node.name} must have one whole range, got {low.size}")
    if not np.isfinite(low).all() or not np.isfinite(high).all():
        raise ValueError(f"{node.name} must have a finite range, got {low}, {high}")
    if not high - low > 256 * np.finfo(np.float32).tiny:
        # One step is no number that a processor has; TensorFlow would give NaN.
        return np.full(values.shape, low.reshape(()), np.float32)
    try:
        floats = tf.quantization.dequantize(
            tf.bitcast(values, dtype), low.reshape(()), high.reshape(()), mode
        )
    except tf.errors.OpError as error:
        raise ValueError(f"{node.name}: {error.message}") from None
    return np.asarray(floats.numpy(), np.float32)
