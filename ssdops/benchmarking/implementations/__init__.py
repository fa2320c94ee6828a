# SPDX-License-Identifier: Apache-2.0
"""Who takes part: `ssdops`, TensorFlow, NumPy, and peers that may be installed.

A module of this package has a function `start(threads)`, which imports the library
and fixes its threads, and a dictionary `TASKS` that maps keys of
`ssdops.benchmarking.workloads.TASKS` to functions from the inputs to the variants of
the task. No module imports its library before `start`.

Inputs are converted before the clock starts where a user could have them in the
peer's form from the beginning: order of the axes, dtype, tensors of the framework.
What the output of an SSD has to go through is timed: the transposition of scores, the
selection of candidates, the merging of classes.
"""

from __future__ import annotations

import importlib
import importlib.util
from dataclasses import dataclass
from types import ModuleType

from ssdops.benchmarking.workloads import Workload

__all__ = ["IMPLEMENTATIONS", "Implementation"]


@dataclass(frozen=True)
class Implementation:
    """One library that takes part.

    Attributes:
        name: as `ssdops bench --implementation` takes it.
        requires: modules that must be importable.
        peer: whether `ssdops` is compared with it.
        slow: whether it skips workloads that plain TensorFlow takes too long for.
        empty: whether it takes part where there is nothing to compute.
    """

    name: str
    requires: tuple[str, ...]
    peer: bool = True
    slow: bool = False
    empty: bool = False

    def takes_part(self, workload: Workload) -> bool:
        """Whether it is started for a workload."""
        if workload.group == "empty" and not self.empty:
            return False
        return workload.reference or not self.slow

    def missing(self) -> tuple[str, ...]:
        """Modules that are not installed here; imports none."""
        return tuple(name for name in self.requires if not _is_installed(name))

    def module(self) -> ModuleType:
        """The module of this package that drives the library."""
        stem = self.name.replace("-", "_")
        return importlib.import_module(f"{__name__}.with_{stem}")


IMPLEMENTATIONS = {
    entry.name: entry
    for entry in (
        Implementation("ssdops", ("tensorflow",), peer=False, empty=True),
        Implementation(
            "ssdops-reference", ("tensorflow",), peer=False, slow=True, empty=True
        ),
        Implementation("tensorflow", ("tensorflow",), empty=True),
        Implementation("numpy", ("numpy",)),
        Implementation("onnxruntime", ("onnxruntime", "onnx")),
        Implementation("openvino", ("openvino",)),
        Implementation("torch", ("torch",)),
        Implementation("torchvision", ("torch", "torchvision")),
        Implementation("ncnn", ("ncnn",)),
        Implementation("opencv", ("cv2",)),
        Implementation("dali", ("nvidia.dali",)),
        Implementation("lsnms", ("lsnms",)),
        Implementation("powerboxes", ("powerboxes",)),
    )
}
"""By name, in the order in which they are measured."""


def _is_installed(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:  # the package above it
        return False
