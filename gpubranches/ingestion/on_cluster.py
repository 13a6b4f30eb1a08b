"""Ingest on a Ray cluster: each task makes one shard by `build_catalog`, from the files that all nodes share."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from gpubranches.catalog import disk_errors
from gpubranches.core import stores
from gpubranches.core.files import make_folder, parse_json, read_regular, replace_file, require_text
from gpubranches.errors import CatalogFormatError, CatalogNotFoundError, GpuBranchesError, ShardError, UsageError
from gpubranches.ingestion.build import IngestReport, build_catalog
from gpubranches.ingestion.compatibility import require_rows
from gpubranches.ingestion.inputs import scan
from gpubranches.ingestion.options import DIMS, IngestOptions
from gpubranches.ingestion.protocol import Progress

_WHAT = "ingest --cluster"
_RETRIES = 10
"""How often a task is restarted after its process or node has died."""
_POLL_S = 0.5
_REPORT_S = 0.2
_RUN = "run.json"
FITTED = "fitted"
"""The folder of the catalog whose codec all shards use; it is beside those of the shards."""

_Call = tuple[list[str], str, dict[str, Any]]
"""The inputs, the folder and the options of a task."""


def shard_folder(out: Path, number: int, of: int) -> Path:
    """Return the folder of a shard; numbers begin at 1."""
    return out / f"shard-{number}-of-{of}"


def ingest_on_cluster(
    inputs: Sequence[str | Path],
    out: str | Path,
    address: str,
    options: IngestOptions | None = None,
    *,
    shards: int | None = None,
    gpus: int | str | None = None,
    progress: Progress | None = None,
    **named: Any,
) -> IngestReport:
    """Make all shards of an input on a Ray cluster, in the folder `out`; the same call resumes a stopped run.

    The folder then holds what `build_catalog` with `fit_only`, and then with `codec_from` and `shard`, makes: `FITTED`
    and a folder for each shard, which `merge` joins. All nodes need the inputs and `out` under the same paths. address:
    HOST:PORT of a cluster with this machine as a node. shards: their number; by default that of the run that is
    resumed, else one for each node, or card. gpus: number of cards to use, or "all"; each task has one card, or a node.
    A task whose process dies is restarted and resumes its shard. Raises ShardError if the cluster does not answer, runs
    another version, or a node lacks the files, else the errors of `build_catalog`; finished work is kept.
    """
    from gpubranches.engines.sharded.ray_cluster import Cluster, connected, import_ray, room

    began = time.perf_counter()
    options, folder = IngestOptions.chosen(options, named), Path(os.path.abspath(out))
    require_text(folder)
    cluster, paths = Cluster(address, gpus), [_place(path) for path in inputs]
    rows, has_codes = _scanned(paths, options, shards, progress)
    ray = import_ray(_WHAT)
    with connected(ray, cluster.address, _WHAT) as disconnect:
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU")]
        count, resources = room(nodes, cluster)
        of = _begun(folder, paths, options, shards, min(count, rows))
        tasks = _Tasks(ray, resources, progress or (lambda stage, done, total: None))
        if not has_codes and options.codec_from is None:
            options = _fitted(tasks, paths, folder / FITTED, options)
        parts = {f"{number}/{of}": shard_folder(folder, number, of) for number in range(1, of + 1)}
        reports = tasks.run(
            {f"shard {shard}": _call(paths, part, replace(options, shard=shard)) for shard, part in parts.items()}
        )
        disconnect()
    for part in parts.values():
        if not (part / "manifest.json").exists():
            raise ShardError(
                f"{_WHAT}: expected {part} here, too, its node wrote it elsewhere; choose a folder that all nodes share"
            )
    return _joined(reports, time.perf_counter() - began)


def _scanned(
    paths: list[str], options: IngestOptions, shards: int | None, progress: Progress | None
) -> tuple[int, bool]:
    """Return how many rows the inputs have, and whether these are codes. Raises UsageError for wrong options."""
    if options.shard is not None or options.fit_only or not isinstance(options.embedder, str | None):
        raise UsageError(f"{_WHAT}: expected no --shard, no --fit-only, and an embedder by its spec; leave them out")
    scanned = scan(paths, options, progress)
    require_rows(scanned)
    rows = sum(piece.rows for each in scanned for piece in each.pieces)
    if shards is not None and not 1 <= shards <= rows:
        raise UsageError(f"{_WHAT}: expected 1 to {rows:,} shards, as many as rows at most, got {shards:,}")
    return rows, any(each.source is not None and each.source.kind == "codes" for each in scanned)


def _begun(folder: Path, paths: list[str], options: IngestOptions, shards: int | None, usual: int) -> int:
    """Record a new run, or check that the one in the folder is the same; return the number of shards."""
    if (folder / "manifest.json").exists():
        raise UsageError(f"{folder}: there is a catalog already; choose another folder for the shards")
    asked = {"inputs": paths, "options": _plain(options)}
    if not any(folder.glob("*/manifest.json")):
        with disk_errors(folder):
            make_folder(folder)
            replace_file(folder / _RUN, json.dumps({**asked, "shards": shards or usual}, indent=1).encode())
        return shards or usual
    try:
        found = parse_json(read_regular(folder / _RUN))
        of = int(found["shards"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CatalogFormatError(
            f"{folder / _RUN}: expected the record of a run on a cluster: {error}; choose another folder"
        ) from error
    other = [name for name, value in {**asked, "shards": shards or of}.items() if found.get(name) != value]
    if other:
        raise UsageError(
            f"{folder}: expected the {' and '.join(other)} of the run that is there; choose another folder"
        )
    return of


def _fitted(tasks: _Tasks, paths: list[str], fitted: Path, options: IngestOptions) -> IngestOptions:
    """Fit the codec in a folder, unless an earlier run did; return the options of shards that take it from there."""
    if not (fitted / "manifest.json").exists():
        tasks.run({"the head": _call(paths, fitted, replace(options, fit_only=True))})
    return replace(options, codec_from=fitted, head=None, d=DIMS, quantizer=None, keep_embeddings=True)


def _place(path: str | Path) -> str:
    """Return an address of a store as it is, and another path as an absolute one, since tasks run elsewhere."""
    path = stores.without_file_scheme(path)
    return str(path) if stores.is_url(path) else os.path.abspath(path)


def _plain(options: IngestOptions) -> dict[str, Any]:
    """Return the options as JSON, with absolute paths."""
    plain = asdict(options)
    for name in ("pictures", "codec_from"):
        plain[name] = None if plain[name] is None else _place(plain[name])
    if plain["head"] is not None and os.path.exists(plain["head"]):
        plain["head"] = os.path.abspath(plain["head"])
    return plain


def _call(paths: list[str], folder: Path, options: IngestOptions) -> _Call:
    return paths, str(folder), _plain(options)


def _joined(reports: Sequence[IngestReport], seconds: float) -> IngestReport:
    return IngestReport(
        sum(each.n for each in reports),
        sum(each.errors for each in reports),
        seconds,
        sum(each.added for each in reports),
        tuple(dict.fromkeys(note for each in reports for note in each.notes)),
        sum(each.decoded_per_s for each in reports),
        sum(each.embedded_per_s for each in reports),
    )


class _Tasks:
    """Runs tasks of `_make`, and shows their progress as that of one."""

    def __init__(self, ray: Any, resources: dict[str, float], progress: Progress):
        self._ray, self._progress = ray, progress
        self._board = ray.remote(num_cpus=0, max_restarts=-1)(_Board).remote()
        self._make = ray.remote(max_retries=_RETRIES, scheduling_strategy="SPREAD", **resources)(_make)

    def run(self, calls: dict[str, _Call]) -> list[IngestReport]:
        """Return the reports of all calls by their order. The first error is raised after all others have ended."""
        tasks = [self._make.remote(name, *call, self._board) for name, call in calls.items()]
        pending = tasks
        try:
            while pending:
                _, pending = self._ray.wait(pending, num_returns=len(pending), timeout=_POLL_S)
                with suppress(self._ray.exceptions.RayError):  # if a board dies, later reports bring the counts again
                    for stage, (done, total) in self._ray.get(self._board.totals.remote()).items():
                        self._progress(stage, done, total)
        except BaseException:
            for task in pending:
                self._ray.cancel(task, force=True)
            raise
        return [self._result(name, task) for name, task in zip(calls, tasks, strict=True)]

    def _result(self, name: str, task: Any) -> IngestReport:
        from gpubranches.engines.sharded.ray_cluster import last_line

        try:
            report: IngestReport = self._ray.get(task)
        except self._ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, GpuBranchesError):
                raise error.cause from None
            raise ShardError(
                f"{name}: expected the node to make it, got {last_line(error.cause or error)}; install the same "
                "version of gpubranches on all nodes"
            ) from error
        except self._ray.exceptions.RayError as error:
            raise ShardError(
                f"{name}: its process died {_RETRIES + 1} times: {last_line(error)}; the same command resumes it"
            ) from error
        return report


class _Board:
    """The progress of all tasks, an actor."""

    def __init__(self) -> None:
        self._done: dict[str, dict[str, tuple[int, int]]] = {}

    def note(self, task: str, stage: str, done: int, total: int) -> None:
        """Record the progress of a task."""
        self._done.setdefault(stage, {})[task] = (done, total)

    def totals(self) -> dict[str, tuple[int, int]]:
        """Return the sums over all tasks, (done, total), by stage."""
        return {
            stage: (sum(done for done, _ in tasks.values()), sum(total for _, total in tasks.values()))
            for stage, tasks in self._done.items()
        }


def _make(name: str, inputs: list[str], folder: str, options: dict[str, Any], board: Any) -> IngestReport:
    """Make or resume the catalog of a task, in a process of a node."""
    import ray

    told = dict[str, float]()

    def tell(stage: str, done: int, total: int) -> None:
        if done == total or time.monotonic() > told.get(stage, 0.0) + _REPORT_S:
            told[stage] = time.monotonic()
            board.note.remote(name, stage, done, total)

    try:
        return build_catalog(inputs, folder, IngestOptions(**options), progress=tell)
    except CatalogNotFoundError as error:
        raise ShardError(
            f"{name} on {ray.util.get_node_ip_address()}: expected the files under the same path as on the first "
            f"node: {error}"
        ) from error
