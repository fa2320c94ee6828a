# SPDX-License-Identifier: Apache-2.0
"""Networks of random layers beside OpenCV's own reading of the same two files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.caffe_parity import assert_close, assert_same_detections
from support.caffemodel import caffemodel

from ssdops.boxes import yxyx_to_xyxy
from ssdops.models import build_from_prototxt, load_model
from ssdops.models.caffe.layer_types import LAYER_TYPES

SIZE = (61, 83)
CLASSES = 4
MEAN = (104, 117, 123)
SEEDS = range(8)
# Names for depthwise convolutions that others gave; a split is made by Caffe itself.
NOT_OF_OPENCV = {"ConvolutionDepthwise", "DepthwiseConvolution", "Split"}


class Net:
    """A prototxt and its blobs, layer by layer."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.text = (
            f'input: "data" input_shape {{ dim: 1 dim: 3 dim: {SIZE[0]} '
            f"dim: {SIZE[1]} }}\n"
        )
        self.blobs: dict[str, list[Any]] = {}
        self.count = 0

    def pick(self, *values: Any) -> Any:
        return values[self.rng.integers(len(values))]

    def layer(
        self, kind: str, bottoms: list[str], params: str = "", top: str = ""
    ) -> str:
        self.count += 1
        name = f"{kind.lower()}/{self.count}"
        inputs = " ".join(f'bottom: "{bottom}"' for bottom in bottoms)
        self.text += (
            f'layer {{ name: "{name}" type: "{kind}" {inputs} top: "{top or name}" '
            f"{params} }}\n"
        )
        return top or name

    def put(self, *blobs: Any) -> None:
        """Gives the blobs of the last layer."""
        name = self.text.rsplit('name: "', 1)[1].partition('"')[0]
        self.blobs[name] = [np.asarray(blob, np.float32) for blob in blobs]

    def convolution(
        self,
        bottom: str,
        inputs: int,
        outputs: int,
        kernel: int = 3,
        stride: int = 1,
        pad: int = 1,
        dilation: int = 1,
        group: int = 1,
        bias: bool = True,
    ) -> str:
        top = self.layer(
            "Convolution",
            [bottom],
            f"convolution_param {{ num_output: {outputs} kernel_size: {kernel} "
            f"stride: {stride} pad: {pad} dilation: {dilation} group: {group} "
            f"bias_term: {str(bias).lower()} }}",
        )
        shape = (outputs, inputs // group, kernel, kernel)
        fan_in = np.prod(shape[1:])
        kernels = self.rng.normal(size=shape) * np.sqrt(2 / fan_in)
        biases = [self.rng.normal(size=outputs) * 0.1] if bias else []
        self.put(kernels, *biases)
        return top

    def normalized(self, bottom: str, channels: int) -> str:
        """Batch normalisation and scale, in place or not."""
        top = self.pick(bottom, "")
        top = self.layer("BatchNorm", [bottom], top=top)
        count = self.pick(1.0, 999.5)
        self.put(
            self.rng.normal(size=channels) * 0.3 * count,
            self.rng.uniform(0.5, 2.0, channels) * count,
            [count],
        )
        self.layer("Scale", [top], "scale_param { bias_term: true }", top)
        self.put(
            self.rng.uniform(0.5, 1.5, channels), self.rng.normal(size=channels) * 0.2
        )
        return top

    def activation(self, bottom: str, channels: int) -> str:
        """One of the layers that change every number by itself."""
        kind = self.pick("ReLU", "PReLU", "ELU", "TanH", "Sigmoid", "ReLU6", "Leaky")
        params = ""
        if kind == "Leaky":
            kind, params = "ReLU", "relu_param { negative_slope: 0.1 }"
        top = self.layer(kind, [bottom], params, self.pick(bottom, ""))
        if kind == "PReLU":
            self.put(self.rng.uniform(0.05, 0.5, channels))
        return top

    def block(self, bottom: str, channels: int) -> str:
        """Two ways that become one again."""
        kernel, pad, dilation = self.pick((1, 0, 1), (3, 1, 1), (3, 2, 2))
        group = self.pick(1, 2, channels)
        first = self.convolution(
            bottom, channels, channels, kernel, 1, pad, dilation, group, bias=False
        )
        first = self.activation(self.normalized(first, channels), channels)
        second = self.layer(
            "Pooling",
            [bottom],
            f"pooling_param {{ pool: {self.pick('MAX', 'AVE')} kernel_size: 3 "
            "stride: 1 pad: 1 }",
        )
        second = self.convolution(second, channels, channels, 1, 1, 0)
        join = self.pick("Eltwise", "Concat")
        if join == "Concat":
            joined = self.layer("Concat", [first, second])
            return self.convolution(joined, 2 * channels, channels, 1, 1, 0)
        params = self.pick("coeff: 0.5 coeff: -1.25", "operation: MAX", "")
        joined = self.layer("Eltwise", [first, second], f"eltwise_param {{ {params} }}")
        return self.layer("Dropout", [joined], top=joined)

    def enlarged(self, bottom: str, channels: int) -> str:
        """A layer with a stride, and its transpose, then of other sizes."""
        kernel, stride, pad = self.pick((2, 2, 0), (3, 2, 1), (4, 2, 1), (1, 2, 0))
        group = self.pick(1, channels)
        small = self.convolution(bottom, channels, channels, 3, 2, 1)
        bias = self.pick(True, False)
        large = self.layer(
            "Deconvolution",
            [small],
            f"convolution_param {{ num_output: {channels} kernel_size: {kernel} "
            f"stride: {stride} pad: {pad} group: {group} "
            f"bias_term: {str(bias).lower()} }}",
        )
        shape = (channels, channels // group, kernel, kernel)
        kernels = self.rng.normal(size=shape) * np.sqrt(4 / (channels / group))
        self.put(kernels, *([self.rng.normal(size=channels) * 0.1] if bias else []))
        power = self.layer("Power", [large], "power_param { scale: 0.5 shift: -0.25 }")
        region = self.pick("ACROSS_CHANNELS", "WITHIN_CHANNEL")
        # OpenCV takes no notice of `k`.
        return self.layer(
            "LRN",
            [power],
            "lrn_param { local_size: 3 alpha: 0.4 beta: 0.75 norm_region: "
            f"{region} }}",
        )

    def smaller(self, bottom: str, channels: int) -> str:
        """A layer with a stride, with all ways to be at the border."""
        if self.pick(True, False):
            pad, kernel = self.pick((0, 3), (1, 3), (2, 5))
            return self.convolution(bottom, channels, channels, kernel, 2, pad)
        kernel, pad = self.pick((2, 0), (3, 0), (3, 1))
        return self.layer(
            "Pooling",
            [bottom],
            f"pooling_param {{ pool: {self.pick('MAX', 'AVE')} kernel_size: {kernel} "
            f"stride: 2 pad: {pad} }}",
        )

    def head(self, bottom: str, channels: int, outputs: int) -> str:
        kernel = self.pick(1, 3)
        head = self.convolution(bottom, channels, outputs, kernel, 1, kernel // 2)
        order = "permute_param { order: 0 order: 2 order: 3 order: 1 }"
        return self.layer("Flatten", [self.layer("Permute", [head], order)])


def made(seed: int) -> Net:
    """A detector of three levels."""
    net = Net(seed)
    channels = 8
    blob = net.convolution("data", 3, channels, 5, 2, 2)
    blob = net.enlarged(blob, channels)
    common = net.pick("clip: true", "clip: false") + net.pick(
        " variance: 0.1 variance: 0.15 variance: 0.2 variance: 0.25", " variance: 0.125"
    )
    tails: dict[str, list[str]] = {"loc": [], "conf": [], "prior": []}
    for level in range(3):
        blob = net.smaller(net.block(blob, channels), channels)
        source = net.activation(blob, channels)
        blob = source
        if net.pick(True, False):
            source = net.layer(
                "Normalize",
                [source],
                "norm_param { across_spatial: false channel_shared: false }",
            )
            net.put(net.rng.uniform(1, 4, channels))
        ratios, flip = net.pick(
            ((2,), True), ((2, 3), True), ((1, 2), False), ((), True)
        )
        low = (8, 21, 40)[level]
        largest = net.pick("", f"max_size: {low + 13}")
        boxes = 1 + bool(largest) + sum(ratio != 1 for ratio in ratios) * (1 + flip)
        tails["loc"].append(net.head(source, channels, 4 * boxes))
        tails["conf"].append(net.head(source, channels, CLASSES * boxes))
        step = net.pick("", f"step: {4 * 2**level}", "step_h: 9 step_w: 11")
        tails["prior"].append(
            net.layer(
                "PriorBox",
                [source, "data"],
                f"prior_box_param {{ min_size: {low} {largest} "
                + " ".join(f"aspect_ratio: {ratio}" for ratio in ratios)
                + f" flip: {str(flip).lower()} {step} {common} }}",
            )
        )
    loc = net.layer("Concat", tails["loc"], "concat_param { axis: 1 }", "loc")
    conf = net.layer("Concat", tails["conf"], "concat_param { axis: 1 }", "conf")
    prior = net.layer("Concat", tails["prior"], "concat_param { axis: 2 }", "prior")
    rows = f"reshape_param {{ shape {{ dim: 0 dim: -1 dim: {CLASSES} }} }}"
    conf = net.layer("Reshape", [conf], rows)
    conf = net.layer("Softmax", [conf], "softmax_param { axis: 2 }")
    net.layer(
        "DetectionOutput",
        [loc, net.layer("Flatten", [conf]), prior],
        f"detection_output_param {{ num_classes: {CLASSES} code_type: CENTER_SIZE "
        "share_location: true background_label_id: 0 "
        "nms_param { nms_threshold: 0.4 top_k: 90 } keep_top_k: 60 "
        "confidence_threshold: 0.2 }",
        "out",
    )
    return net


@pytest.mark.parametrize("seed", SEEDS)
def test_random_network(seed: int, tmp_path: Path) -> None:
    cv2 = pytest.importorskip("cv2")
    net = made(seed)
    description, weights = tmp_path / "net.prototxt", tmp_path / "net.caffemodel"
    description.write_text(net.text)
    weights.write_bytes(caffemodel(net.blobs))
    model, report = build_from_prototxt(description, weights, mean=MEAN, scale=1 / 64)
    assert not report.skipped
    assert not report.missing

    images = net.rng.integers(0, 256, (1, *SIZE, 3), np.uint8)
    theirs = cv2.dnn.readNetFromCaffe(str(description), str(weights))
    bgr = images[..., ::-1].astype(np.float32)
    theirs.setInput(((bgr - MEAN) / 64).astype(np.float32).transpose(0, 3, 1, 2))
    last = [name for name in theirs.getLayerNames() if name.startswith("concat/")][-3:]
    loc, conf, prior, out = theirs.forward(
        [*last, theirs.getUnconnectedOutLayersNames()[0]]
    )

    for network in (model, load_model(model.save(tmp_path / "saved"))):
        outputs = network.network(network.spec.preprocessing(images), training=False)
        x_first = outputs["offsets"].numpy()[..., [1, 0, 3, 2]]
        assert_close(x_first, loc.reshape(1, -1, 4), 1e-4)
        assert_close(outputs["logits"].numpy(), conf.reshape(1, -1, CLASSES), 1e-4)
        boxes, variances = prior[0].reshape(2, -1, 4)
        ours = yxyx_to_xyxy(network.anchors.numpy())
        np.testing.assert_allclose(ours, boxes, rtol=0, atol=1e-6)
        y, x, h, w = network.spec.variances
        np.testing.assert_allclose(variances, np.tile([x, y, w, h], (len(boxes), 1)))
        rows = out[0, 0][np.argsort(-out[0, 0][:, 2], kind="stable")]
        assert len(rows) > 1
        rows = np.pad(rows, ((0, 60 - len(rows)), (0, 0)))
        assert_same_detections(network.detect(images), rows)


@pytest.mark.parametrize("seed", SEEDS)
def test_every_weight_has_a_gradient(seed: int, tmp_path: Path) -> None:
    """Also of groups and dilation on a CPU."""
    import tensorflow as tf

    path = tmp_path / "net.prototxt"
    path.write_text(made(seed).text)
    network = build_from_prototxt(path)[0].network
    images = tf.random.stateless_normal((2, *SIZE, 3), (seed, 1))
    with tf.GradientTape() as tape:
        outputs = network(images, training=True)
        loss = sum(tf.reduce_sum(tf.square(value)) for value in outputs.values())
    variables = network.trainable_variables
    gradients = tape.gradient(loss, variables)
    for variable, gradient in zip(variables, gradients, strict=True):
        assert np.isfinite(gradient).all(), variable.path
        assert np.abs(gradient).max() > 0, variable.path


def test_the_networks_have_all_kinds_of_layers() -> None:
    text = "".join(made(seed).text for seed in SEEDS)
    parts = [f'type: "{kind}"' for kind in LAYER_TYPES if kind not in NOT_OF_OPENCV]
    parts += ["coeff", "operation: MAX", "pool: AVE", "dilation: 2", "group: 8"]
    parts += ["ACROSS_CHANNELS", "WITHIN_CHANNEL", "kernel_size: 1 stride: 2"]
    parts += ["clip: true", "step_h", "flip: false", "max_size", "negative_slope"]
    assert [part for part in parts if part not in text] == []
