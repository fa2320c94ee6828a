# SPDX-License-Identifier: Apache-2.0
"""Public names are typed and documented."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from types import ModuleType

import pytest

import ssdops

pytest.importorskip("tensorflow")


def public_modules() -> list[str]:
    """Modules without an underscore in their path."""
    return [
        info.name
        for info in pkgutil.walk_packages(ssdops.__path__, "ssdops.")
        if not any(part.startswith("_") for part in info.name.split("."))
    ]


def public_objects(module: ModuleType) -> dict[str, object]:
    """Functions and classes that are defined in a module and public."""
    return {
        name: value
        for name, value in vars(module).items()
        if not name.startswith("_")
        and (inspect.isclass(value) or inspect.isfunction(value))
        and value.__module__ == module.__name__
    }


def test_every_public_name_can_be_imported() -> None:
    for name in ssdops.__all__:
        assert getattr(ssdops, name) is not None
    assert set(ssdops.__all__) == {
        "__version__",
        *ssdops._HOME,
        *ssdops._SUBMODULES,
    }


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no_such_op"):
        ssdops.no_such_op  # noqa: B018


@pytest.mark.parametrize("name", public_modules())
def test_module_is_documented_and_typed(name: str) -> None:
    module = importlib.import_module(name)
    assert module.__doc__, f"{name} has no docstring"
    for key, value in public_objects(module).items():
        assert inspect.getdoc(value), f"{name}.{key} has no docstring"
        if inspect.isfunction(value):
            signature = inspect.signature(value)
            untyped = [
                parameter.name
                for parameter in signature.parameters.values()
                if parameter.annotation is inspect.Parameter.empty
            ]
            assert not untyped, f"{name}.{key}: {untyped} have no type"
            assert signature.return_annotation is not inspect.Signature.empty


@pytest.mark.parametrize("name", ssdops.ops.__all__)
def test_op_docstring_is_a_contract(name: str) -> None:
    value = getattr(ssdops.ops, name)
    doc = inspect.getdoc(value) or ""
    if inspect.isclass(value):
        assert "Attributes:" in doc
        return
    for section in ("Args:", "Returns:", "Raises:", "ifferentiable"):
        assert section in doc, f"the docstring of {name} does not say {section}"
    for parameter in inspect.signature(value).parameters:
        assert f"{parameter}: " in doc, f"{name}: {parameter} is not documented"
