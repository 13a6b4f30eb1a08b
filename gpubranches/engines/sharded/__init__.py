"""A catalog divided among engines: each scans a shard, a run of its segments, and the answers are merged exactly."""

from gpubranches.engines.sharded.backend import ShardedBackend
from gpubranches.engines.sharded.shards import LocalShard, Shard

__all__ = ["LocalShard", "Shard", "ShardedBackend"]
