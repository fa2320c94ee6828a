# SPDX-License-Identifier: Apache-2.0
"""Label maps: names of class ids.

Those of the TensorFlow Object Detection API (`.pbtxt`) and of Caffe (`.prototxt`).
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from ssdops.protobuf_text import read_text


def read_label_map(file: str | os.PathLike[str]) -> dict[int, str]:
    """Class names by id, in the order of the ids.

    The file has blocks `item { id: 1 name: "cat" }`, in Caffe `label` instead of `id`,
    and there one with label 0 for the background, which is left out. The name of a
    class is its `display_name` if it has one; all else in a block is ignored.

    Raises:
        FileNotFoundError: if the file is not there.
        ValueError: if it is no label map, an item lacks its id (from 1) or name, or two
            items have the same.
    """
    path = Path(file)
    items = read_text(path).messages("item")
    names: dict[int, str] = {}
    for number, item in enumerate(items, start=1):
        where = f"{path}: item {number}"
        label, name = item.text("id"), item.text("display_name") or item.text("name")
        if "id" not in item:
            label = item.text("label")
            if re.fullmatch(r"0+", label):
                continue
        if not re.fullmatch(r"0*[1-9][0-9]{0,8}", label):
            raise ValueError(f"{where}: id must be an integer from 1, got {label!r}")
        if not name:
            raise ValueError(f"{where}: there is no name")
        if int(label) in names or name in names.values():
            raise ValueError(f"{where}: id {int(label)} or name {name!r} occurs twice")
        names[int(label)] = name
    if not names:
        raise ValueError(f"{path}: there are no items in it")
    return dict(sorted(names.items()))
