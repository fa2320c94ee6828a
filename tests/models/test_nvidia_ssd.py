# SPDX-License-Identifier: Apache-2.0
"""SSD300 on a ResNet against the same network in PyTorch, where it is installed."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ssdops.models import build_from_weights

torch = pytest.importorskip("torch")

BOXES = (4, 6, 6, 6, 4, 4)
CHANNELS = {
    "resnet18": (256, 512, 512, 256, 256, 128),
    "resnet34": (256, 512, 512, 256, 256, 256),
    "resnet50": (1024, 512, 512, 256, 256, 256),
}
# Whether blocks are bottlenecks, and how many there are in each stage.
BLOCKS = {
    "resnet18": (False, (2, 2, 2)),
    "resnet34": (False, (3, 4, 6)),
    "resnet50": (True, (3, 4, 6)),
}


def trunk(backbone: str) -> Any:
    """The modules of a ResNet up to its third stage, which is not strided."""
    from torch import nn

    bottleneck, blocks = BLOCKS[backbone]

    class Block(nn.Module):
        def __init__(self, inputs: int, channels: int, stride: int) -> None:
            super().__init__()
            outputs = 4 * channels if bottleneck else channels
            kernels = (1, 3, 1) if bottleneck else (3, 3)
            widths = [inputs, *[channels] * (len(kernels) - 1), outputs]
            strided = kernels.index(3)
            self.count = len(kernels)
            for index, kernel in enumerate(kernels):
                conv = nn.Conv2d(
                    *widths[index : index + 2],
                    kernel,
                    stride if index == strided else 1,
                    padding=kernel // 2,
                    bias=False,
                )
                setattr(self, f"conv{index + 1}", conv)
                setattr(self, f"bn{index + 1}", nn.BatchNorm2d(widths[index + 1]))
            self.downsample = None
            if stride != 1 or inputs != outputs:
                self.downsample = nn.Sequential(
                    nn.Conv2d(inputs, outputs, 1, stride, bias=False),
                    nn.BatchNorm2d(outputs),
                )
            self.outputs = outputs

        def forward(self, x: Any) -> Any:
            beside = x if self.downsample is None else self.downsample(x)
            for index in range(1, self.count + 1):
                x = getattr(self, f"bn{index}")(getattr(self, f"conv{index}")(x))
                x = torch.relu(x if index < self.count else x + beside)
            return x

    modules: list[Any] = [
        nn.Conv2d(3, 64, 7, 2, 3, bias=False),
        nn.BatchNorm2d(64),
        nn.ReLU(),
        nn.MaxPool2d(3, 2, 1),
    ]
    inputs = 64
    for channels, stride, count in zip((64, 128, 256), (1, 2, 1), blocks, strict=True):
        stage = []
        for index in range(count):
            stage.append(Block(inputs, channels, stride if index == 0 else 1))
            inputs = stage[-1].outputs
        modules.append(nn.Sequential(*stage))
    return nn.Sequential(*modules)


def theirs(backbone: str, num_classes: int) -> Any:
    """A network with the modules of NVIDIA's, its state random."""
    from torch import nn

    class Trunk(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.feature_extractor = trunk(backbone)

        def forward(self, x: Any) -> Any:
            return self.feature_extractor(x)

    def group(number: int, inputs: int, middle: int, outputs: int) -> Any:
        options = {"stride": 2, "padding": 1} if number < 3 else {}
        return nn.Sequential(
            nn.Conv2d(inputs, middle, 1, bias=False),
            nn.BatchNorm2d(middle),
            nn.ReLU(),
            nn.Conv2d(middle, outputs, 3, bias=False, **options),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
        )

    class Detector(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            channels = CHANNELS[backbone]
            self.feature_extractor = Trunk()
            self.additional_blocks = nn.ModuleList(
                group(number, inputs, 256 if number < 2 else 128, outputs)
                for number, (inputs, outputs) in enumerate(itertools.pairwise(channels))
            )
            for name, width in (("loc", 4), ("conf", num_classes)):
                heads = [
                    nn.Conv2d(count, boxes * width, 3, padding=1)
                    for count, boxes in zip(channels, BOXES, strict=True)
                ]
                setattr(self, name, nn.ModuleList(heads))

        def forward(self, x: Any) -> Any:
            sources = [self.feature_extractor(x)]
            for block in self.additional_blocks:
                sources.append(block(sources[-1]))
            rows = (
                torch.cat(
                    [
                        head(source).reshape(len(x), width, -1)
                        for head, source in zip(heads, sources, strict=True)
                    ],
                    2,
                )
                for heads, width in ((self.loc, 4), (self.conf, num_classes))
            )
            return tuple(rows)

    torch.manual_seed(0)
    model = Detector().eval()
    with torch.no_grad():
        # Fresh statistics and biases are 0 or 1: a mistake in them would not show.
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight.uniform_(0.5, 1.2)
                module.bias.normal_(0, 0.2)
                module.running_mean.normal_(0, 0.2)
                module.running_var.uniform_(0.5, 1.5)
        for head in (*model.loc, *model.conf):
            head.bias.normal_(0, 0.2)
    return model


def default_boxes() -> np.ndarray:
    """Rows (cx, cy, w, h) of NVIDIA's grid: box by box over the cells of a level."""
    scales = (21, 45, 99, 153, 207, 261, 315)
    steps, sides = (8, 16, 32, 64, 100, 300), (38, 19, 10, 5, 3, 1)
    rows = []
    for level, (step, side) in enumerate(zip(steps, sides, strict=True)):
        low = scales[level] / 300
        middle = np.sqrt(low * scales[level + 1] / 300)
        shapes = [(low, low), (middle, middle)]
        for ratio in (2, 3) if BOXES[level] == 6 else (2,):
            wide = (low * np.sqrt(ratio), low / np.sqrt(ratio))
            shapes += [wide, wide[::-1]]
        rows += [
            ((x + 0.5) * step / 300, (y + 0.5) * step / 300, width, height)
            for width, height in shapes
            for y in range(side)
            for x in range(side)
        ]
    return np.clip(np.array(rows), 0, 1)


def in_our_order(rows: Any) -> Any:
    """Rows [..., 8732, n] of levels, boxes, cells as those of levels, cells, boxes."""
    start, levels = 0, []
    for boxes, side in zip(BOXES, (38, 19, 10, 5, 3, 1), strict=True):
        level = rows[..., start : start + boxes * side * side, :]
        start += boxes * side * side
        parts = level.reshape(*rows.shape[:-2], boxes, side * side, rows.shape[-1])
        levels.append(np.swapaxes(parts, -3, -2).reshape(level.shape))
    assert start == rows.shape[-2] == 8732
    return np.concatenate(levels, axis=-2)


@pytest.mark.parametrize(
    ("backbone", "num_classes", "name"),
    [
        ("resnet18", 5, None),
        ("resnet34", 7, "ssd300_resnet34"),
        ("resnet50", 81, None),
    ],
)
def test_raw_outputs_and_anchors(
    backbone: str, num_classes: int, name: str | None, tmp_path: Path
) -> None:
    reference = theirs(backbone, num_classes)
    schedule = torch.optim.lr_scheduler.MultiStepLR(
        torch.optim.SGD(reference.parameters(), 0.1), [43, 54]
    )
    content = {
        "epoch": 65,
        "scheduler": schedule.state_dict(),
        "model": reference.state_dict(),
    }
    torch.save(content, tmp_path / "net.pt")
    ours, report = build_from_weights(name, tmp_path / "net.pt")
    assert ours.spec.name == f"ssd300_{backbone}"
    assert ours.spec.num_classes == num_classes
    assert not report.skipped
    assert not report.missing

    images = np.random.default_rng(0).random((2, 300, 300, 3), dtype=np.float32)
    mean, deviation = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    with torch.no_grad():
        pixels = torch.from_numpy(((images - mean) / deviation).astype(np.float32))
        offsets, logits = reference(pixels.permute(0, 3, 1, 2))
    outputs = ours.network(ours.spec.preprocessing(images * 255), training=False)
    for key, expected in (
        ("offsets", in_our_order(offsets.numpy().swapaxes(1, 2))[..., [1, 0, 3, 2]]),
        ("logits", in_our_order(logits.numpy().swapaxes(1, 2))),
    ):
        limit = 1e-4 * np.abs(expected).max()
        np.testing.assert_allclose(outputs[key], expected, atol=limit, rtol=0)

    boxes = in_our_order(default_boxes())
    corners = np.concatenate(
        [boxes[:, 1::-1] - boxes[:, :1:-1] / 2, boxes[:, 1::-1] + boxes[:, :1:-1] / 2],
        axis=1,
    )
    np.testing.assert_allclose(ours.anchors, corners, atol=1e-6)
