# SPDX-License-Identifier: Apache-2.0
"""A program that reads all of the HDF5 file on its standard input.

It imports nothing of this package, so that it starts in no time.
"""

from __future__ import annotations

import io
import json
import math
import resource
import sys
from typing import Any, Final

__all__ = ["REFUSED", "main"]

REFUSED: Final = "refused: "

# A dataset may claim more than its file could ever hold.
_MAX_BYTES: Final = 4 * 2**30
_MAX_MEMORY: Final = 24 * 2**30


def main() -> None:
    """Says so if something cannot be read."""
    sys.path[:] = json.loads(sys.argv[1])
    try:
        import h5py  # noqa: PLC0415
    except ImportError:
        return  # its lack is reported where it is needed
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    if most == resource.RLIM_INFINITY or most > _MAX_MEMORY:
        resource.setrlimit(resource.RLIMIT_AS, (_MAX_MEMORY, most))
    left = _MAX_BYTES

    def visit(name: str, thing: Any) -> None:
        nonlocal left
        for key in thing.attrs:
            thing.attrs[key]
        if not isinstance(thing, h5py.Dataset) or thing.shape is None:
            return
        if thing.is_virtual or thing.external:
            return  # refused later
        left -= math.prod(thing.shape) * thing.dtype.itemsize
        if left >= 0:
            thing[()]

    try:
        with h5py.File(io.BytesIO(sys.stdin.buffer.read()), "r") as file:
            visit("", file)
            file.visititems(visit)
    # Damage shows in h5py as nearly every kind of error.
    except Exception as error:
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        sys.stdout.write(f"{REFUSED}{reason}")


if __name__ == "__main__":
    main()
