"""Shards as actors of a Ray cluster: each scans some segments on its node, from the catalog's files there."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from gpubranches.catalog import Catalog
from gpubranches.engines.scan import RowFilter, ScanBackend
from gpubranches.engines.sharded.backend import ShardedBackend
from gpubranches.engines.sharded.ray_cluster import Cluster, connected, import_ray, last_line, room
from gpubranches.engines.sharded.shard_catalog import ShardState
from gpubranches.engines.sharded.shards import Engine, ShardEngine, UnknownState
from gpubranches.errors import CatalogFormatError, CatalogNotFoundError, GpuBranchesError, ShardError

_WHAT = "backend ray"
_PLACE_S = 60.0
"""How long the cluster may take to start the actors."""
_ANSWER_S = 120.0
"""How long a request waits for a shard, including restarts of the shard."""
_PAUSE_S = 0.1
"""The first pause before a request to a restarting shard is repeated; it doubles up to a second."""
_THREADS = 8
"""Number of requests that an actor processes at a time."""
_log = logging.getLogger(__name__)


def open_ray(catalog: Catalog, cluster: Cluster, *, nn: str = "auto", engine: str | None = None) -> ShardedBackend:
    """Open a backend over shards of a catalog, each an actor of a Ray cluster that has loaded its segments.

    Every node needs the catalog's folder under the same path. engine: of the shards, by default gpu if the cluster
    provides cards, else cpu. Raises ShardError if the cluster does not answer, has no room for the shards, runs another
    version, or if a node lacks the files; BackendUnavailableError without Ray; DeviceError like the engine.
    """
    ray = import_ray(_WHAT)
    with connected(ray, cluster.address, _WHAT) as disconnect:
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        count, resources = room(nodes, cluster)
        count = max(1, min(count, len(catalog.snapshot.filled)))
        kind = engine or ("cpu" if cluster.gpus is None else "gpu")
        threads = max(1, int(resources["num_cpus"]))
        starts = [_start(ray, resources, kind, threads) for _ in range(count)]
        shards = [RayShard(ray, f"shard {number + 1}/{count}", actor) for number, actor in enumerate(starts)]
        backend = _RayBackend(catalog, shards, nn=nn, disconnect=disconnect)
        try:
            _require_started(ray, shards, resources)
            backend.load()
        except BaseException:
            backend.close()
            raise
        return backend


class _RayBackend(ShardedBackend):
    def __init__(self, catalog: Catalog, shards: list[RayShard], *, nn: str, disconnect: Callable[[], None]):
        super().__init__(catalog, shards, name="ray", nn=nn)
        self._disconnect = disconnect

    def close(self) -> None:
        """End the actors, and the cluster if it was started for this backend."""
        super().close()
        self._disconnect()


class RayShard:
    """A shard in an actor. If the actor dies, Ray restarts it, and it loads its segments at the next request."""

    def __init__(self, ray: Any, name: str, actor: Any):
        self._ray, self._actor = ray, actor
        self._name, self._node = name, ""
        self._lock = threading.Lock()
        self._process = 0
        self.restarts = 0

    @property
    def place(self) -> str:
        """The name of the shard and the address of its node."""
        return f"{self._name} on {self._node}" if self._node else self._name

    def started(self) -> Any:
        """Return a reference to the place of the actor; see `note`."""
        return self._actor.place.remote()

    def note(self, node: str, process: int) -> None:
        """Record the place of the actor; a process other than before means a restart."""
        with self._lock:
            self.restarts += self._process not in (0, process)
            self._node, self._process = node, process

    def ask(self, state: ShardState, scan: str, rows: RowFilter, arguments: tuple[Any, ...]) -> Any:
        """Return the answer; see Shard. While the actor is down the request is repeated, for two minutes at most."""
        until, pause = time.monotonic() + _ANSWER_S, _PAUSE_S
        errors = self._ray.exceptions
        while True:
            try:
                try:
                    return self._get(self._actor.answer.remote(state.key, scan, rows, arguments), until)
                except UnknownState:
                    self._load(state, until)
            except (
                errors.RayActorError,
                errors.NodeDiedError,
                errors.ObjectLostError,
                errors.WorkerCrashedError,
            ) as error:
                if time.monotonic() + pause > until:
                    raise ShardError(
                        f"{self.place}: expected an answer, but the shard died: {last_line(error)}; try again"
                    ) from error
                _log.warning("%s: is started again: %s", self.place, last_line(error))
                time.sleep(pause)
                pause = min(2 * pause, 1.0)

    def close(self) -> None:
        """End the actor."""
        with suppress(Exception):  # it may have died, or Ray may be gone
            self._ray.kill(self._actor, no_restart=True)

    def _load(self, state: ShardState, until: float) -> None:
        self.note(*self._get(self.started(), until))
        try:
            self._get(self._actor.load.remote(state), until)
        except (CatalogFormatError, CatalogNotFoundError) as error:
            raise ShardError(
                f"{self.place}: expected the files of {state.path} under the same path as here: {error}"
            ) from error

    def _get(self, reference: Any, until: float) -> Any:
        """Return the value of a reference. If the actor raised an error of this package, raises the same error."""
        errors = self._ray.exceptions
        try:
            return self._ray.get(reference, timeout=max(0.0, until - time.monotonic()))
        except errors.GetTimeoutError as error:
            raise ShardError(f"{self.place}: expected an answer in {_ANSWER_S:.0f} s, got none; try again") from error
        except errors.RayTaskError as error:
            cause = error.cause
            if isinstance(cause, GpuBranchesError | UnknownState):
                raise cause from None
            raise ShardError(f"{self.place}: expected an answer, got {last_line(cause or error)}") from error


class _ShardActor:
    """The code of an actor: an engine over the segments of a shard."""

    def __init__(self, kind: str, threads: int):
        self._shard = ShardEngine(lambda catalog: _engine(kind, catalog, threads))

    def place(self) -> tuple[str, int]:
        """Return the address of the node and the number of the process."""
        import ray

        return ray.util.get_node_ip_address(), os.getpid()

    def load(self, state: ShardState) -> None:
        """Open the segments of a state."""
        self._shard.load(state)

    def answer(self, key: str, scan: str, rows: RowFilter, arguments: tuple[Any, ...]) -> Any:
        """Return the result of a scan."""
        return self._shard.answer(key, scan, rows, arguments)


def _engine(kind: str, catalog: Catalog, threads: int) -> Engine:
    from gpubranches.engines import open_backend

    if kind == "cpu":
        from gpubranches.engines.cpu.backend import CpuBackend

        return CpuBackend(catalog, threads=threads)
    opened = open_backend(kind, catalog)
    assert isinstance(opened, ScanBackend)  # nosec B101  # every engine of this package is one
    return opened


def _start(ray: Any, resources: dict[str, float], kind: str, threads: int) -> Any:
    options = {"max_restarts": -1, "max_concurrency": _THREADS, "scheduling_strategy": "SPREAD", **resources}
    return ray.remote(**options)(_ShardActor).remote(kind, threads)


def _require_started(ray: Any, shards: list[RayShard], resources: dict[str, float]) -> None:
    """Wait until all actors run. Raises ShardError if the cluster has no room for them, or cannot start them."""
    references = [shard.started() for shard in shards]
    done, waiting = ray.wait(references, num_returns=len(references), timeout=_PLACE_S)
    if waiting:
        free = {name: ray.available_resources().get(name, 0) for name in ("CPU", "GPU")}
        raise ShardError(
            f"backend ray: expected room for {len(shards)} shards of {resources['num_cpus']:g} CPUs and "
            f"{resources['num_gpus']:g} cards each, {len(done)} have started and {free['CPU']:g} CPUs and "
            f"{free['GPU']:g} cards are free; use fewer shards, or end other programs there"
        )
    for shard, reference in zip(shards, references, strict=True):
        try:
            shard.note(*ray.get(reference))
        except Exception as error:
            raise ShardError(
                f"{shard.place}: expected it to start: {last_line(error)}; install the same gpubranches on all nodes"
            ) from error
