# SPDX-License-Identifier: Apache-2.0
"""TensorFlow Lite files: written by its generated code, and damaged ones."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssdops.models.weights import flat_buffers, read_tflite

schema = pytest.importorskip("tensorflow.lite.python.schema_py_generated")
TYPES = {
    "float32": schema.TensorType.FLOAT32,
    "float16": schema.TensorType.FLOAT16,
    "float64": schema.TensorType.FLOAT64,
    "int8": schema.TensorType.INT8,
    "uint8": schema.TensorType.UINT8,
    "int16": schema.TensorType.INT16,
    "int32": schema.TensorType.INT32,
    "int64": schema.TensorType.INT64,
}
RNG = np.random.default_rng(0)


class Tensor:
    """A constant of a model, its parts as they are to be stored."""

    def __init__(self, name: str, value: Any, scales: Any = (), **changes: Any) -> None:
        self.name, self.value = name, np.asarray(value)
        self.scales = np.asarray(scales, np.float32)
        self.zero_points = changes.pop("zero_points", np.zeros(len(self.scales)))
        self.axis = changes.pop("axis", 0)
        self.changes = changes


CONVOLUTION, DEPTHWISE, DEQUANTIZE, ADD = 3, 4, 6, 0
Operator = tuple[int, list[int], list[int]]


def model_bytes(
    *tensors: Tensor, operators: tuple[Operator, ...] = (), inputs: tuple[int, ...] = ()
) -> bytes:
    """A model; operators have a code, inputs and outputs."""
    model, graph = schema.ModelT(), schema.SubGraphT()
    model.version, model.subgraphs = 3, [graph]
    model.buffers, graph.tensors = [schema.BufferT()], []
    for tensor in tensors:
        stored = schema.TensorT()
        stored.name = tensor.name.encode()
        stored.shape = np.array(tensor.value.shape, np.int32)
        stored.type = TYPES[tensor.value.dtype.name]
        stored.buffer = len(model.buffers)
        if len(tensor.scales):
            stored.quantization = schema.QuantizationParametersT()
            stored.quantization.scale = tensor.scales
            stored.quantization.zeroPoint = np.asarray(tensor.zero_points, np.int64)
            stored.quantization.quantizedDimension = tensor.axis
        for name, change in tensor.changes.items():
            setattr(stored, name, change)
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(tensor.value.tobytes(), np.uint8)
        model.buffers.append(buffer)
        graph.tensors.append(stored)
    model.operatorCodes, graph.operators = [], []
    graph.inputs = np.array(inputs, np.int32)
    for index, (number, taken, outputs) in enumerate(operators):
        code, operator = schema.OperatorCodeT(), schema.OperatorT()
        code.builtinCode = code.deprecatedBuiltinCode = number
        operator.opcodeIndex = index
        operator.inputs = np.array(taken, np.int32)
        operator.outputs = np.array(outputs, np.int32)
        model.operatorCodes.append(code)
        graph.operators.append(operator)
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def write(folder: Path, content: bytes) -> Path:
    path = folder / "net.tflite"
    path.write_bytes(content)
    return path


INT8 = RNG.integers(-128, 128, (3, 1, 2, 4)).astype(np.int8)
SMALL = model_bytes(
    Tensor("kernel", INT8, [0.5, 0.25, 2.0], zero_points=[0, 1, -2]),
    Tensor("bias", RNG.integers(-9, 9, 3).astype(np.int32), [0.125], zero_points=[4]),
    Tensor("plain", RNG.normal(size=(2, 3)).astype(np.float32)),
    Tensor("shape", np.array([1, 2], np.int32)),
)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_real_numbers_become_float32(dtype: str, tmp_path: Path) -> None:
    value = RNG.normal(size=(2, 1, 3)).astype(dtype)
    [(name, array)] = read_tflite(
        write(tmp_path, model_bytes(Tensor("a/é", value)))
    ).items()
    assert (name, array.dtype) == ("a/é", np.float32)
    np.testing.assert_array_equal(array, value.astype(np.float32))


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "int32"])
def test_quantised_by_tensor(dtype: str, tmp_path: Path) -> None:
    limits = np.iinfo(dtype)
    value = RNG.integers(limits.min, limits.max, (4, 5), endpoint=True).astype(dtype)
    tensor = Tensor("a", value, [0.1], zero_points=[-7])
    arrays = read_tflite(write(tmp_path, model_bytes(tensor)))
    expected = (value.astype(np.float64) + 7) * np.float64(np.float32(0.1))
    np.testing.assert_array_equal(arrays["a"], expected.astype(np.float32))
    assert arrays["a|scale_zp"].tolist() == [np.float32(0.1), -7]


@pytest.mark.parametrize("axis", [0, 2, 3])
def test_quantised_by_channel(axis: int, tmp_path: Path) -> None:
    count = INT8.shape[axis]
    scales = np.arange(1, count + 1, dtype=np.float32) / 8
    points = np.arange(count)
    tensor = Tensor("a", INT8, scales, zero_points=points, axis=axis)
    arrays = read_tflite(write(tmp_path, model_bytes(tensor)))
    assert list(arrays) == ["a"]
    for channel in range(count):
        actual = np.take(arrays["a"], channel, axis)
        whole = np.take(INT8, channel, axis).astype(np.float32) - points[channel]
        np.testing.assert_array_equal(actual, whole * scales[channel])


def test_shapes_and_computed_tensors_are_left_out(tmp_path: Path) -> None:
    computed = Tensor("computed", np.zeros(3, np.float32), buffer=0)
    content = model_bytes(computed, Tensor("shape", np.array([1, 2], np.int32)))
    with pytest.raises(ValueError, match="without weights"):
        read_tflite(write(tmp_path, content))
    assert sorted(read_tflite(write(tmp_path, SMALL))) == [
        *("bias", "bias|scale_zp", "kernel", "plain")
    ]


def test_the_shape_of_the_only_input(tmp_path: Path) -> None:
    constant, image = layers("a")[0], Tensor("image", np.zeros((1, 6, 8, 3), "f4"))
    image.changes = {"buffer": 0}
    for inputs, found in (((), []), ((1,), [1, 6, 8, 3]), ((0, 1), [])):
        content = model_bytes(constant, image, inputs=inputs)
        arrays = read_tflite(write(tmp_path, content))
        assert arrays.pop("input|shape", np.zeros(0)).tolist() == found
        assert list(arrays) == ["a"]
    for index in (2, -1):
        content = model_bytes(constant, image, inputs=(index,))
        with pytest.raises(ValueError, match=f"the input is tensor {index} of 2"):
            read_tflite(write(tmp_path, content))


@pytest.mark.parametrize(
    ("dtype", "scales", "points", "found"),
    [
        ("uint8", [0.0078125], [128], [0.0078125, 128]),
        ("int8", [0.0078125], [-1], [0.0078125, 127]),
        ("float32", [0.0078125], [128], None),
        ("uint8", [], [], None),
        ("uint8", [0.5, 0.25], [1, 2], None),
        ("uint8", [0.5], [], None),
    ],
)
def test_what_bytes_of_the_input_stand_for(
    dtype: str, scales: Any, points: Any, found: Any, tmp_path: Path
) -> None:
    image = Tensor("i", np.zeros((1, 6, 8, 3), dtype), scales, zero_points=points)
    image.changes = {"buffer": 0}
    content = model_bytes(*layers("a"), image, inputs=(1,))
    pixels = read_tflite(write(tmp_path, content)).get("input|scale_zp")
    assert found == (None if pixels is None else pixels.tolist())


def layers(*names: str) -> list[Tensor]:
    """Tensors with a number each, which tells them apart."""
    return [Tensor(name, np.float32([index])) for index, name in enumerate(names)]


def test_kernels_and_biases_are_called_after_their_layers(tmp_path: Path) -> None:
    tensors = layers(
        *("a/conv1/Relu6;a/conv1/BatchNorm/Fused", "merged", "also merged"),
        *("a/deep/BatchNorm/Fused/1", "whole", "half", "a/deep/depthwise_bias"),
        *("sum", "a/head/BiasAdd;x", "a/head/weights_quant/FakeQuant", "b;a/biases"),
    )
    operators: tuple[Operator, ...] = (
        (CONVOLUTION, [7, 1, 2], [0]),
        (DEQUANTIZE, [5], [4]),
        (DEPTHWISE, [0, 4, 6], [3]),
        (CONVOLUTION, [3, 9, 10], [8]),
        # One that has no bias, one of whom nothing is known, weights used again.
        (CONVOLUTION, [3, 1, -1], [0]),
        (CONVOLUTION, [3, 1, 2], [7]),
        (ADD, [3, 8], [7]),
        (CONVOLUTION, [], [0]),
    )
    arrays = read_tflite(write(tmp_path, model_bytes(*tensors, operators=operators)))
    names = {int(value[0]): name for name, value in arrays.items()}
    unchanged = {i: tensors[i].name for i in (0, 3, 4, 6, 7, 8, 9)}
    assert names == {
        **unchanged,
        1: "a/conv1/weights",
        2: "a/conv1/biases",
        5: "a/deep/depthwise_weights",
        10: "a/head/biases",
    }


@pytest.mark.parametrize(
    ("operator", "message"),
    [
        ((CONVOLUTION, [0, 1, 2], [0]), "tensor 2 of 2"),
        ((CONVOLUTION, [0, 1], [2]), "tensor 2 of 2"),
        ((CONVOLUTION, [0, 1], [-1]), "tensor 4294967295 of 2"),
    ],
)
def test_operators_that_are_refused(
    operator: Operator, message: str, tmp_path: Path
) -> None:
    path = write(tmp_path, model_bytes(*layers("a/b/c", "d"), operators=(operator,)))
    with pytest.raises(ValueError, match=message):
        read_tflite(path)


def sparse() -> Any:
    parameters = schema.SparsityParametersT()
    parameters.traversalOrder = [0]
    return parameters


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (Tensor("a", INT8, [1.0], shape=[5]), r"'a' has the shape \[5\] and 24 bytes"),
        (Tensor("a", INT8, [1.0], shape=[-4, -6]), r"has the shape \[-4, -6\]"),
        (Tensor("a", INT8, [1.0], shape=[1] * 9), "has 9 dimensions"),
        (Tensor("a", INT8, [1.0, 2.0]), r"2 scales for dimension 0 of the shape"),
        (Tensor("a", INT8, [1.0, 2.0], axis=7), r"2 scales for dimension 7"),
        (Tensor("a", INT8, [1.0, 2.0], axis=-2), r"2 scales for dimension -2"),
        (Tensor("a", INT8, [1.0], zero_points=[1, 2]), "1 scales and 2 zero points"),
        (Tensor("a", INT8, [1.0], type=5), "has the type 5"),
        (Tensor("a", INT8, [1.0], sparsity=sparse()), "is sparse"),
        (Tensor("a", INT8, [1.0], buffer=9), "buffer 9 of 2"),
        (Tensor("a" * 5000, INT8, [1.0]), "a text has 5000 bytes"),
    ],
)
def test_tensors_that_are_refused(tensor: Tensor, message: str, tmp_path: Path) -> None:
    path = write(tmp_path, model_bytes(tensor))
    with pytest.raises(ValueError, match=message) as error:
        read_tflite(path)
    assert str(error.value).startswith(str(path))


def test_files_that_are_refused(tmp_path: Path) -> None:
    twice = Tensor("a", np.zeros(3, np.float32))
    shared = [
        Tensor(
            f"t{i}", np.zeros(1000, np.float32) if not i else np.zeros(0, np.float32)
        )
        for i in range(40)
    ]
    for tensor in shared[1:]:
        tensor.changes = {"buffer": 1, "shape": [1000]}
    cases = (
        (b"", "TFL3"),
        (b"\x00" * 100, "TFL3"),
        (struct.pack("<I", 2**32 - 1) + b"TFL3", "points to byte 4294967295"),
        (model_bytes(twice, twice), "two tensors 'a'"),
        (model_bytes(*shared), "share more than they have"),
        (model_bytes(), "without weights"),
    )
    for content, message in cases:
        with pytest.raises(ValueError, match=message):
            read_tflite(write(tmp_path, content))
    with pytest.raises(ValueError, match="does not exist"):
        read_tflite(tmp_path / "other.tflite")


def test_files_of_many_tables_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flat_buffers, "_MAX_TABLES", 3)
    with pytest.raises(ValueError, match="5 tables in a row"):
        read_tflite(write(tmp_path, SMALL))


def arrays_if_readable(path: Path) -> dict[str, Any] | None:
    """The arrays, or None after an error that names the file."""
    try:
        return read_tflite(path)
    except ValueError as error:
        if not str(error).startswith(str(path)):
            raise
        return None


def test_truncated_files_are_refused_or_whole(tmp_path: Path) -> None:
    whole = read_tflite(write(tmp_path, SMALL))
    for size in range(len(SMALL)):
        arrays = arrays_if_readable(write(tmp_path, SMALL[:size]))
        for name in arrays or ():
            np.testing.assert_array_equal(arrays[name], whole[name])


@given(
    st.lists(st.tuples(st.integers(0, len(SMALL) - 1), st.integers(0, 255)), max_size=4)
)
def test_damaged_files_raise_nothing_else(
    tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[int, int]]
) -> None:
    content = bytearray(SMALL)
    for place, value in changes:
        content[place] = value
    path = write(tmp_path_factory.getbasetemp(), bytes(content))
    arrays = arrays_if_readable(path) or {}
    assert sum(array.nbytes for array in arrays.values()) <= 20 * len(SMALL)
