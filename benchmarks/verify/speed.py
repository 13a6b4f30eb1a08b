"""The second call of gpu_verify measures speed. Each step yields findings: goals met or not, engines compared."""

from __future__ import annotations

import argparse
import importlib.util
import shutil
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np

from benchmarks.verify.correctness import card as facts_of_the_card
from benchmarks.verify.record import path_of, read
from gpubranches.catalog import TILE
from gpubranches.catalog.segment import Rows, Segment, write_segment
from gpubranches.research.speed import own_engines
from gpubranches.research.speed.questions import ask
from gpubranches.research.speed.synthetic import SyntheticCatalog, codes_of, write_stand_in
from gpubranches.research.speed.timing import once, timed

Finding = dict[str, Any]

ROWS = 262_600_000
MOST_ROWS = 3_800_000_000
GOALS_MS = {
    "top 100 over codes": 3.0,
    "single branch": 2.2,
    "ensemble": 5.0,
    "linear over codes": 3.0,
    "linear over bits": 6.0,
    "ensembles of 64 users at once": 250.0,
}
"""Goals in ms over ROWS rows, medians of warm runs; linear: the 10,000 best."""
REFINE, REFINE_MS = "refine: marks to ranked page", 150.0
BUS_FACTOR = 1.5
CAPACITY_MS = 35.0
_BYTES_A_ROW = 104.6
"""Bytes a row of codes, zones, ids, bits and scales."""
_BYTES_A_CODE = 37.0
_RESERVED = 6 << 30


def card(options: argparse.Namespace) -> Iterator[Finding]:
    """Yield the properties of the card, and its copy speeds within its memory and over the bus."""
    yield from facts_of_the_card(options)
    if options.quick:
        own_engines._COPIED = 1 << 20
    yield {"copy_gb_s": own_engines._copy_speed("gpu") / 1e9}
    yield {"bus_gb_s": _bus_bytes_s(1 << 20 if options.quick else 1 << 28) / 1e9}


def goals(options: argparse.Namespace) -> Iterator[Finding]:
    """Time the queries of GOALS_MS over a synthetic catalog on the card."""
    rows = 1 << 14 if options.quick else min(ROWS, int(_free_bytes() / _BYTES_A_ROW))
    catalog = SyntheticCatalog(rows, clusters=8 if options.quick else 4096, **_small(options))
    yield from _timed(options, catalog, GOALS_MS, users=2 if options.quick else 64)


def refine(options: argparse.Namespace) -> Iterator[Finding]:
    """Time a whole refine, its embeddings read from a file that stands in for those of the catalog."""
    with tempfile.TemporaryDirectory() as folder:
        stand_in = Path(folder) / "stand-in.f16"
        clusters, D = (8, 128) if options.quick else (4096, 512)
        start = time.perf_counter()
        write_stand_in(stand_in, 1 << 20 if options.quick else 10**10, D, clusters)
        yield {"wrote": "stand-in", "bytes": stand_in.stat().st_size, "seconds": round(time.perf_counter() - start, 1)}
        rows = 1 << 14 if options.quick else min(ROWS, int(_free_bytes() / _BYTES_A_ROW))
        catalog = SyntheticCatalog(rows, D=D, clusters=clusters, stand_in=stand_in)
        wanted = {REFINE: REFINE_MS, "scans of refine: boxes, bits, embeddings": REFINE_MS}
        found = list(_timed(options, catalog, wanted, users=1))
        yield from found
        if not any(one.get("goal") == REFINE for one in found):
            yield {"skipped": "a whole refine needs numba, scipy and threadpoolctl"}


def capacity(options: argparse.Namespace) -> Iterator[Finding]:
    """Time a single branch over as many codes as the card holds."""
    from gpubranches.engines.gpu import GpuBackend
    from gpubranches.engines.gpu.cupy_device import CupyDevice
    from gpubranches.research.speed.synthetic import SyntheticResidence

    rows = 1 << 14 if options.quick else min(MOST_ROWS, int(_free_bytes() / _BYTES_A_CODE))
    catalog = SyntheticCatalog(rows, clusters=8 if options.quick else 4096, **_small(options))
    asked = ask(catalog, users=1, drawn=True)

    def codes_alone(device: Any, of: Any) -> Any:
        return SyntheticResidence(device, of, tiers=("codes",))

    with GpuBackend(cast(Any, catalog), CupyDevice, make_residence=codes_alone) as backend:
        times = timed(lambda: backend.apply(asked.branch, limit=10_000), budget_s=1.0)
    dims = len(np.unique(asked.branch.features))
    yield _goal(options, "single branch, codes alone", catalog.n, times, catalog.n * dims, CAPACITY_MS)


def _timed(
    options: argparse.Namespace, catalog: SyntheticCatalog, wanted: dict[str, float], users: int
) -> Iterator[Finding]:
    if options.quick:
        own_engines._COPIED = 1 << 20
    asked = ask(catalog, users=users, drawn=True)
    yield {"models": asked.models, "boxes": len(asked.ensembles[0]), "rows": catalog.n}
    with (
        tempfile.TemporaryDirectory() as folder,
        own_engines.backend_engine("gpu", catalog, asked, Path(folder)) as engine,
    ):
        for question in engine.questions:
            if question.what in wanted:
                times = timed(question.work, budget_s=0.0 if options.quick else 1.5)
                # The data that a refine reads depend on its results; it always reads the codes.
                size = question.bytes_read or catalog.n * catalog.d
                yield _goal(options, question.what, catalog.n, times, size, wanted[question.what])


def _goal(options: argparse.Namespace, what: str, rows: int, times: Any, size: int, goal_ms: float) -> Finding:
    """Return a goal with the measured times; of_copy: the rate of the needed bytes over the copy rate of this run."""
    lines = read(path_of(options.out, options.call))
    copy = next((line["copy_gb_s"] for line in lines if "copy_gb_s" in line), None)
    speed = size / times.p50_ms / 1e6 if size else None
    return {
        "goal": what,
        "rows": rows,
        "goal_ms": goal_ms,
        "met": times.p50_ms <= goal_ms,
        **{name: getattr(times, name) for name in ("p50_ms", "p95_ms", "cold_ms", "repeats")},
        "bytes_read": size,
        "gb_s": speed,
        "of_copy": speed / copy if copy and speed is not None else None,
    }


def upload(options: argparse.Namespace) -> Iterator[Finding]:
    """Upload the files of a catalog from the page cache; the goal is BUS_FACTOR times the time of the bus alone."""
    from gpubranches.engines.gpu.cupy_device import CupyDevice
    from gpubranches.engines.gpu.resident_copy import Residence

    with tempfile.TemporaryDirectory() as folder:
        catalog = stored_codes(Path(folder), 5000 if options.quick else 1 << 20, 1 if options.quick else 250)
        size = sum(segment.codes.nbytes + segment.zones.nbytes for segment in catalog.segments)
        lines = read(path_of(options.out, options.call))
        bus = next((line["bus_gb_s"] for line in lines if "bus_gb_s" in line), None) or _bus_bytes_s(1 << 20) / 1e9

        def upload_once(verify: bool) -> None:
            device = CupyDevice()
            residence = Residence(device, catalog, verify=verify)
            device.synchronize()
            residence.close()
            device.close()

        for verify in (False, True):
            taken = [once(partial(upload_once, verify)) for _ in range(2)]
            times = SimpleNamespace(p50_ms=min(taken), p95_ms=max(taken), cold_ms=taken[0], repeats=len(taken))
            what = "upload, checksums compared" if verify else "upload"
            goal = _goal(options, what, catalog.n, times, size, BUS_FACTOR * size / bus / 1e6)
            yield {**goal, "of_copy": size / times.p50_ms / 1e6 / bus, "share_of": "bus"}


def stored_codes(folder: Path, rows: int, segments: int) -> Any:
    """Write equal segments of codes, and return a stand-in for their catalog that a Residence can read."""
    ids = np.arange(rows)
    files = write_segment(folder / "0", Rows(codes_of(ids, 32, 4096, 1 << 24), ids), None)
    own = []
    for i in range(segments):
        if i:
            shutil.copytree(folder / "0", folder / str(i))
        own.append(Segment(folder / str(i), i * -(-rows // TILE) * TILE, rows, 32, 0, 0, 0, rows - 1, files))
    about = {"n": rows * segments, "d": 32, "D": 0, "n_bits": 0, "stores_embeddings": False, "generation": 1}
    return SimpleNamespace(segments=own, deleted=None, **about)


def plot(options: argparse.Namespace) -> Iterator[Finding]:
    """Plot the measured times beside the goals, and the engines, in one picture."""
    if importlib.util.find_spec("matplotlib") is None:
        yield {"skipped": "plots need matplotlib"}
        return
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    lines = read(path_of(options.out, options.call))
    reached = [line for line in lines if "goal" in line]
    engines = [line for line in lines if "engine" in line and line["filter"] == "none"]
    figure = Figure(figsize=(11, 9), layout="constrained")
    FigureCanvasAgg(figure)
    top, bottom = figure.subplots(2, 1)
    places = np.arange(len(reached))
    top.barh(places - 0.2, [line["goal_ms"] for line in reached], 0.4, label="wanted")
    top.barh(places + 0.2, [line["p50_ms"] for line in reached], 0.4, label="measured, median")
    top.set(xscale="log", xlabel="ms", yticks=places, yticklabels=[line["goal"] for line in reached])
    top.legend()
    for key in dict.fromkeys((line["engine"], line["k"], line["rows"]) for line in engines):
        own = sorted(
            (line["batch"], line["p50_ms"]) for line in engines if (line["engine"], line["k"], line["rows"]) == key
        )
        bottom.plot(*zip(*own, strict=True), marker="o", label=f"{key[0]}, k {key[1]}, {key[2]:,} rows")
    bottom.set(xscale="log", yscale="log", xlabel="queries at once", ylabel="ms, median")
    if engines:
        bottom.legend(fontsize="small")
    figure.savefig(options.out / "gpu-speed.png", dpi=120)
    yield {"wrote": "gpu-speed.png"}


def _small(options: argparse.Namespace) -> dict[str, Any]:
    return {"D": 128} if options.quick else {}


def _free_bytes() -> int:
    """Return the free bytes on the card without the working memory."""
    from gpubranches.engines.gpu.cupy_device import CupyDevice

    device = CupyDevice()
    free = device.memory()[0] - _RESERVED
    device.close()
    return free


def _bus_bytes_s(size: int) -> float:
    """Return the bytes per second of a copy from pinned memory to the card."""
    import cupy

    pinned = cupy.cuda.alloc_pinned_memory(size)
    target = cupy.empty(size, cupy.uint8)

    def copy() -> None:
        target.data.copy_from_host(pinned.ptr, size)
        cupy.cuda.Device(0).synchronize()

    return 1e3 * size / float(np.median([once(copy) for _ in range(10)]))
