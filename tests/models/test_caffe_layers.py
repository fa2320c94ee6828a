# SPDX-License-Identifier: Apache-2.0
"""Types of Caffe's layers, each beside its definition."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from ssdops.models.caffe.layer_types import LAYER_TYPES, checked_values
from ssdops.models.layers import CaffePooling
from ssdops.protobuf_text import parse_text

RNG = np.random.default_rng(7)


def applied(text: str, *inputs: Any) -> Any:
    """What a layer gives for inputs [B, h, w, c], after a check of its size."""
    message = parse_text(text)
    kind = LAYER_TYPES[message.text("type")]
    values = checked_values(message.text("type"), kind.read(message), "layer x")
    size = kind.size(values, [value.shape[1:] for value in inputs])
    symbols = [keras.Input(value.shape[1:]) for value in inputs]
    network = keras.Model(symbols, kind.build(values, "x", symbols))
    found = network(list(inputs), training=False).numpy()
    assert found.shape[1:] == size
    return found, network


def slow_pool(features: Any, kernel: int, stride: int, pad: int, average: bool) -> Any:
    """Caffe's pooling, window by window."""
    _, height, width, channels = features.shape
    counts = []
    for side in (height, width):
        count = math.ceil((side + 2 * pad - kernel) / stride) + 1
        if (count - 1) * stride >= side + pad:
            count -= 1
        counts.append(count)
    result = np.zeros((len(features), *counts, channels))
    for i in range(counts[0]):
        for j in range(counts[1]):
            top, left = i * stride - pad, j * stride - pad
            bottom, right = (
                min(top + kernel, height + pad),
                min(left + kernel, width + pad),
            )
            area = (bottom - top) * (right - left)
            window = features[:, max(top, 0) : bottom, max(left, 0) : right]
            pooled = window.sum((1, 2)) / area if average else window.max((1, 2))
            result[:, i, j] = pooled
    return result


@pytest.mark.parametrize("side", [1, 5, 6, 7, 8, 19])
@pytest.mark.parametrize(
    ("kernel", "stride", "pad"), [(2, 2, 0), (3, 2, 0), (3, 1, 1), (3, 2, 1), (1, 2, 0)]
)
@pytest.mark.parametrize("kind", ["MAX", "AVE"])
def test_pooling(side: int, kernel: int, stride: int, pad: int, kind: str) -> None:
    if side + 2 * pad + stride <= kernel:
        pytest.skip("there is no window")
    features = RNG.normal(size=(2, side, side + 3, 3)).astype(np.float32) - 2
    found, _ = applied(
        f'type: "Pooling" pooling_param {{ pool: {kind} kernel_size: {kernel} '
        f"stride: {stride} pad: {pad} }}",
        features,
    )
    expected = slow_pool(features, kernel, stride, pad, kind == "AVE")
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_pooling_of_the_whole_image() -> None:
    features = RNG.normal(size=(2, 5, 7, 3)).astype(np.float32)
    found, _ = applied(
        'type: "Pooling" pooling_param { pool: AVE global_pooling: true }', features
    )
    np.testing.assert_allclose(found[:, 0, 0], features.mean((1, 2)), atol=1e-6)
    layer = CaffePooling((3, 3), (2, 2), (1, 1), average=True)
    assert CaffePooling.from_config(layer.get_config()).pad == (1, 1)


def slow_convolution(
    features: Any, kernel: Any, stride: int, pad: int, dilation: int, group: int
) -> Any:
    """A convolution out of sums; `kernel` [out, in / group, h, w]."""
    padded = np.pad(features, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    outputs, inputs, height, width = kernel.shape
    reach = dilation * (height - 1) + 1
    rows = (padded.shape[1] - reach) // stride + 1
    columns = (padded.shape[2] - reach) // stride + 1
    result = np.zeros((len(features), rows, columns, outputs))
    for o in range(outputs):
        first = o // (outputs // group) * inputs
        for y in range(height):
            for x in range(width):
                part = padded[
                    :,
                    y * dilation : y * dilation + (rows - 1) * stride + 1 : stride,
                    x * dilation : x * dilation + (columns - 1) * stride + 1 : stride,
                    first : first + inputs,
                ]
                result[..., o] += (part * kernel[o, :, y, x]).sum(-1)
    return result


@pytest.mark.parametrize(
    ("outputs", "group", "stride", "pad", "dilation"),
    [
        (6, 1, 1, 1, 1),
        (6, 1, 2, 0, 1),
        (8, 4, 1, 2, 2),
        (4, 4, 2, 1, 1),
        (6, 2, 1, 1, 1),
    ],
)
def test_convolution(
    outputs: int, group: int, stride: int, pad: int, dilation: int
) -> None:
    from ssdops.models.weights.caffe import _expected

    features = RNG.normal(size=(2, 9, 8, 4)).astype(np.float32)
    text = (
        f'type: "Convolution" convolution_param {{ num_output: {outputs} '
        f"kernel_size: 3 group: {group} stride: {stride} pad: {pad} "
        f"dilation: {dilation} bias_term: false }}"
    )
    _, network = applied(text, features)
    kernel = RNG.normal(size=(outputs, 4 // group, 3, 3)).astype(np.float32)
    [blob] = _expected(network.get_layer("x"))
    assert blob.shape == kernel.shape
    blob.variable.assign(blob.convert(kernel))
    expected = slow_convolution(features, kernel, stride, pad, dilation, group)
    np.testing.assert_allclose(network(features), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("outputs", "group", "kernel", "stride", "pad"),
    [
        (6, 1, 3, 2, 1),
        (4, 4, 4, 2, 1),
        (4, 4, 3, 1, 0),
        (3, 1, 1, 3, 0),
        (4, 4, 1, 2, 0),
        (5, 1, 5, 2, 4),
    ],
)
def test_deconvolution(
    outputs: int, group: int, kernel: int, stride: int, pad: int
) -> None:
    """Every cell adds its window; the padding is cut off."""
    from ssdops.models.weights.caffe import _expected

    features = RNG.normal(size=(2, 6, 5, 4)).astype(np.float32)
    text = (
        f'type: "Deconvolution" convolution_param {{ num_output: {outputs} group: '
        f"{group} kernel_size: {kernel} stride: {stride} pad: {pad} }}"
    )
    _, network = applied(text, features)
    shape = (4, outputs // group, kernel, kernel)
    kernels = RNG.normal(size=shape).astype(np.float32)
    biases = RNG.normal(size=outputs).astype(np.float32)
    for blob, value in zip(
        _expected(network.get_layer("x")), (kernels, biases), strict=True
    ):
        assert blob.shape == value.shape
        blob.variable.assign(blob.convert(value))
    sides = [stride * (side - 1) + kernel for side in (6, 5)]
    expected = np.zeros((2, *sides, outputs))
    for i in range(6):
        for j in range(5):
            top, left = i * stride, j * stride
            window = np.einsum("bc,cokl->bklo", features[:, i, j], kernels)
            if group > 1:
                window = np.einsum("bc,ckl->bklc", features[:, i, j], kernels[:, 0])
            expected[:, top : top + kernel, left : left + kernel] += window
    expected = expected[:, pad : sides[0] - pad, pad : sides[1] - pad] + biases
    np.testing.assert_allclose(network(features), expected, rtol=1e-4, atol=1e-4)
    for layer in network.layers:
        assert type(layer).from_config(layer.get_config()).name == layer.name


@pytest.mark.parametrize("size", [1, 3, 5])
@pytest.mark.parametrize("region", ["", "WITHIN_CHANNEL", "ACROSS_CHANNELS"])
def test_local_response_normalization(size: int, region: str) -> None:
    features = RNG.normal(size=(2, 4, 5, 6)).astype(np.float32)
    param = f"norm_region: {region}" if region else ""
    found, network = applied(
        f'type: "LRN" lrn_param {{ local_size: {size} alpha: 0.5 beta: 0.6 k: 2 '
        f"{param} }}",
        features,
    )
    half = size // 2
    total = np.zeros(features.shape)
    steps = range(-half, half + 1)
    within = region == "WITHIN_CHANNEL"
    around = ((0, 0), (half, half), (half, half), (half, half))
    squares = np.pad(features.astype(np.float64) ** 2, around)
    for y in steps if within else [0]:
        for x in steps if within else [0]:
            for c in [0] if within else steps:
                total += squares[
                    :,
                    half + y : half + y + 4,
                    half + x : half + x + 5,
                    half + c : half + c + 6,
                ]
    mean = total / (size**2 if within else size)
    expected = features / ((1 if within else 2) + 0.5 * mean) ** 0.6
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    layer = network.get_layer("x")
    assert (
        type(layer).from_config(layer.get_config()).get_config() == layer.get_config()
    )


ONE = RNG.normal(size=(2, 4, 5, 3)).astype(np.float32)
TWO = RNG.normal(size=(2, 4, 5, 3)).astype(np.float32)


@pytest.mark.parametrize(
    ("text", "inputs", "expected"),
    [
        ('type: "ReLU"', (ONE,), np.maximum(ONE, 0)),
        (
            'type: "ReLU" relu_param { negative_slope: 0.1 }',
            (ONE,),
            np.where(ONE > 0, ONE, 0.1 * ONE),
        ),
        ('type: "ReLU6"', (9 * ONE,), np.clip(9 * ONE, 0, 6)),
        ('type: "PReLU"', (ONE,), np.where(ONE > 0, ONE, 0.25 * ONE)),
        ('type: "Sigmoid"', (ONE,), 1 / (1 + np.exp(-ONE))),
        ('type: "TanH"', (ONE,), np.tanh(ONE)),
        ('type: "ELU"', (ONE,), np.where(ONE > 0, ONE, np.expm1(ONE))),
        ('type: "Dropout"', (ONE,), ONE),
        ('type: "Scale" scale_param { bias_term: true }', (ONE,), ONE),
        ('type: "BatchNorm"', (ONE,), ONE / np.sqrt(1 + 1e-5)),
        ('type: "Eltwise"', (ONE, TWO), ONE + TWO),
        (
            'type: "Eltwise" eltwise_param { coeff: 1 coeff: -2 }',
            (ONE, TWO),
            ONE - 2 * TWO,
        ),
        ('type: "Eltwise" eltwise_param { operation: PROD }', (ONE, TWO), ONE * TWO),
        (
            'type: "Eltwise" eltwise_param { operation: MAX }',
            (ONE, TWO),
            np.maximum(ONE, TWO),
        ),
        ('type: "Power" power_param { scale: 2 shift: -1 }', (ONE,), 2 * ONE - 1),
        ('type: "Concat"', (ONE, TWO), np.concatenate([ONE, TWO], -1)),
        (
            'type: "Normalize" norm_param { across_spatial: false '
            "channel_shared: true scale_filler { value: 3 } }",
            (ONE,),
            3 * ONE / np.linalg.norm(ONE, axis=-1, keepdims=True),
        ),
    ],
)
def test_layers_without_borders(text: str, inputs: Any, expected: Any) -> None:
    found, _ = applied(text, *inputs)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('type: "Normalize"', "across_spatial must be false"),
        ('type: "Scale" scale_param { axis: 0 }', "axis and num_axes must be 1"),
        ('type: "Concat" concat_param { axis: 2 }', "axis must be 1"),
        ('type: "Eltwise" eltwise_param { operation: DIV }', "must be one of SUM"),
        (
            'type: "Eltwise" eltwise_param { operation: MAX coeff: 1 }',
            "coeff goes with SUM, got MAX",
        ),
        (
            'type: "Pooling" pooling_param { kernel_size: 2 pad: 2 }',
            "pad must be smaller than kernel_size",
        ),
        ('type: "BatchNorm" batch_norm_param { eps: -1 }', "epsilon must lie in"),
        (
            'type: "Eltwise" eltwise_param { coeff: 2 coeff: 3 }',
            "coeff must be given for 1",
        ),
        (
            'type: "Pooling" pooling_param { pool: STOCHASTIC }',
            "must be one of MAX, AVE",
        ),
        ('type: "Convolution"', "num_output must be an integer in"),
        (
            'type: "Convolution" convolution_param { num_output: 4 kernel_size: 1 '
            "group: 2 }",
            "group must divide 3 inputs",
        ),
        (
            'type: "Deconvolution" convolution_param { num_output: 6 kernel_size: 2 '
            "group: 3 }",
            "group must be 1, or that of 3 inputs and as many outputs, got 3",
        ),
        (
            'type: "Deconvolution" convolution_param { num_output: 3 kernel_size: 2 '
            "dilation: 2 }",
            "dilation must be 1",
        ),
        (
            'type: "Deconvolution" convolution_param { num_output: 3 kernel_size: 2 '
            "group: 3 stride_h: 1 stride_w: 2 }",
            "stride must be the same",
        ),
        ('type: "LRN" lrn_param { local_size: 4 }', "local_size must be odd, got 4"),
        ('type: "LRN" lrn_param { k: 0 }', "bias must lie in"),
        ('type: "LRN" lrn_param { norm_region: ALL }', "must be one of ACROSS"),
        ('type: "Power" power_param { power: 2 }', "power must be 1, got 2"),
    ],
)
def test_layers_that_cannot_be(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        applied(text, ONE)


@pytest.mark.parametrize("kind", ["ConvolutionDepthwise", "DepthwiseConvolution"])
@pytest.mark.parametrize("group", ["", "group: 3"])
def test_depthwise_by_its_name(kind: str, group: str) -> None:
    text = (
        f'type: "{kind}" convolution_param {{ num_output: 3 kernel_size: 3 {group} }}'
    )
    _, network = applied(text, ONE)
    assert isinstance(network.get_layer("x"), keras.layers.DepthwiseConv2D)
    assert network.get_layer("x").kernel.shape == (3, 3, 3, 1)


def test_every_type_is_tested() -> None:
    """By this file; those of the same code need no test each."""
    text = Path(__file__).read_text()
    same = {"ConvolutionDepthwise", "DepthwiseConvolution", "Split"}
    assert {kind for kind in LAYER_TYPES if f'type: "{kind}"' not in text} == same
