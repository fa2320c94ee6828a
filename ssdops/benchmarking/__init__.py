# SPDX-License-Identifier: Apache-2.0
"""The benchmark suite behind `ssdops bench`: inputs, contestants, times and reports.

Workloads are made from seeds (`workloads`), every contestant lives in a process of
its own (`worker`, `implementations`), its result is checked against NumPy before it
is timed (`results`), and rounds of all contestants take turns (`session`).
"""
