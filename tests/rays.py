"""A Ray cluster of two nodes in this machine, and actors that stay over many tests and catalogs."""

from contextlib import contextmanager
from unittest import mock

from benchmarks.harness.ray_nodes import two_nodes
from gpubranches.engines.sharded import ShardedBackend, ray_cluster, ray_shards

_shards = []
real_room = ray_cluster.room


def little_room(nodes, wanted):
    """Return the shards that a test wants, small enough that those of several tests fit into the nodes."""
    return real_room(nodes, wanted) if wanted.gpus else (wanted.shards or 2, {"num_cpus": 0.1, "num_gpus": 0})


@contextmanager
def cluster():
    """Start two nodes of one CPU each; yield the cluster of ray.cluster_utils."""
    with two_nodes() as started, mock.patch.object(ray_shards, "room", little_room):
        yield started


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
