"""The connection to a Ray cluster, and the number of shards that it can run."""

from __future__ import annotations

import logging
import os
import re
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from gpubranches.errors import ShardError, UsageError, missing_package

_LEAST_RAY = (2, 30)
_CONNECT_S = 5.0
"""How long an address may take to accept a connection."""


@dataclass(frozen=True)
class Cluster:
    """The cluster for the shards. address: HOST:PORT of a Ray cluster with this machine as a node, or None.

    None: a cluster on this machine alone. gpus: the number of cards, one per shard, or "all"; None: shards use CPUs.
    shards: their number on CPUs; None: one per node. Raises UsageError for other values.
    """

    address: str | None = None
    gpus: int | str | None = None
    shards: int | None = None

    def __post_init__(self) -> None:
        if self.gpus not in (None, "all") and not (isinstance(self.gpus, int) and self.gpus > 0):
            raise UsageError(f"gpus: expected a number of cards or all, got {self.gpus!r}")
        if self.shards is not None and (self.gpus is not None or self.shards < 1):
            raise UsageError("shards: expected a number from 1, and no gpus, each of which is a shard of its own")
        if self.address is not None and not re.fullmatch(r"[\w.:\[\]-]+:[0-9]{1,5}", self.address):
            raise UsageError(f"cluster: expected HOST:PORT as `ray start --head` prints it, got {self.address!r:.80}")


def import_ray(what: str) -> Any:
    """Import Ray. Raises BackendUnavailableError if it is missing, ShardError if it is too old.

    what: the feature that needs it, for messages, here and in `connected`.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray would report its use over the network
    try:
        import ray
    except ImportError as error:
        raise missing_package(what, "ray", "cluster", error=error) from error
    found = tuple(int(part) for part in re.findall(r"\d+", ray.__version__)[:2])
    if found < _LEAST_RAY:
        least = ".".join(map(str, _LEAST_RAY))
        raise ShardError(f"{what}: expected Ray {least} or newer, got {ray.__version__}; upgrade it on all nodes")
    return ray


@contextmanager
def connected(ray: Any, address: str | None, what: str) -> Iterator[Callable[[], None]]:
    """Connect to a cluster, or start a local one; yields a function that ends the connection; it is called on an error.

    An existing connection of this process is used, and left open. Raises ShardError if the cluster does not answer or
    runs another version.
    """
    if ray.is_initialized():
        yield lambda: None
        return
    if address is not None:
        _require_answer(address)
    options = {"address": address} if address is not None else {"include_dashboard": False}
    try:
        ray.init(**options, logging_level=logging.ERROR, log_to_driver=False)
    except Exception as error:
        where = "a cluster in this machine" if address is None else f"the cluster at {address}"
        reason = " ".join(str(error).split())
        raise ShardError(
            f"{what}: expected to join {where}: {reason:.400}; run on a node of it, with the same versions of "
            "Ray and Python on all nodes"
        ) from error
    try:
        yield ray.shutdown
    except BaseException:
        ray.shutdown()
        raise


def _require_answer(address: str) -> None:
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_S):
            pass
    except (OSError, OverflowError) as error:
        raise ShardError(
            f"cluster: expected a Ray cluster at {address}, none answers: {error}; start one by `ray start --head`"
        ) from error


def room(nodes: list[dict[str, float]], cluster: Cluster) -> tuple[int, dict[str, float]]:
    """Return the number of shards for a cluster, and the resources of each. nodes: the resources of each node."""
    if cluster.gpus is not None:
        there = int(sum(node.get("GPU", 0) for node in nodes))
        count = there if cluster.gpus == "all" else int(cluster.gpus)
        if not 0 < count <= there:
            raise ShardError(f"gpus: expected a cluster with {max(count, 1)} cards or more, got {there}")
        return count, {"num_cpus": 1, "num_gpus": 1}
    least = int(min((node.get("CPU", 0) for node in nodes), default=0))
    count = cluster.shards or len(nodes)
    return count, {"num_cpus": max(1, least // -(-count // max(1, len(nodes)))), "num_gpus": 0}


def last_line(error: BaseException) -> str:
    """Return the last non-empty line of an error's message."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
