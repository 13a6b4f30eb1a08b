"""A catalog divided among engines: each scans a shard, some of its segments; the answers are merged exactly."""

from gpubranches.engines.sharded.backend import ShardedBackend
from gpubranches.engines.sharded.shards import LocalShard, Shard

__all__ = ["LocalShard", "Shard", "ShardedBackend"]
