# SPDX-License-Identifier: Apache-2.0
"""Backbones: one module each, with the specification and the network of a detector."""
