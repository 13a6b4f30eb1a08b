"""A Ray cluster of two nodes in this machine, without dashboard and with small object stores."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_STORE_BYTES = 80 << 20


@contextmanager
def two_nodes() -> Iterator[Any]:
    """Start two nodes of one CPU each; yield the cluster of ray.cluster_utils."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 1, "object_store_memory": _STORE_BYTES}
    started = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
    try:
        started.add_node(**node)
        yield started
    finally:
        session = started.head_node.get_session_dir_path()
        started.shutdown()
        shutil.rmtree(session, ignore_errors=True)
