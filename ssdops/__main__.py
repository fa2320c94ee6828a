# SPDX-License-Identifier: Apache-2.0
"""`python -m ssdops`: the command line."""

from __future__ import annotations

from ssdops.cli import main

if __name__ == "__main__":
    main()
