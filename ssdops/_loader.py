# SPDX-License-Identifier: Apache-2.0
"""Loads the TensorFlow op library, or says why it cannot be used."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from types import ModuleType
from typing import Final

import tensorflow as tf

from ssdops._build_facts import (
    PACKAGE_FOLDER,
    REBUILD_COMMAND,
    build_facts,
    library_problem,
)
from ssdops._cuda_driver import cuda_problem

LIBRARY: Final = "_ssdops_tf.so"
XLA_LIBRARY: Final = "_ssdops_xla.so"
_LOAD_ERRORS: Final = (tf.errors.OpError, OSError, RuntimeError)

_FLOATS: Final = ("float16", "bfloat16", "float32", "float64")
# Op by op: the functions that the loaded library must offer, and the dtypes that
# its kernels take on each kind of device.
NATIVE_OPS: Final[dict[str, tuple[str, ...]]] = {
    "box_iou": ("ssdops_box_iou", "ssdops_box_iou_grad"),
    "match_anchors": ("ssdops_match_anchors",),
    "assign_targets": ("ssdops_assign_targets",),
    "encode_boxes": ("ssdops_encode_boxes", "ssdops_encode_boxes_grad"),
    "decode_boxes": ("ssdops_decode_boxes", "ssdops_decode_boxes_grad"),
    "mine_hard_negatives": ("ssdops_mine_hard_negatives",),
    "multibox_loss": ("ssdops_multibox_loss", "ssdops_multibox_loss_grad"),
    "batched_nms": ("ssdops_batched_nms",),
    "detect": ("ssdops_detect",),
    "nms": (
        "ssdops_nms",
        "ssdops_image_nms",
        "ssdops_image_nms_with_scores",
        "ssdops_combined_nms",
    ),
}
KERNEL_DTYPES: Final[dict[str, dict[str, tuple[str, ...]]]] = {
    op: {"CPU": _FLOATS, "GPU": _FLOATS} for op in NATIVE_OPS
}


class NativeUnavailableWarning(UserWarning):
    """The native ops were built but cannot be used; plain TensorFlow replaces them."""


class NativeUnavailableError(RuntimeError):
    """A native op was demanded and there is none; the message has every reason."""


@dataclass(frozen=True)
class NativeLibrary:
    """The loaded op library, or the reasons why there is none.

    Attributes:
        module: generated functions (`ssdops_box_iou`, ...), or None.
        reasons: sentences; empty when the library is loaded.
        xla_problem: why XLA cannot compile the ops on the CPU, or None.
    """

    module: ModuleType | None
    reasons: tuple[str, ...]
    xla_problem: str | None


@functools.cache
def load_libraries() -> NativeLibrary:
    """Load the op library and the one for XLA, once per process, without a warning.

    Both at once: a function or a saved model that was traced anywhere may be called in
    one that XLA compiles.
    """
    reasons = tuple(_reasons_not_to_load("tensorflow", LIBRARY))
    if reasons:
        return _no_library(*reasons)
    try:
        module = tf.load_op_library(str(PACKAGE_FOLDER / LIBRARY))
    except _LOAD_ERRORS as error:
        return _no_library(_cannot_be_loaded(LIBRARY, error))
    expected = [name for names in NATIVE_OPS.values() for name in names]
    missing = [name for name in expected if not hasattr(module, name)]
    if missing:
        # Loading a copy of a library that this process has already loaded gives an
        # empty module and no error.
        absent = ", ".join(missing)
        return _no_library(f"{LIBRARY} did not register {absent}")
    return NativeLibrary(module, (), _load_for_xla())


@functools.cache
def native_library() -> NativeLibrary:
    """The op library, loaded.

    A library that should work and does not is reported by one
    `NativeUnavailableWarning`; one that was switched off at build time is silent.
    """
    library = load_libraries()
    component = build_facts().components.get("tensorflow")
    if library.module is None and (component is None or component.status != "off"):
        warnings.warn(
            "ssdops runs on plain TensorFlow (same results, slower): "
            + "; ".join(library.reasons)
            + f". To rebuild, run `{REBUILD_COMMAND}` in the source folder;"
            " `ssdops doctor` tells more.",
            NativeUnavailableWarning,
            stacklevel=2,
        )
    return library


def not_supported_reasons(op: str, dtype: str, device: str = "CPU") -> tuple[str, ...]:
    """Every reason why `op` has no native kernel here; empty if it has one.

    Args:
        op: public name, such as `"box_iou"`.
        dtype: TensorFlow dtype name, such as `"float32"`.
        device: `"CPU"` or `"GPU"`.
    """
    reasons = list(native_library().reasons)
    if device == "GPU":
        problem = cuda_problem()
        if problem is not None:
            reasons.append(f"no GPU kernels: {problem}")
    dtypes = KERNEL_DTYPES[op][device]
    if dtype not in dtypes:
        offered = ", ".join(dtypes)
        reasons.append(f"{op} has {device} kernels for {offered}, not for {dtype}")
    return tuple(reasons)


def xla_problem() -> str | None:
    """Why XLA cannot compile the native ops on the CPU, or None.

    Without it a function with `jit_compile=True` takes the reference.
    """
    return native_library().xla_problem


def _no_library(*reasons: str) -> NativeLibrary:
    return NativeLibrary(None, reasons, "the native ops are not loaded")


def _load_for_xla() -> str | None:
    """Load the library for XLA; why that is not possible, or None."""
    for reason in _reasons_not_to_load("xla", XLA_LIBRARY):
        return reason
    try:
        tf.load_library(str(PACKAGE_FOLDER / XLA_LIBRARY))
    except _LOAD_ERRORS as error:
        return _cannot_be_loaded(XLA_LIBRARY, error)
    return None


def _cannot_be_loaded(library: str, error: Exception) -> str:
    first_line = str(error).strip().split("\n", 1)[0]
    return f"{library} cannot be loaded: {first_line}"


def _reasons_not_to_load(name: str, library: str) -> Iterable[str]:
    facts = build_facts()
    if facts.problem is not None:
        yield facts.problem
        return
    component = facts.components.get(name)
    if component is None or component.status != "built":
        why = component.reason if component is not None else "no record of it"
        what = {"tensorflow": "TensorFlow ops", "xla": "XLA calls"}[name]
        yield f"the {what} were not built ({why})"
        return
    problem = library_problem(library)
    if problem is not None:
        yield problem
    built_with = str(facts.details.get("tensorflow_version", "unknown"))
    if _minor(built_with) != _minor(tf.version.VERSION):
        # TensorFlow's C++ interface changes with every minor version; a library
        # of another one may crash instead of failing to load.
        yield (
            f"{library} was built for TensorFlow {built_with} and TensorFlow"
            f" {tf.version.VERSION} is running"
        )


def _minor(version: str) -> tuple[str, ...]:
    return tuple(version.split(".")[:2])
