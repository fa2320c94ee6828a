# SPDX-License-Identifier: Apache-2.0
"""Names of `ssdops.training` come from where they say, on first use."""

from __future__ import annotations

import pytest
from support.programs import run_program

from ssdops import training


@pytest.mark.parametrize("name", training.__all__)
def test_every_name_is_there(name):
    assert getattr(training, name) is not None


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match=r"ssdops\.training.*no_such_name"):
        _ = training.no_such_name


def test_settings_do_without_tensorflow():
    run_program(
        "import sys; from ssdops.training import TrainingConfig, recipes;"
        "TrainingConfig(steps=200); recipes();"
        "assert 'tensorflow' not in sys.modules"
    )
