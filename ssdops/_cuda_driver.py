# SPDX-License-Identifier: Apache-2.0
"""Whether the CUDA kernels can run on this machine (no TensorFlow needed)."""

from __future__ import annotations

import ctypes
import functools

from ssdops._build_facts import build_facts


@functools.cache
def cuda_problem() -> str | None:
    """Why the CUDA kernels cannot run here, or None.

    They hold the CUDA runtime that they were built with. It needs a driver of its major
    version or a later one, and says so only when the first kernel is started.
    """
    facts = build_facts()
    if facts.problem is not None:
        return facts.problem
    component = facts.components.get("cuda")
    if component is None or component.status != "built":
        why = component.reason if component is not None else "no record of it"
        return f"the CUDA kernels were not built ({why})"
    built_with = str(facts.details.get("cuda_version", ""))
    driver = _driver_version()
    if driver is None:
        return "there is no NVIDIA driver (libcuda.so.1)"
    major, minor = driver
    if not built_with.split(".", 1)[0].isdecimal():
        return f"the CUDA kernels are {built_with}"
    if major < int(built_with.split(".", 1)[0]):
        return (
            f"the NVIDIA driver supports CUDA {major}.{minor}, and the kernels were"
            f" built with CUDA {built_with}: update the driver, or build with an older"
            " nvcc"
        )
    return None


def _driver_version() -> tuple[int, int] | None:
    """The CUDA version that the driver supports, or None without a driver."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
        version = ctypes.c_int()
        if driver.cuDriverGetVersion(ctypes.byref(version)) != 0:
            return None
    except (OSError, AttributeError):
        return None
    return version.value // 1000, version.value % 1000 // 10
