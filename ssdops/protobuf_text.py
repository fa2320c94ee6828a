# SPDX-License-Identifier: Apache-2.0
"""Reading of protocol buffers written as text: `.prototxt` and `.pbtxt` files.

Nothing is known of the message types: names and values are kept as they are written,
and the reader of a message asks for what it expects.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

__all__ = ["Message", "parse_text", "read_text"]

MAX_BYTES: Final = 4 * 2**20
MAX_DEPTH: Final = 64
MAX_TOKENS: Final = 1_000_000

_TOKEN: Final = re.compile(
    r"""(?P<space>[\s,;]+|\#[^\n]*)|(?P<brace>[{}<>\[\]])|(?P<colon>:)"""
    r"""|(?P<text>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')"""
    r"""|(?P<word>[^\s{}<>\[\]:,;"'\#]+)"""
)
_CLOSING: Final = {"{": "}", "<": ">"}
_FLAGS: Final = {"true": True, "True": True, "t": True, "1": True}
_FLAGS_OFF: Final = {"false": False, "False": False, "f": False, "0": False}


class Message:
    """Fields of a message, each with the values it was given, in order.

    Attributes:
        line: Where the message begins in the file, from 1.
    """

    def __init__(self, line: int) -> None:
        """Makes a message without fields."""
        self.line = line
        self._fields: dict[str, list[str | Message]] = {}

    def add(self, name: str, value: str | Message) -> None:
        """Appends a value to a field."""
        self._fields.setdefault(name, []).append(value)

    def __contains__(self, name: str) -> bool:
        """Whether a field has a value."""
        return name in self._fields

    def names(self) -> tuple[str, ...]:
        """Returns the names of the fields."""
        return tuple(self._fields)

    def messages(self, name: str) -> list[Message]:
        """Returns the messages of a field.

        Raises:
            ValueError: If a value is none.
        """
        values = self._fields.get(name, [])
        found = [value for value in values if isinstance(value, Message)]
        if len(found) < len(values):
            raise ValueError(f"line {self.line}: {name} must be a message {{ ... }}")
        return found

    def message(self, name: str) -> Message:
        """Returns the last message of a field, an empty one if there is none."""
        return (self.messages(name) or [Message(self.line)])[-1]

    def texts(self, name: str) -> list[str]:
        """Returns the values of a field as texts.

        Raises:
            ValueError: If one is a message.
        """
        values = self._fields.get(name, [])
        found = [value for value in values if isinstance(value, str)]
        if len(found) < len(values):
            raise ValueError(f"line {self.line}: {name} must be a value, not a message")
        return found

    def text(self, name: str, default: str = "") -> str:
        """Returns the last value of a field."""
        return (self.texts(name) or [default])[-1]

    def numbers(self, name: str) -> list[float]:
        """Returns the values of a field as finite numbers.

        Raises:
            ValueError: If one is none.
        """
        return [self._number(name, text) for text in self.texts(name)]

    def number(self, name: str, default: float) -> float:
        """Returns the last value of a field as a finite number."""
        return (self.numbers(name) or [default])[-1]

    def integers(self, name: str) -> list[int]:
        """Returns the values of a field as integers.

        Raises:
            ValueError: If one is none, or is beyond 2^53.
        """
        found = []
        for number in self.numbers(name):
            if not number.is_integer() or abs(number) > 2**53:
                raise ValueError(
                    f"line {self.line}: {name} must be an integer, got {number:g}"
                )
            found.append(int(number))
        return found

    def integer(self, name: str, default: int) -> int:
        """Returns the last value of a field as an integer."""
        return (self.integers(name) or [default])[-1]

    def flag(self, name: str, default: bool) -> bool:
        """Returns the last value of a field as true or false.

        Raises:
            ValueError: If it is neither.
        """
        text = self.text(name, str(default))
        known = {**_FLAGS, **_FLAGS_OFF}
        if text not in known:
            raise ValueError(
                f"line {self.line}: {name} must be true or false, got {text[:40]!r}"
            )
        return known[text]

    def _number(self, name: str, text: str) -> float:
        plain = re.sub(r"(?<=[0-9.])[fF]$", "", text)
        try:
            hexadecimal = re.fullmatch(r"[+-]?0[xX][0-9a-fA-F]{1,16}", text)
            value = float(int(text, 16)) if hexadecimal else float(plain)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise ValueError(
                f"line {self.line}: {name} must be a finite number, got {text[:40]!r}"
            )
        return value


def read_text(path: str | os.PathLike[str]) -> Message:
    """Returns the message in a file.

    Raises:
        FileNotFoundError: If the file is not there.
        ValueError: If it is larger than 4 MiB, no UTF-8 text, or damaged; the message
            names file and line.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    if path.stat().st_size > MAX_BYTES:
        raise ValueError(f"{path}: larger than {MAX_BYTES} bytes")
    try:
        return parse_text(path.read_text("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not a text file in UTF-8: {error}") from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def parse_text(text: str) -> Message:
    """Returns the message that a text stands for.

    Raises:
        ValueError: If it is damaged, nested deeper than 64 levels or has more than a
            million words and signs; the message tells the line.
    """
    top = Message(1)
    # Messages that are open, each with what closes it.
    stack: list[tuple[Message, str]] = [(top, "")]
    name = ""  # of a field whose value is to come
    after_colon = in_list = False
    for number, (kind, token, line) in enumerate(_tokens(text)):
        if number >= MAX_TOKENS:
            raise ValueError(f"line {line}: more than {MAX_TOKENS} words and signs")
        message, closing = stack[-1]
        if kind == "colon":
            if not name or after_colon:
                raise ValueError(f"line {line}: there is no name before ':'")
            after_colon = True
        elif token in _CLOSING and kind == "brace":
            if not name:
                raise ValueError(f"line {line}: there is no name before {token!r}")
            if len(stack) > MAX_DEPTH:
                raise ValueError(f"line {line}: nested deeper than {MAX_DEPTH} levels")
            # They would need the list to be kept on the stack; nobody writes them.
            if in_list:
                raise ValueError(f"line {line}: lists of messages are not known")
            opened = Message(line)
            message.add(name, opened)
            stack.append((opened, _CLOSING[token]))
            name, after_colon = "", False
        elif token == "[" and kind == "brace":
            if not after_colon or in_list:
                raise ValueError(f"line {line}: a list must follow a name and ':'")
            in_list = True
        elif token == "]" and kind == "brace":
            if not in_list:
                raise ValueError(f"line {line}: there is no list to close")
            name, after_colon, in_list = "", False, False
        elif kind == "brace":
            if name or len(stack) == 1 or token != closing:
                raise ValueError(f"line {line}: braces do not match")
            stack.pop()
        elif after_colon:
            message.add(name, _unquoted(token) if kind == "text" else token)
            if not in_list:
                name, after_colon = "", False
        elif name or kind == "text":
            raise ValueError(
                f"line {line}: expected a name and ':', got {token[:40]!r}"
            )
        else:
            name = token
    if len(stack) > 1 or name:
        raise ValueError("it ends in the middle; braces do not match")
    return top


def _tokens(text: str) -> Iterator[tuple[str, str, int]]:
    """Yields kind, text and line of every token."""
    position, line = 0, 1
    while position < len(text):
        found = _TOKEN.match(text, position)
        if found is None:
            raise ValueError(f"line {line}: expected text, got {text[position]!r}")
        position, token = found.end(), found.group()
        if found.lastgroup != "space":
            yield str(found.lastgroup), token, line
        line += token.count("\n")


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
