"""A Ray cluster of two nodes in this machine, and actors that stay over many tests and catalogs."""

import os
import shutil
from contextlib import contextmanager
from unittest import mock

from gpubranches.engines.sharded import ShardedBackend, ray_cluster, ray_shards

STORE_BYTES = 80 << 20
_shards = []
real_room = ray_cluster.room


def little_room(nodes, wanted):
    """Return the shards that a test wants, small enough that those of several tests fit into the nodes."""
    return real_room(nodes, wanted) if wanted.gpus else (wanted.shards or 2, {"num_cpus": 0.1, "num_gpus": 0})


@contextmanager
def cluster():
    """Start two nodes of one CPU each; yield the cluster of ray.cluster_utils."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 1, "object_store_memory": STORE_BYTES}
    started = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
    try:
        started.add_node(**node)
        with mock.patch.object(ray_shards, "room", little_room):
            yield started
    finally:
        session = started.head_node.get_session_dir_path()
        started.shutdown()
        shutil.rmtree(session, ignore_errors=True)


@contextmanager
def actors(catalog, address):
    """Start two shards that `over_actors` uses for any catalog."""
    with ray_shards.open_ray(catalog, ray_cluster.Cluster(address, shards=2)) as backend:
        _shards[:] = [_Kept(shard) for shard in backend.shards]
        yield
        _shards.clear()


class _Kept:
    """A shard that `close` does not end."""

    def __init__(self, shard):
        self._shard = shard

    def __getattr__(self, name):
        return getattr(self._shard, name)

    def close(self):
        pass


def over_actors(catalog):
    """Return a backend over the actors."""
    return ShardedBackend(catalog, _shards, name="ray")
