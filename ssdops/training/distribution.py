# SPDX-License-Identifier: Apache-2.0
"""Several processes or GPUs that train one model together."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Final

import tensorflow as tf

STRATEGIES: Final = ("auto", "none", "mirrored", "multi_worker")

# What a collective operation ends with when a partner is gone.
LOST_WORKER_ERRORS: Final = (
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.InternalError,
    tf.errors.UnavailableError,
)


class WorkerLostError(RuntimeError):
    """Another process of the training has ended or cannot be reached."""


def make_strategy(name: str = "auto") -> tf.distribute.Strategy | None:
    """How the devices of this process and of others train together.

    Call it before TensorFlow computes anything.

    Args:
        name: `"mirrored"`, all GPUs of this machine; `"multi_worker"`, the processes
            that the environment variable `TF_CONFIG` names; `"none"`; or `"auto"`, the
            second if `TF_CONFIG` names several, else the first if there are several
            GPUs.

    Returns:
        The strategy, None for one device.

    Raises:
        ValueError: if the name is not known, or `TF_CONFIG` is no JSON or names no
            processes.
    """
    if name not in STRATEGIES:
        raise ValueError(
            f"strategy must be one of {', '.join(STRATEGIES)}, got {name!r}"
        )
    tasks = _tasks()
    if name == "multi_worker" and not tasks:
        raise ValueError(
            "strategy multi_worker needs TF_CONFIG with a cluster of workers"
        )
    if name == "multi_worker" or (name == "auto" and tasks > 1):
        return tf.distribute.MultiWorkerMirroredStrategy()
    gpus = len(tf.config.list_physical_devices("GPU"))
    if name == "mirrored" or (name == "auto" and gpus > 1):
        return tf.distribute.MirroredStrategy()
    return None


def _tasks() -> int:
    text = os.environ.get("TF_CONFIG", "")
    if not text:
        return 0
    try:
        cluster = dict(json.loads(text))["cluster"]
        return sum(len(cluster.get(kind, ())) for kind in ("chief", "worker"))
    except (AttributeError, KeyError, TypeError, ValueError):
        raise ValueError(
            'TF_CONFIG must be like {"cluster": {"worker": ["HOST:PORT", ...]},'
            f' "task": {{"type": "worker", "index": 0}}}}, got {text[:200]!r}'
        ) from None


def num_workers(strategy: tf.distribute.Strategy | None) -> int:
    """Processes that train together."""
    resolver = strategy and strategy.cluster_resolver
    tasks = resolver.cluster_spec().as_dict() if resolver else {}
    return max(1, sum(len(tasks.get(kind, ())) for kind in ("chief", "worker")))


def worker_index(strategy: tf.distribute.Strategy | None) -> int:
    """Number of this process, from 0."""
    resolver = strategy and strategy.cluster_resolver
    if not resolver or num_workers(strategy) == 1:
        return 0
    chiefs = len(resolver.cluster_spec().as_dict().get("chief", ()))
    return int(resolver.task_id) + (chiefs if resolver.task_type == "worker" else 0)


def make_agreement(strategy: tf.distribute.Strategy | None) -> Callable[[int], int]:
    """A function that gives the largest of the numbers that the workers give it.

    All of them must call it equally often.
    """
    if num_workers(strategy) == 1 or strategy is None:
        return lambda number: number

    @tf.function  # type: ignore[untyped-decorator]
    def total(flags: tf.Tensor) -> tf.Tensor:
        def of_replica(value: tf.Tensor) -> tf.Tensor:
            context = tf.distribute.get_replica_context()
            # An argument is on no device yet, which a reduction asks for.
            return context.all_reduce(tf.distribute.ReduceOp.SUM, tf.identity(value))

        return strategy.experimental_local_results(strategy.run(of_replica, (flags,)))[
            0
        ]

    def agree(number: int) -> int:
        # One flag per number, so that a sum is enough.
        flags = total(tf.one_hot(number, _NUMBERS))
        return int(tf.reduce_max(tf.where(flags > 0)))

    return agree


# More than there are signals.
_NUMBERS = 128
