# SPDX-License-Identifier: Apache-2.0
"""What is installed, what was built, and which implementation each op uses."""

from __future__ import annotations

import importlib
import platform
import sys
import warnings
from dataclasses import asdict, dataclass, field
from typing import Any

from ssdops import __version__
from ssdops._build_facts import PACKAGE_FOLDER, REBUILD_COMMAND, build_facts


@dataclass(frozen=True)
class OpReport:
    """Implementation of one op on one device for one dtype.

    Attributes:
        op: public name.
        device: `"CPU"` or `"GPU"`.
        dtype: TensorFlow dtype name.
        implementation: `"native"` or `"reference"`: what `"auto"` takes.
        reasons: why it is not native; empty if it is.
    """

    op: str
    device: str
    dtype: str
    implementation: str
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class Report:
    """Everything that `ssdops doctor` tells.

    Attributes:
        versions: by name: of ssdops, Python, TensorFlow and so on.
        environment: package folder, platform, number of GPUs, requested
            implementation.
        build: build facts, or the problem with them.
        native: whether the native TensorFlow ops are active.
        numpy_binding: whether `ssdops._native` can be imported.
        problems: sentences; empty if all that was built works.
        ops: one row per op, device and dtype.
        xla: what functions with `jit_compile=True` use, and why.
        rebuild: the command that builds the native ops again.
    """

    versions: dict[str, str]
    environment: dict[str, Any]
    build: dict[str, Any]
    native: bool
    numpy_binding: bool
    problems: tuple[str, ...]
    ops: tuple[OpReport, ...]
    xla: str
    rebuild: str = field(default=REBUILD_COMMAND)

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON-ready dictionaries and lists."""
        return asdict(self)


def diagnose() -> Report:
    """Inspect this installation; never raises for a broken native half."""
    import keras  # noqa: PLC0415
    import numpy as np  # noqa: PLC0415
    import tensorflow as tf  # noqa: PLC0415

    from ssdops._implementation import requested_implementation  # noqa: PLC0415
    from ssdops._loader import (  # noqa: PLC0415
        KERNEL_DTYPES,
        native_library,
        not_supported_reasons,
        xla_problem,
    )
    from ssdops.ops._validate import FLOAT_DTYPES  # noqa: PLC0415

    with warnings.catch_warnings():
        # The report carries the reasons; the loader's warning would repeat them.
        warnings.simplefilter("ignore")
        library = native_library()

    problems = list(library.reasons)
    binding_problem = _numpy_binding_problem()
    facts = build_facts()
    numpy_component = facts.components.get("numpy")
    if binding_problem and numpy_component and numpy_component.status == "built":
        problems.append(binding_problem)

    rows = []
    for op, devices in KERNEL_DTYPES.items():
        for device in devices:
            for dtype in FLOAT_DTYPES:
                reasons = not_supported_reasons(op, dtype.name, device)
                choice = "reference" if reasons else "native"
                rows.append(OpReport(op, device, dtype.name, choice, reasons))

    if facts.problem is not None:
        build: dict[str, Any] = {"problem": facts.problem}
    else:
        build = {
            "components": {
                name: asdict(component) for name, component in facts.components.items()
            },
            "libraries": facts.libraries,
            **facts.details,
        }
    return Report(
        versions={
            "ssdops": __version__,
            "python": platform.python_version(),
            "tensorflow": tf.version.VERSION,
            "keras": keras.__version__,
            "numpy": np.__version__,
        },
        environment={
            "package": str(PACKAGE_FOLDER),
            "executable": sys.executable,
            "platform": platform.platform(),
            "gpus": len(tf.config.list_physical_devices("GPU")),
            "implementation": requested_implementation(),
        },
        build=build,
        native=library.module is not None,
        numpy_binding=binding_problem is None,
        problems=tuple(problems),
        ops=tuple(rows),
        xla=_xla_report(xla_problem()),
    )


def _xla_report(problem: str | None) -> str:
    if problem is not None:
        return f"reference ({problem})"
    return "native on the CPU, reference on a GPU"


def _numpy_binding_problem() -> str | None:
    from ssdops._build_facts import library_problem  # noqa: PLC0415

    # Checked before the import for the same reason as the op library.
    built = [name for name in build_facts().libraries if name.startswith("_native.")]
    if not built:
        return "ssdops._native was not built"
    problem = library_problem(built[0])
    if problem is not None:
        return problem
    try:
        importlib.import_module("ssdops._native")
    except ImportError as error:
        return f"ssdops._native cannot be imported: {error}"
    return None
