# SPDX-License-Identifier: Apache-2.0
"""Fixes the thread count of a measurement."""

from __future__ import annotations

import importlib.util
import os

import pytest
from support.installation import installation_problem

THREADS_VARIABLE = "SSDOPS_BENCHMARK_THREADS"

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

collect_ignore_glob = []
if importlib.util.find_spec("tensorflow") is None:
    collect_ignore_glob.append("bench_*.py")


def pytest_configure(config: pytest.Config) -> None:
    """Stop if the wrong package would be measured."""
    problem = installation_problem()
    if problem is not None:
        raise pytest.UsageError(problem)


@pytest.fixture(autouse=True, scope="session")
def threads(request: pytest.FixtureRequest) -> None:
    """Give TensorFlow `$SSDOPS_BENCHMARK_THREADS` threads (1), if times are taken."""
    option = request.config.getoption
    if option("benchmark_disable", False) and not option("benchmark_enable", False):
        return
    import tensorflow as tf  # noqa: PLC0415 - not needed to collect anything

    count = int(os.environ.get(THREADS_VARIABLE, "1"))
    try:
        tf.config.threading.set_intra_op_parallelism_threads(count)
        tf.config.threading.set_inter_op_parallelism_threads(1)
    except RuntimeError as error:
        pytest.exit(f"run the benchmarks alone (`pytest benchmarks`): {error}", 4)
