# SPDX-License-Identifier: Apache-2.0
"""Settings of runs in TOML: the recipes of the package, and files of your own."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Final

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

MAX_CONFIG_BYTES: Final = 2**20

_RECIPES: Final = "recipes"


def recipes() -> tuple[str, ...]:
    """Names of the recipes that come with the package."""
    folder = resources.files(__package__) / _RECIPES
    names = (Path(entry.name) for entry in folder.iterdir())
    return tuple(sorted(name.stem for name in names if name.suffix == ".toml"))


def read_recipe(name: str) -> dict[str, Any]:
    """The settings of a recipe, as `read_run_file` gives them.

    Raises:
        ValueError: if there is no such recipe.
    """
    if name not in recipes():
        raise ValueError(f"no recipe {name!r}; there are {', '.join(recipes())}")
    text = (resources.files(__package__) / _RECIPES / f"{name}.toml").read_text("utf-8")
    return tomllib.loads(text)


def read_run_file(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The settings in a TOML file, by section, unchecked.

    Raises:
        OSError: if it cannot be read.
        ValueError: if it is not TOML, or larger than 1 MiB.
    """
    file = Path(path)
    if file.stat().st_size > MAX_CONFIG_BYTES:
        raise ValueError(f"{file} is larger than any configuration")
    try:
        return tomllib.loads(file.read_text("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file} is not TOML: {error}") from None


def read_values(texts: Sequence[str]) -> dict[str, Any]:
    """Settings from texts such as `crop_trials=20`, their values in TOML.

    Raises:
        ValueError: if one is something else.
    """
    values: dict[str, Any] = {}
    for text in texts:
        try:
            given = tomllib.loads(text)
        except (ValueError, RecursionError) as error:
            raise ValueError(
                f"expected NAME=VALUE with a value in TOML, got {text!r}: {error}"
            ) from None
        values.update(given)
    return values


def merged(*settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings by section, where later ones replace earlier ones one by one."""
    result: dict[str, Any] = {}
    for given in settings:
        for section, values in given.items():
            if isinstance(values, Mapping) and isinstance(result.get(section), Mapping):
                result[section] = merged(result[section], values)
            else:
                result[section] = values
    return result
