"""Interrupt writing commands at every point, by kills, failing calls and power cuts, and check the resulting files.

    python -m benchmarks.crashes [--points N] [--minutes M] [--seed 0] [--scenario NAME] [--kind KIND] [--out FILE]

Each scenario is a command, or requests to a served catalog. It runs once undisturbed over a layer that records the
calls by which it changes files. Then it runs many times, each time in a separate process. The process is killed before
each such call and within each write; each call fails with each of its possible errors; a write is cut short; the disk
is full from a call on. By a model of a disk, the power is cut after each call; data that were not synced may be lost in
part and in any order.

A point holds if all of these are true. The files are a committed state, the last one if it was acknowledged. `verify`
finds no problem. The same command then ends as if it had not been interrupted. The next command works. All other files
are removed. The error was one sentence, with the documented status. Needs gcc.
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
import time
from collections import Counter
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from benchmarks.crashes import layer
from benchmarks.crashes.fault_points import KINDS, Run
from benchmarks.crashes.scenario_runner import ScenarioRunner
from benchmarks.crashes.scenarios import SCENARIOS, Command, Requests
from benchmarks.harness.options import finite, out_file, whole
from benchmarks.harness.publishing import command_line, document, publish
from gpubranches.research.tables import markdown_table

Tally = dict[str, Counter[str]]
_MEMORY = Path("/dev/shm")  # nosec B108  # folders made there have random names
_LEAST = 20
"""The fewest points that are drawn for a scenario, because it must first run undisturbed."""


def main() -> None:
    """Read the options; run over the layer."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.crashes", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument(
        "--points",
        type=whole(0),
        default=0,
        help="try about this number of random points; a small number covers only some scenarios; 0 for all",
    )
    parser.add_argument(
        "--minutes", type=finite(0), default=0, help="try as many points as fit into this time; 0 for no limit"
    )
    parser.add_argument("--seed", type=whole(0), default=0, help="seed of the random points")
    parser.add_argument("--scenario", default="", help="only those whose name has this text")
    parser.add_argument("--kind", choices=KINDS, help="only faults of this kind")
    parser.add_argument("--out", type=out_file, help="write this Markdown file")
    options = parser.parse_args()
    if not any(options.scenario in each.name for each in SCENARIOS):
        parser.error(f"--scenario: expected a part of {', '.join(each.name for each in SCENARIOS)}")
    # On a disk in memory a sync takes no time; the model decides what a sync guarantees.
    with tempfile.TemporaryDirectory(dir=_MEMORY if _MEMORY.is_dir() else None) as name:
        if not layer.is_loaded():
            sys.exit(layer.run_over(Path(name), ["-m", "benchmarks.crashes", *sys.argv[1:]]))
        tally, broken, known, seconds = disturb(Path(name), options)
    publish(report(tally, broken, known, seconds), options.out)
    sys.exit(bool(broken))


def disturb(folder: Path, options: argparse.Namespace) -> tuple[Tally, list[str], int, float]:
    """Try the points.

    Return counts of tried and held ones by scenario and kind, the broken ones, how many there are, and the seconds.
    """
    runner, began, rng = ScenarioRunner(folder), time.perf_counter(), np.random.default_rng(options.seed)
    scenarios = [each for each in SCENARIOS if options.scenario in each.name and _can_run(each)]
    if options.points:
        some = min(len(scenarios), max(1, options.points // _LEAST))
        scenarios = [scenarios[at] for at in sorted(rng.permutation(len(scenarios))[:some].tolist())]
    tally: Tally = {}
    broken, known = list[str](), 0
    for number, scenario in enumerate(scenarios):
        left_s = 60 * options.minutes - (time.perf_counter() - began)
        until = time.perf_counter() + left_s / (len(scenarios) - number) if options.minutes else math.inf
        run, found = Run(runner, scenario), tally.setdefault(scenario.name, Counter())
        points = [point for point in run.points() if options.kind in (None, point.what)]
        count = len(points)
        known += count
        if options.points:
            count = options.points * (number + 1) // len(scenarios) - options.points * number // len(scenarios)
        if options.points or options.minutes:
            points = [points[at] for at in rng.permutation(len(points))[:count].tolist()]
        for point in points:
            if time.perf_counter() > until:
                break
            problem = run.judge(point)
            found[point.what] += 1
            found[f"{point.what}, held"] += not problem
            if problem:
                broken.append(f"{scenario.name}: {point.what}: {point.told}: {problem}")
                print(broken[-1], file=sys.stderr, flush=True)
        tried = sum(found[kind] for kind in KINDS)
        said = f"{time.perf_counter() - began:.0f} s: {scenario.name}: {tried}"
        print(said, file=sys.stderr, flush=True)
    return tally, broken, known, time.perf_counter() - began


def _can_run(scenario: Command | Requests) -> bool:
    """Return whether the package of a scenario is installed; say if not."""
    if scenario.needs != "av" or find_spec("av") is not None:
        return True
    print(f"{scenario.name}: left out, because PyAV is not installed", file=sys.stderr)
    return False


def report(tally: Tally, broken: list[str], known: int, seconds: float) -> str:
    """Return the results as Markdown. known: the number of points of the scenarios."""
    total = sum(tally.values(), Counter[str]())
    count = sum(total[kind] for kind in KINDS)
    introduction = (
        f"{count:,} of {known:,} points, {count - len(broken):,} held, {len(broken):,} broken; {seconds / 60:.0f} "
        "minutes. Each cell has the points that held and the points that were tried. "
        "`benchmarks/crashes/__main__.py` defines "
        '"held".'
    )
    rows = [_row(name, row) for name, row in {**tally, "all": total}.items()]
    table = markdown_table(("what was done", *KINDS, "broken"), rows)
    listed = ["Broken:", "\n".join(f"- {line}" for line in broken)] if broken else []
    return document("Kills, failing calls and power cuts", command_line("crashes"), introduction, table, *listed)


def _row(name: str, row: Counter[str]) -> tuple[object, ...]:
    cells = [f"{row[f'{kind}, held']:,} of {row[kind]:,}" if row[kind] else "" for kind in KINDS]
    return (name, *cells, sum(row[kind] - row[f"{kind}, held"] for kind in KINDS))


if __name__ == "__main__":
    main()
