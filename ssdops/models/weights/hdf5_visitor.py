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

__all__ = ["REFUSED", "check_dataset", "main"]

REFUSED: Final = "refused: "

# A dataset may claim any size and store nothing of it; gzip shrinks to a thousandth.
_CHECKED_BYTES: Final = 2**24
_MAX_EXPANSION: Final = 1100
_MAX_BYTES: Final = 4 * 2**30
_MAX_MEMORY: Final = 24 * 2**30


def check_dataset(name: str, dataset: Any) -> int:
    """Returns the bytes of a dataset of h5py, checked to be in the file.

    Raises:
        ValueError: If they are in another file, or more than the file can hold.
    """
    if dataset.is_virtual or dataset.external:
        raise ValueError(f"the numbers of {name} are in another file")
    size: int = math.prod(dataset.shape or ()) * dataset.dtype.itemsize
    held = dataset.id.get_storage_size()
    if size > _CHECKED_BYTES and size > _MAX_EXPANSION * held:
        raise ValueError(f"{name} claims {size} bytes, of which {held} are stored")
    return size


def _visit(file: Any, h5py: Any) -> None:
    """Reads everything in a file."""
    left = _MAX_BYTES

    def visit(name: str, thing: Any) -> None:
        nonlocal left
        for key in thing.attrs:
            thing.attrs[key]
        if isinstance(thing, h5py.Dataset):
            left -= check_dataset(name, thing)
            if left < 0:
                raise ValueError(f"it has more than {_MAX_BYTES} bytes")
            thing[()]
            return
        for key in thing:
            if isinstance(thing.get(key, getlink=True), h5py.ExternalLink):
                raise ValueError(f"{name}/{key} is in another file")

    visit("", file)
    file.visititems(visit)


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
    try:
        with h5py.File(io.BytesIO(sys.stdin.buffer.read()), "r") as file:
            _visit(file, h5py)
    # Damage shows in h5py as nearly every kind of error.
    except Exception as error:
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        sys.stdout.write(f"{REFUSED}{reason}")


if __name__ == "__main__":
    main()
