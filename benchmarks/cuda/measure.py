# SPDX-License-Identifier: Apache-2.0
"""Times of the CUDA kernels beside torchvision's and the floor, on one GPU.

Needs PyTorch; torchvision if its ops are to be compared; no TensorFlow. Every result
is compared with the CPU kernel's first. A time is the median of event times, each
after the second-level cache was overwritten; while that runs, the launches queue up,
so that the time is the GPU's own.

The floor is the larger of bytes over the measured bandwidth of a copy and operations
over the rate of float32 instructions that are no multiply-adds, which the kernels do
without.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peers import PEERS
from rich.console import Console
from rich.table import Table

from ssdops import _native
from ssdops.benchmarking import workloads
from ssdops.benchmarking.workloads import Workload

ROUNDS = 50
NAMES = (
    "W1-trained-b1",
    "W1-trained-b32",
    "W1-trained-b1-logits",
    "W1-trained-b32-logits",
    "W1-dense-b32",
    "W1-dense-b32-logits",
    "W2-trained-b8",
    "W2-trained-b8-logits",
    "W3-p8732-g20",
    "W3-p24564-g100",
    "W4-p8732-encode",
    "W4-p8732-decode",
    "W4-p24564-decode",
    "W5-p8732",
    "W5-p24564",
    "W6-low-n1000",
    "W6-high-n5000",
    "W6-low-n20000",
    "loss-p8732",
    "iou-p8732-g64",
)


def call_of(workload: Workload) -> Callable[..., Any]:
    """The native function for a workload, with its options."""
    detection = {
        "iou_threshold": workloads.IOU_THRESHOLD,
        "pre_nms_top_k": workloads.PRE_NMS_TOP_K,
        "max_detections": workloads.MAX_DETECTIONS,
    }
    threshold = workloads.SCORE_THRESHOLD

    def detect(logits: Any, offsets: Any, anchors: Any, **options: Any) -> Any:
        limits = [float("inf")] + [threshold] * (logits.shape[2] - 1)
        return _native.detect(
            logits, offsets, anchors, score_limits=limits, **detection, **options
        )

    def suppress(boxes: Any, scores: Any, **options: Any) -> Any:
        return _native.batched_nms(
            boxes, scores, score_threshold=threshold, **detection, **options
        )

    def nms(boxes: Any, scores: Any, **options: Any) -> Any:
        limit = workloads.SINGLE_CLASS_IOU_THRESHOLD
        return _native.nms(boxes, scores, iou_threshold=limit, **options)

    functions: dict[str, Callable[..., Any]] = {
        "suppress": suppress,
        "detect": detect,
        "assign": _native.assign_targets,
        "encode": _native.encode_boxes,
        "decode": _native.decode_boxes,
        "mine": _native.mine_hard_negatives,
        "nms": nms,
        "loss": _native.multibox_loss,
        "iou": _native.box_iou,
    }
    return functions[workload.task]


class Timer:
    """Event times with a cold second-level cache."""

    def __init__(self) -> None:
        properties = torch.cuda.get_device_properties(0)
        size = 4 * properties.L2_cache_size
        self._flush = torch.empty(size, dtype=torch.int8, device="cuda")

    def __call__(self, function: Callable[[], Any]) -> tuple[float, float]:
        """Median and minimum, in microseconds."""
        for _ in range(3):
            function()
        times = []
        for _ in range(ROUNDS):
            self._flush.zero_()
            begin = torch.cuda.Event(enable_timing=True)
            end = torch.cuda.Event(enable_timing=True)
            begin.record()
            function()
            end.record()
            end.synchronize()
            times.append(begin.elapsed_time(end) * 1e3)
        return statistics.median(times), min(times)


def copy_bandwidth() -> float:
    """Bytes per second, read and written, of a copy far beyond every cache."""
    source = torch.empty(1 << 30, dtype=torch.int8, device="cuda")
    target = torch.empty_like(source)
    times = []
    for _ in range(20):
        begin = torch.cuda.Event(enable_timing=True)
        end = torch.cuda.Event(enable_timing=True)
        begin.record()
        target.copy_(source)
        end.record()
        end.synchronize()
        times.append(begin.elapsed_time(end) * 1e-3)
    return 2 * source.numel() / statistics.median(times)


def operation_rate() -> float:
    """Float32 instructions per second that are no multiply-adds."""
    properties = torch.cuda.get_device_properties(0)
    clock = torch.cuda.clock_rate() * 1e6 if hasattr(torch.cuda, "clock_rate") else 0
    lanes = 128
    return float(properties.multi_processor_count * lanes * max(clock, 1.4e9))


def verify(workload: Workload, results: Any, name: str) -> None:
    """Compare results of the GPU with those of the CPU kernel.

    Raises:
        AssertionError: if an integer differs, or a float by more than rounding.
    """
    expected = call_of(workload)(*workload.inputs)
    several = isinstance(expected, tuple)
    for index, (actual, wanted) in enumerate(
        zip(
            results if several else (results,),
            expected if several else (expected,),
            strict=True,
        )
    ):
        host = actual.numpy()
        label = f"{workload.name}, {name}, result {index}"
        if np.issubdtype(wanted.dtype, np.floating):
            np.testing.assert_allclose(
                host, wanted, rtol=1e-5, atol=1e-7, err_msg=label
            )
        else:
            np.testing.assert_array_equal(host, wanted, err_msg=label)


def measure(name: str, timer: Timer, bandwidth: float, rate: float) -> dict[str, Any]:
    """One row of the table."""
    workload = workloads.suite()[name]
    tensors = tuple(torch.from_numpy(array).cuda() for array in workload.inputs)
    function = call_of(workload)
    results = function(*tensors)
    torch.cuda.synchronize()
    verify(workload, results, "ssdops")
    # The outputs are those of the first call: only the workspace is allocated anew.
    median, lowest = timer(lambda: function(*tensors, out=results))
    floor = 1e6 * max(workload.bytes_moved / bandwidth, workload.operations / rate)
    row: dict[str, Any] = {
        "workload": name,
        "description": workload.description,
        "microseconds": median,
        "lowest_microseconds": lowest,
        "floor_microseconds": floor,
        "ratio_to_floor": median / floor,
    }
    peer = PEERS.get(workload.task)
    if peer is not None:
        peer_name, call = peer
        median_of_peer, _ = timer(lambda: call(*tensors))
        row["peer"] = peer_name
        row["peer_microseconds"] = median_of_peer
        row["times_faster"] = median_of_peer / median
    return row


def table_of(rows: list[dict[str, Any]]) -> Table:
    """The rows for people."""
    table = Table(
        "workload", "µs", "lowest", "floor", "x floor", "peer", "µs", "faster"
    )
    for row in rows:
        table.add_row(
            row["workload"],
            f"{row['microseconds']:.1f}",
            f"{row['lowest_microseconds']:.1f}",
            f"{row['floor_microseconds']:.1f}",
            f"{row['ratio_to_floor']:.1f}",
            row.get("peer", ""),
            f"{row['peer_microseconds']:.0f}" if "peer" in row else "",
            f"{row['times_faster']:.1f}" if "peer" in row else "",
        )
    return table


def main() -> None:
    """Measure and write results.json and results.md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("cuda-results"))
    parser.add_argument("--workload", action="append", choices=NAMES)
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    console = Console(width=120)
    device = torch.cuda.get_device_name(0)
    bandwidth, rate = copy_bandwidth(), operation_rate()
    console.print(f"{device}: copy {bandwidth / 1e12:.2f} TB/s (read and written)")
    timer = Timer()
    rows = []
    for name in arguments.workload or NAMES:
        rows.append(measure(name, timer, bandwidth, rate))
        console.print(f"{name}: {rows[-1]['microseconds']:.1f} µs")
    console.print(table_of(rows))
    facts = {"device": device, "copy_bandwidth": bandwidth, "torch": torch.__version__}
    (arguments.output / "results.json").write_text(
        json.dumps({**facts, "rows": rows}, indent=2) + "\n", encoding="utf-8"
    )
    with (arguments.output / "results.md").open("w", encoding="utf-8") as file:
        Console(file=file, width=120).print(device, table_of(rows))


if __name__ == "__main__":
    main()
