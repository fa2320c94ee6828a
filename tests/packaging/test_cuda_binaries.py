# SPDX-License-Identifier: Apache-2.0
"""What the CUDA compiler made: skipped without CUDA or without cuobjdump."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from support.requirements import absent

# Every GPU from compute capability 7.5 up runs one of these, or the PTX of the last.
ARCHITECTURES = ("75", "80", "90", "100", "120")


def libraries() -> list[Path]:
    from ssdops._build_facts import PACKAGE_FOLDER, build_facts

    facts = build_facts()
    component = facts.components.get("cuda")
    if component is None or component.status != "built":
        why = component.reason if component is not None else "no record of it"
        absent(f"the CUDA kernels were not built ({why})", "SSDOPS_REQUIRE_CUDA")
    if facts.details.get("cuda_version") == "emulated":
        pytest.skip("the CUDA kernels are emulated")
    return [PACKAGE_FOLDER / name for name in facts.libraries]


def cuobjdump(option: str, library: Path) -> str:
    program = shutil.which("cuobjdump")
    if program is None:
        absent("cuobjdump is not on the path", "SSDOPS_REQUIRE_CUDA")
    command = [program, option, str(library)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def with_kernels() -> list[Path]:
    """The libraries that hold CUDA code."""
    found = [path for path in libraries() if "xla" not in path.name]
    assert found
    return found


def test_every_architecture_is_there() -> None:
    for library in with_kernels():
        machine = set(
            re.findall(r"\.sm_(\d+)\.cubin", cuobjdump("--list-elf", library))
        )
        assert machine >= set(ARCHITECTURES), library.name
        portable = set(re.findall(r"\.sm_(\d+)\.ptx", cuobjdump("--list-ptx", library)))
        assert ARCHITECTURES[-1] in portable, library.name


def test_little_is_kept_in_local_memory() -> None:
    """Registers suffice, but for a few bytes that the compiler trades for occupancy.

    An array that is not in registers, which would be read again and again, takes more.
    """
    for library in with_kernels():
        usage = cuobjdump("--dump-resource-usage", library)
        kernels = re.findall(r"Function (\S+):\s+.*?STACK:(\d+).*?LOCAL:(\d+)", usage)
        assert len(kernels) > 50, library.name
        spilled = [
            name for name, stack, local in kernels if int(stack) > 48 or int(local) > 0
        ]
        assert not spilled, f"{library.name}: {spilled[:5]} and others use local memory"


def test_the_cuda_runtime_is_inside() -> None:
    """Without CUDA on the machine the libraries must load: no symbol of it is open."""
    for library in libraries():
        symbols = subprocess.run(
            ["nm", "--dynamic", "--undefined-only", str(library)],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        assert not re.findall(r"\bU (cu[A-Z]\w+|cuda[A-Z]\w+)", symbols), library.name
        needed = subprocess.run(
            ["readelf", "--dynamic", str(library)],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        assert "libcudart" not in needed
        assert "libcuda.so" not in needed
