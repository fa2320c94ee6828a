# SPDX-License-Identifier: Apache-2.0
"""Helpers shared by the tests; the kernel tests use those that need no TensorFlow."""
