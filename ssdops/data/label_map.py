# SPDX-License-Identifier: Apache-2.0
"""Label maps of the TensorFlow Object Detection API: names of class ids (`.pbtxt`)."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final

_TOKEN: Final = re.compile(
    r"""(?P<space>[\s,;]+|\#[^\n]*)|(?P<brace>[{}])|(?P<colon>:)"""
    r"""|(?P<text>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')|(?P<word>[^\s{}:,;"'\#]+)"""
)


def read_label_map(file: str | os.PathLike[str]) -> dict[int, str]:
    """Class names by id, in the order of the ids.

    The file has blocks `item { id: 1 name: "cat" }`. The name of a class is its
    `display_name` if it has one; all else in a block is ignored.

    Raises:
        FileNotFoundError: if the file is not there.
        ValueError: if it is no label map, an item lacks its id (from 1) or name, or two
            items have the same.
    """
    path = Path(file)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    try:
        text = path.read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not a text file in UTF-8: {error}") from None
    names: dict[int, str] = {}
    for number, item in enumerate(_items(path, text), start=1):
        where = f"{path}: item {number}"
        label, name = item.get("id", ""), item.get("display_name") or item.get("name")
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


def _items(path: Path, text: str) -> list[dict[str, str]]:
    """Keys and values of each item, quotes removed; blocks inside are left out."""
    items: list[dict[str, str]] = []
    depth, key, previous, position = 0, "", "", 0
    while position < len(text):
        found = _TOKEN.match(text, position)
        if found is None:
            line = text.count("\n", 0, position) + 1
            raise ValueError(f"{path}: line {line}: not a label map")
        position, token = found.end(), found.group()
        if found.lastgroup == "space":
            continue
        if token == "{":
            depth += 1
            if depth == 1:
                items.append({})
        elif token == "}":
            depth -= 1
        elif token == ":":
            key = previous
        elif depth == 1 and key:
            items[-1][key] = _unquoted(token) if found.lastgroup == "text" else token
            key = ""
        previous = token
        if depth < 0:
            break
    if depth:
        raise ValueError(f"{path}: braces do not match")
    return items


def _unquoted(token: str) -> str:
    """The text of a quoted token, whose escapes stand for bytes of UTF-8."""

    def byte(found: re.Match[bytes]) -> bytes:
        code = found[1]
        if code[:1].isdigit():
            return bytes([int(code, 8) & 255])
        if code[:1] == b"x" and len(code) > 1:
            return bytes([int(code[1:], 16)])
        return {b"n": b"\n", b"t": b"\t", b"r": b"\r"}.get(code, code)

    raw = re.sub(rb"\\([0-7]{1,3}|x[0-9a-fA-F]{1,2}|.)", byte, token[1:-1].encode())
    return raw.decode("utf-8", errors="replace")
