# SPDX-License-Identifier: Apache-2.0
"""Constants of frozen graphs: every dtype, quantised, in damaged and hostile files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from support.damaged_files import is_readable
from support.data import data_path

from ssdops.models.weights import read_weights
from ssdops.models.weights.frozen_graph import read_frozen_graph

FACE = "weights/opencv_face_res10"


def node(graph: Any, op: str, name: str, inputs: tuple[str, ...] = ()) -> Any:
    added = graph.node.add()
    added.op, added.name = op, name
    added.input.extend(inputs)
    return added


def constant(graph: Any, name: str, value: Any, dtype: Any = None) -> Any:
    added = node(graph, "Const", name)
    tensor = tf.make_tensor_proto(value, dtype)
    added.attr["dtype"].type = tensor.dtype
    added.attr["value"].tensor.CopyFrom(tensor)
    return added


def written(graph: Any, folder: Path) -> Path:
    path = folder / "frozen.pb"
    path.write_bytes(graph.SerializeToString())
    return path


@pytest.mark.parametrize(
    "dtype",
    ["float32", "float64", "float16", "int8", "uint8", "int32", "int64", "bool"],
)
def test_constants_of_every_dtype(dtype: str, tmp_path: Path) -> None:
    graph = tf.compat.v1.GraphDef()
    expected = {
        "a/b": np.arange(6).reshape(2, 3).astype(dtype),
        "equal": np.ones((4, 5), dtype),
        "scalar": np.array(1, dtype),
        "none": np.zeros((0, 3), dtype),
    }
    for name, value in expected.items():
        constant(graph, name, value)
    constant(graph, "text", "abc")
    node(graph, "PyFunc", "code", ("a/b",))
    arrays = read_weights(written(graph, tmp_path))
    assert arrays.keys() == expected.keys()
    for name, value in expected.items():
        assert arrays[name].dtype == value.dtype
        np.testing.assert_array_equal(arrays[name], value)


def quantized(mode: str, low: float = -1.0, high: float = 3.0) -> Any:
    graph = tf.compat.v1.GraphDef()
    values = np.arange(0, 256, 5, dtype=np.uint8)
    tensor = tf.bitcast(values, tf.quint8)
    constant(graph, "w_const", values)
    graph.node[0].attr["value"].tensor.dtype = tensor.dtype.as_datatype_enum
    constant(graph, "w_min", np.float32(low))
    constant(graph, "w_max", np.float32(high))
    added = node(graph, "Dequantize", "w", ("w_const", "w_min", "w_max"))
    added.attr["T"].type = tensor.dtype.as_datatype_enum
    added.attr["mode"].s = mode.encode()
    return graph


@pytest.mark.parametrize("mode", ["MIN_COMBINED", "MIN_FIRST"])
def test_quantised_constants(mode: str, tmp_path: Path) -> None:
    arrays = read_frozen_graph(written(quantized(mode), tmp_path))
    assert list(arrays) == ["w"]
    expected = -1 + np.arange(0, 256, 5) * 4 / 255
    np.testing.assert_allclose(arrays["w"], expected, atol=4 / 255 / 2 + 1e-6)
    assert arrays["w"].dtype == np.float32


def test_a_range_of_nothing(tmp_path: Path) -> None:
    tiny = float(np.finfo(np.float32).tiny)
    for high in (0.0, tiny):
        graph = quantized("MIN_FIRST", 0.0, high)
        np.testing.assert_array_equal(
            read_frozen_graph(written(graph, tmp_path))["w"], 0
        )


def test_the_graph_of_the_face_detector() -> None:
    """OpenCV, which reads the same file, gives the same numbers."""
    arrays = read_weights(data_path(f"{FACE}/opencv_face_detector_uint8.pb"))
    with np.load(data_path(f"{FACE}/weights_float32.npz")) as npz:
        for name in ("conv1_h", "conv7_2_h", "fc7_mbox_conf"):
            ours = arrays[f"{name}/weights"].transpose(3, 2, 0, 1)
            theirs = npz[f"{name}/Conv2D|Convolution|0"]
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-6)


def huge() -> Any:
    """A constant of one stored number that would have 2^42 of them."""
    graph = tf.compat.v1.GraphDef()
    tensor = constant(graph, "w", np.float32(1.0)).attr["value"].tensor
    for _ in range(2):
        tensor.tensor_shape.dim.add().size = 2**21
    return graph


def negative() -> Any:
    graph = tf.compat.v1.GraphDef()
    tensor = constant(graph, "w", np.float32(1.0)).attr["value"].tensor
    tensor.tensor_shape.dim.add().size = -5
    return graph


def without_range() -> Any:
    graph = quantized("MIN_FIRST")
    del graph.node[1]
    return graph


@pytest.mark.parametrize(
    ("graph", "message"),
    [
        (tf.compat.v1.GraphDef(), "it has 0 nodes"),
        (huge(), "more than 4294967296 bytes"),
        (negative(), r"the shape \[-5\]"),
        (without_range(), "must have three constants"),
        (quantized("SCALED_UP"), "SCALED_UP"),
        (quantized("MIN_FIRST", float("nan")), "finite|range"),
    ],
)
def test_hostile_graphs(graph: Any, message: str, tmp_path: Path) -> None:
    path = written(graph, tmp_path)
    with pytest.raises(ValueError, match=message) as caught:
        read_frozen_graph(path)
    assert str(path) in str(caught.value)


def test_damaged_files_raise_nothing_else(tmp_path: Path) -> None:
    data = data_path(f"{FACE}/opencv_face_detector_uint8.pb").read_bytes()[:60_000]
    rng = np.random.default_rng(0)
    path = tmp_path / "frozen.pb"
    read = []
    for size in (*range(1, 60), *rng.integers(60, len(data), 60)):
        changed = bytearray(data[:size])
        for place in rng.integers(0, size, 3 * (size % 2)):
            changed[place] = rng.integers(256)
        path.write_bytes(changed)
        read.append(is_readable(read_frozen_graph, path))
    assert not all(read)
