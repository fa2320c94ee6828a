# SPDX-License-Identifier: Apache-2.0
"""The plain TensorFlow reference of `ssdops`, called eagerly."""

from __future__ import annotations

from ssdops.benchmarking.implementations.with_ssdops import start, tasks

__all__ = ["TASKS", "start"]

TASKS = tasks("reference")
