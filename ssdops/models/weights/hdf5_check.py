# SPDX-License-Identifier: Apache-2.0
"""HDF5 files are first read in a process of their own.

The library that reads them can crash on damaged ones, and with it the program, whatever
it was about to do.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Final

from ssdops.models.weights.hdf5_visitor import REFUSED

__all__ = ["check_hdf5"]

_VISITOR: Final = Path(__file__).with_name("hdf5_visitor.py")
_SECONDS: Final = 60
_BYTES_PER_SECOND: Final = 20_000_000


def check_hdf5(data: bytes | memoryview) -> None:
    """Reads all of a file elsewhere, to see whether that can be done here.

    Data in other files, and claims of more than the file can hold, are refused.

    It takes a quarter of a second and the time to read the file. Where Python cannot be
    started, as in programs that have it inside, nothing is checked.

    Args:
        data: What the file holds.

    Raises:
        ValueError: If the library crashes, hangs or cannot read it, or it is refused.
    """
    command = [sys.executable, "-I", str(_VISITOR), json.dumps(sys.path)]
    seconds = _SECONDS + len(data) / _BYTES_PER_SECOND
    try:
        done = subprocess.run(
            command, input=data, capture_output=True, timeout=seconds, check=False
        )
    except subprocess.TimeoutExpired:
        raise ValueError(f"HDF5 could not read it in {seconds:.0f} seconds") from None
    except OSError:
        return
    if done.returncode < 0:
        name = signal.Signals(-done.returncode).name
        raise ValueError(f"HDF5 crashes on it ({name})")
    answer = done.stdout.decode("utf-8", "replace")
    if answer.startswith(REFUSED):
        raise ValueError(answer.removeprefix(REFUSED))
