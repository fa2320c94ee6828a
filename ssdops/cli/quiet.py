# SPDX-License-Identifier: Apache-2.0
"""Starts TensorFlow without the lines that it writes before logging is set up."""

from __future__ import annotations

import os
import sys
import tempfile


def start_tensorflow() -> None:
    """Import TensorFlow and let it look for devices, silently unless that fails.

    Some of its start-up messages heed no log level and go to the file descriptor of
    standard error, below `sys.stderr`: the descriptor is set aside meanwhile.

    Raises:
        ImportError: if TensorFlow cannot be imported; its messages are shown then.
    """
    sys.stderr.flush()
    with tempfile.TemporaryFile() as messages:
        kept = os.dup(2)
        os.dup2(messages.fileno(), 2)
        try:
            import tensorflow as tf

            tf.config.list_physical_devices()
        except BaseException:
            os.dup2(kept, 2)
            messages.seek(0)
            os.write(2, messages.read())
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)
