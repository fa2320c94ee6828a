# SPDX-License-Identifier: Apache-2.0
"""Slow, obvious NumPy versions of the ops: the truth that the tests compare with.

They loop over scalars and compute in the dtype of their inputs (float32 or float64),
one rounding per written operation.
"""
