# SPDX-License-Identifier: Apache-2.0
"""Programs that need a process of their own."""

from __future__ import annotations

import subprocess
import sys
import tempfile

SECONDS = 300


def run_program(code: str, *arguments: str) -> str:
    """What the program prints; fails with what it says if it fails.

    It runs outside the repository, where `import ssdops` finds what is installed and
    not the source folder.
    """
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    return done.stdout
