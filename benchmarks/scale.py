"""Derive what catalogs of 10^6 to 10^10 items take, from slopes measured at several sizes, and simulate many shards.

    python -m benchmarks.scale --sizes 1000000,2000000,4000000,8000000 --out benchmarks/results/scale.md

Catalogs of codes (32 bytes) and sign bits of 512 dims are made in --folder, or used again. At each size the program
measures bytes on disk, bytes on a card by its memory plan, and the time of four queries on one thread. A line through
the sizes gives each term: a constant and a slope per item; "off" is the largest deviation of a measured point from it.

Queries over shards use a backend over shards in this process, which counts the bytes of the arrays and texts of queries
and answers; the overhead of a transport is not counted. The latency of scatter and gather is simulated: each shard
takes a time drawn from those measured, scaled by the line to its rows and divided by its threads, as if the threads
shared the work evenly. With the probability --straggling it takes --slowdown times as long. The answer waits for the
slowest shard, and for merging, which is measured at each number of shards.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, is_dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.harness.machine import machine_facts
from benchmarks.harness.options import finite, out_file, out_folder, whole
from benchmarks.harness.publishing import command_line, document, publish
from benchmarks.harness.speed_table import made_catalog, work_folder
from benchmarks.harness.synthetic_catalogs import Clusters, write_catalog
from gpubranches import Box, Boxes, Catalog
from gpubranches.core.tie_order import best_first
from gpubranches.engines.cpu.backend import CpuBackend
from gpubranches.engines.gpu.memory import WORKING_BYTES, MemoryPlan
from gpubranches.engines.sharded import LocalShard, ShardedBackend
from gpubranches.research.tables import Section

_D = 512
_K = 100
_SHORTLIST = 1000
_DRAWS = 200_000
_TIMED = 30
_TARGETS = tuple(10**power for power in range(6, 11))
_SHARDS = (8, 64, 512)
Question = Callable[[Any], Any]


@dataclass(frozen=True)
class Line:
    """A line through points: constant + slope x items; off: the largest relative deviation of a point from it."""

    constant: float
    slope: float
    off: float

    @classmethod
    def through(cls, sizes: Sequence[int], values: Sequence[float]) -> Line:
        """Fit by least squares of relative errors. Raises ValueError for fewer than three sizes."""
        if len(set(sizes)) < 3:
            raise ValueError(f"sizes: expected three different ones or more, got {sorted(set(sizes))}")
        x, y = np.array(sizes, float), np.array(values, float)
        (constant, slope), *_ = np.linalg.lstsq(np.stack([1 / y, x / y], axis=1), np.ones(len(y)), rcond=None)
        off = float(np.abs((constant + slope * x) / y - 1).max())
        return cls(float(constant), float(slope), off)

    def at(self, n: float) -> float:
        """Return the value at n items."""
        return max(0.0, self.constant + self.slope * n)


def questions(catalog: Catalog) -> dict[str, Question]:
    """Return four queries that read different data, each a function of a backend."""
    rng = np.random.default_rng(1)
    codes = catalog.codes(catalog.sample_ids(40, rng))
    weights = rng.standard_normal(_D).astype(np.float32)
    members = []
    for code in codes:
        features = rng.choice(catalog.d, 4, replace=False).astype(np.int16)
        low = np.clip(code[features].astype(int) - 30, 0, 255).astype(np.uint8)
        members.append(Box(features, low, np.clip(code[features].astype(int) + 30, 0, 255).astype(np.uint8)))
    boxes = Boxes(members, np.arange(len(members)) % 10, 10)
    return {
        "40 boxes by 10 votes, best 1,000": lambda backend: backend.apply(boxes, limit=_SHORTLIST),
        "100 nearest codes, exact": lambda backend: backend.search(codes[:1], _K, tier="codes"),
        "1,000 best by sign bits": lambda backend: backend.score(weights, tier="bits", limit=_SHORTLIST),
        "sum of the codes, best 1,000": lambda backend: backend.score(
            np.ones(catalog.d, np.float32), tier="codes", limit=_SHORTLIST
        ),
    }


def timed(work: Callable[[], Any], repeats: int) -> NDArray[np.float64]:
    """Return the seconds of some calls, after a warm one."""
    work()
    seconds = []
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - began)
    return np.array(seconds)


def content_bytes(value: Any) -> int:
    """Return the bytes of all arrays and texts that a value holds, and eight for each number."""
    if isinstance(value, np.ndarray | np.generic):
        return int(value.nbytes)
    if isinstance(value, str | bytes):
        return len(value)
    if is_dataclass(value):
        return sum(content_bytes(getattr(value, each.name)) for each in fields(value))
    if isinstance(value, dict):
        return content_bytes([*value.keys(), *value.values()])
    if isinstance(value, list | tuple | set | frozenset):
        return sum(map(content_bytes, value))
    return 0 if value is None else 8


class CountingShard(LocalShard):
    """A shard that counts the bytes of questions and answers as another process would get them."""

    sent_bytes = 0

    def ask(self, state: Any, scan: str, rows: Any, arguments: tuple[Any, ...]) -> Any:
        """Return the answer."""
        answer = super().ask(state, scan, rows, arguments)
        self.sent_bytes += content_bytes((state.key, scan, rows, arguments)) + content_bytes(answer)
        return answer


@dataclass(frozen=True)
class Measured:
    """The lines of all terms by name, and the times of each question at the middle size: (seconds, ...), rows."""

    lines: dict[str, Line]
    times: dict[str, NDArray[np.float64]]
    rows: int


def made(folder: Path, n: int) -> Catalog:
    """Return a catalog of n items, made at the first call."""
    return made_catalog(folder / f"codes-{n}", lambda path: write_catalog(path, Clusters(), n, D=_D))[0]


def measure(folder: Path, sizes: Sequence[int]) -> Measured:
    """Make or open the catalogs, and fit the lines."""
    points: dict[str, list[float]] = {}
    middle = sorted(sizes)[len(sizes) // 2]
    times: dict[str, NDArray[np.float64]] = {}
    for n in sizes:
        catalog = made(folder, n)
        points.setdefault("disk, bytes", []).append(catalog.info()["bytes"])
        plan = MemoryPlan.of(catalog, 1 << 60, 1 << 60)
        points.setdefault("card, bytes", []).append(plan.needed - WORKING_BYTES)
        bitmap = np.full(catalog.n_positions // 8, 255, np.uint8)
        points.setdefault("a filter, bytes", []).append(content_bytes(bitmap))
        with CpuBackend(catalog, threads=1) as backend:
            for name, ask in questions(catalog).items():
                taken = timed(partial(ask, backend), _TIMED)
                points.setdefault(name, []).append(float(np.median(taken)))
                if n == middle:
                    times[name] = taken
    return Measured({name: Line.through(sizes, values) for name, values in points.items()}, times, middle)


def sent(catalog: Catalog, count: int) -> dict[str, float]:
    """Return the bytes that each question sends to and from one of several shards."""
    shards = [CountingShard(lambda own: CpuBackend(own, threads=1)) for _ in range(count)]
    found = {}
    with ShardedBackend(catalog, shards) as backend:
        for name, ask in questions(catalog).items():
            before = sum(shard.sent_bytes for shard in shards)
            ask(backend)
            found[name] = (sum(shard.sent_bytes for shard in shards) - before) / count
    return found


def merging_s(count: int, each: int) -> float:
    """Return the median seconds of merging the sorted lists of a number of shards."""
    rng = np.random.default_rng(0)
    lists = [np.sort(rng.standard_normal(each).astype(np.float32))[::-1] for _ in range(count)]
    ids = rng.permutation(count * each).astype(np.int64)
    return float(np.median(timed(lambda: best_first(np.concatenate(lists), ids, each), 15)))


def simulated(
    times: NDArray[np.float64], scale: float, shards: int, straggling: float, slowdown: float
) -> tuple[float, float]:
    """Return p50 and p99 of the slowest of some shards, seconds. times: of one shard; scale: to the rows of a shard."""
    rng = np.random.default_rng(shards)
    slowest = np.zeros(_DRAWS // shards + 1000)
    for _ in range(shards):
        drawn = rng.choice(times, len(slowest)) * scale
        drawn *= np.where(rng.random(len(slowest)) < straggling, slowdown, 1.0)
        slowest = np.maximum(slowest, drawn)
    p50, p99 = np.percentile(slowest, [50, 99]).tolist()
    return p50, p99


def slopes_section(measured: Measured, sizes: Sequence[int]) -> Section:
    """Return the table of the lines."""
    rows = [
        (name, f"{line.constant:.3g}", f"{line.slope:.3g}", f"{100 * line.off:.1f}%")
        for name, line in measured.lines.items()
    ]
    title = f"Slopes, through {', '.join(f'{n:,}' for n in sizes)} items"
    return Section(title, ("term (times in seconds on one thread)", "constant", "an item", "off"), rows)


def sizes_section(measured: Measured, card_gib: float) -> Section:
    """Return the table of all sizes: bytes, cards, and the time of one thread over everything."""
    lines, room = measured.lines, card_gib * (1 << 30) - WORKING_BYTES
    rows = []
    for n in _TARGETS:
        card = lines["card, bytes"].at(n)
        rows.append(
            (
                f"{n:,}",
                f"{lines['disk, bytes'].at(n) / 1e9:,.1f} GB",
                f"{card / 1e9:,.1f} GB",
                f"{max(1, int(np.ceil(card / room)))}",
                f"{lines['a filter, bytes'].at(n) / 1e6:,.1f} MB",
                *(f"{lines[name].at(n):,.3g} s" for name in measured.times),
            )
        )
    header = ("items", "disk", "cards' memory", f"cards of {card_gib:g} GiB", "a filter sent to all shards")
    return Section("What each size takes", (*header, *measured.times), rows)


def latency_section(measured: Measured, sent_bytes: dict[str, float], options: argparse.Namespace) -> Section:
    """Return the table of simulated latencies, for a billion items over each number of shards."""
    rows = []
    for shards in _SHARDS:
        merging = merging_s(shards, _SHORTLIST)
        for name, taken in measured.times.items():
            line = measured.lines[name]
            scale = line.at(options.items / shards) / line.at(measured.rows) / options.threads
            calm = simulated(taken, scale, shards, 0.0, 1.0)
            slow = simulated(taken, scale, shards, options.straggling, options.slowdown)
            cells = (f"{1e3 * (each + merging):,.1f} ms" for each in (*calm, *slow))
            rows.append((f"{shards}", name, *cells, f"{shards * sent_bytes[name] / 1e6:,.2f} MB"))
    header = ("shards", "question", "p50", "p99", "p50 with stragglers", "p99 with stragglers", "sent in all")
    stragglers = f"{100 * options.straggling:g}% of the answers {options.slowdown:g} times as slow"
    title = f"{options.items:,} items over shards of {options.threads} threads, {stragglers}"
    return Section(title, header, rows)


def _sizes(text: str) -> list[int]:
    return sorted({whole(1)(part) for part in text.split(",")})


def main() -> None:
    """Read the options, measure, simulate, print and write the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__)
    parser.add_argument("--sizes", type=_sizes, default=[1_000_000, 2_000_000, 4_000_000, 8_000_000])
    parser.add_argument("--items", type=whole(1), default=10**9, help="items of the simulated catalog")
    parser.add_argument("--threads", type=whole(1), default=16, help="cores of a simulated shard")
    parser.add_argument("--card-gib", type=finite(1), default=80.0, help="memory of a card")
    parser.add_argument("--straggling", type=finite(0), default=0.01, help="share of answers that are slow")
    parser.add_argument("--slowdown", type=finite(1), default=10.0, help="how many times as long these take")
    parser.add_argument("--folder", type=out_folder, help="where the catalogs are made and kept")
    parser.add_argument("--out", type=out_file, help="write this Markdown file")
    options = parser.parse_args()
    if len(options.sizes) < 3:
        parser.error("--sizes: expected three or more")
    load_before = os.getloadavg()[0]
    with work_folder(options.folder) as folder:
        measured = measure(folder, options.sizes)
        sent_bytes = sent(Catalog.open(folder / f"codes-{options.sizes[-1]}"), 2)
        sections = [
            slopes_section(measured, options.sizes),
            sizes_section(measured, options.card_gib),
            latency_section(measured, sent_bytes, options),
        ]
    facts = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in machine_facts(load_before).items())
    text = document("A billion, by measurement and on paper", command_line("scale"), facts)
    publish("\n\n".join([text, *(section.markdown() for section in sections)]), options.out)


if __name__ == "__main__":
    main()
