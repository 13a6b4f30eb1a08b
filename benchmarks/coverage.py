"""How often the 90% intervals of precision and recall hold, and how wide they are, on real embeddings.

    python -m benchmarks.coverage --out benchmarks/results/coverage.md

The data and the simulated user are those of `benchmarks.quality`. Each simulation is a concept, a seed and a number of
marks: refine, estimate, mark an audit of 20, estimate, mark 20 more, estimate, refine with all of these marks,
estimate. Votes alone are refined and audited apart. What an interval has to hold is the precision of what matches, and
its recall of the whole catalog, from the labels.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.harness.options import out_file, whole
from benchmarks.quality import build_catalog
from gpubranches import Catalog, Ranking, Session, open_backend
from gpubranches.encoders import VocabularyEmbedder
from gpubranches.research.quality import Concept, Draw, World, find_concepts
from gpubranches.research.quality.protocol import FEWEST, random_subset
from gpubranches.research.quality.sizes import band, bands

STAGES = (
    "no audit",
    "audit of 20",
    "audit of 40",
    "refined again with them",
    "votes alone, audit of 20",
    "votes alone, audit of 40",
)
GOAL = 0.85
_EDGE = 1e-9


@dataclass
class Tally:
    """Per simulation of a stage and measure: whether the interval held, its width, how far its middle lay off."""

    held: list[bool] = field(default_factory=list)
    above: list[bool] = field(default_factory=list)
    widths: list[float] = field(default_factory=list)
    errors: list[float] = field(default_factory=list)
    missing: int = 0


Tallies = dict[tuple[str, str, int, str], Tally]
"""By stage, measure, number of marks and band of the concept's size."""


@contextmanager
def opened_world(data: Path, count: int | None, *, fewest: int = FEWEST) -> Iterator[tuple[World, list[Concept]]]:
    """Yield the data as a catalog in memory, and its concepts of `fewest` items, or a random `count` of them."""
    text = data / "text"
    vocabulary = VocabularyEmbedder.load(text / "text_emb_0.npy", text / "names.json")
    with tempfile.TemporaryDirectory(prefix="gpubranches-coverage-") as made:
        catalog = Catalog.open(build_catalog(data, Path(made)))
        with open_backend("cpu", catalog) as backend:
            concepts = find_concepts(catalog, vocabulary.knows, fewest=fewest)
            yield World(catalog, backend, vocabulary), random_subset(concepts, count)


def simulate(world: World, draw: Draw) -> Iterator[tuple[str, Ranking]]:
    """Yield each stage with its answer and estimates."""
    session = started(world, draw)
    yield STAGES[0], session.refine()
    for stage in STAGES[1:3]:
        yield stage, audited(session, world, draw.right)
    yield STAGES[3], session.refine()
    session = started(world, draw)
    session.refine(second_stage=False)
    for stage in STAGES[4:]:
        yield stage, audited(session, world, draw.right)


def started(world: World, draw: Draw) -> Session:
    """Return a session with the marks of the first page."""
    session = world.session(draw.seed)
    session.mark(draw.positives, +1)
    session.mark(draw.negatives, -1)
    return session


def audited(session: Session, world: World, right: NDArray[np.bool_]) -> Ranking:
    """Mark an audit of 20 by the truth, (n,) bool; return the answer with new estimates."""
    ids = session.audit(20)
    good = right[world.rows(ids)]
    for label, items in ((+1, ids[good]), (-1, ids[~good])):
        session.mark(items, label, origin="audit")
    return session.estimate()


def truth(world: World, ranking: Ranking, right: NDArray[np.bool_]) -> dict[str, float]:
    """Return precision and recall of what matches."""
    hits = int(right[world.rows(ranking.ids[ranking.matched])].sum())
    return {"precision": hits / ranking.total, "recall": hits / int(right.sum())}


def run(world: World, concepts: Sequence[Concept], positives: Sequence[int], seeds: int) -> Tallies:
    """Simulate every concept, number of marks and seed."""
    tallies: Tallies = defaultdict(Tally)
    began = time.perf_counter()
    for p in positives:
        for number, (_, _, draw) in enumerate(world.draws(list(concepts), p, seeds)):
            if draw is None:
                continue
            for stage, ranking in simulate(world, draw):
                for measure, true in truth(world, ranking, draw.right).items():
                    size = band(len(draw.concept.items))
                    count(tallies[stage, measure, p, size], getattr(ranking, measure), true)
            if number % 50 == 0:
                print(f"p = {p}: {number}, {time.perf_counter() - began:.0f} s", file=sys.stderr, flush=True)
    return tallies


def count(tally: Tally, interval: tuple[float, float, float] | None, true: float) -> None:
    """Add one interval to a tally."""
    if interval is None:
        tally.missing += 1
        return
    low, middle, high = interval
    tally.held.append(low - _EDGE <= true <= high + _EDGE)
    tally.above.append(true > high + _EDGE)
    tally.widths.append(high - low)
    tally.errors.append(abs(middle - true))


def table(tallies: Tallies, positives: Sequence[int], sizes: Sequence[int]) -> list[str]:
    """Return the tallies as a Markdown table, of all simulations together, by number of marks and by size of concept.

    sizes: items of the concepts.
    """
    groups = [("all", lambda key: True)]
    groups += [(f"p = {p}", lambda key, p=p: key[2] == p) for p in positives]
    groups += [(f"{size} items", lambda key, size=size: key[3] == size) for size in bands(sizes)]
    lines = [
        "| estimate | of | which | simulations | held | true above | true below | mean width | error of middle | |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for stage in STAGES:
        for measure in ("precision", "recall"):
            for name, chosen in groups:
                parts = [tally for key, tally in tallies.items() if key[:2] == (stage, measure) and chosen(key)]
                held = np.concatenate([np.zeros(0), *(part.held for part in parts)])
                if not len(held):
                    continue
                above = np.concatenate([part.above for part in parts]).mean()
                widths = np.concatenate([part.widths for part in parts])
                errors = np.concatenate([part.errors for part in parts])
                verdict = ("pass" if held.mean() >= GOAL else "MISS") if name == "all" else ""
                lines.append(
                    f"| {stage} | {measure} | {name} | {len(held)} | {held.mean():.1%} | {above:.1%} | "
                    f"{abs(1 - held.mean() - above):.1%} | {widths.mean():.3f} | {errors.mean():.3f} | {verdict} |"
                )
    return lines


def read_options(prog: str, doc: str | None, *, seeds: int) -> argparse.Namespace:
    """Return the options of a benchmark that plays the simulated user; seeds: by default."""
    parser = argparse.ArgumentParser(prog=f"python -m {prog}", description=doc)
    parser.add_argument(
        "--data", type=Path, default=os.environ.get("GPUBRANCHES_EVAL_DATA") or None, help="folder of the data"
    )
    parser.add_argument("--concepts", type=whole(1), help="a random subset of so many (default: all)")
    parser.add_argument("--seeds", type=whole(1), default=seeds)
    parser.add_argument("--positives", type=int, nargs="+", default=[8, 22])
    parser.add_argument("--out", type=out_file, help="write this Markdown file")
    options = parser.parse_args()
    if options.data is None:
        parser.error("expected --data or GPUBRANCHES_EVAL_DATA, got neither")
    return options


def publish(lines: Sequence[str], out: Path | None) -> None:
    """Print lines of Markdown, and write them where a file is named."""
    print("\n".join(lines))
    if out is not None:
        out.write_text("\n".join(lines) + "\n", encoding="utf-8")


def main() -> None:
    """Read the options, run, print and write the table."""
    options = read_options("benchmarks.coverage", __doc__, seeds=3)
    began = time.perf_counter()
    with opened_world(options.data.resolve(), options.concepts) as (world, concepts):
        tallies = run(world, concepts, options.positives, options.seeds)
    lines = [
        "# How often the 90% intervals hold",
        "",
        f"`python -m benchmarks.coverage {' '.join(sys.argv[1:])}`",
        "",
        f"{world.n:,} items, {len(concepts)} concepts, {options.seeds} seeds, {time.perf_counter() - began:.0f} s.",
        f"A stated 90% is to hold in at least {GOAL:.0%} of all simulations.",
        "",
        *table(tallies, options.positives, [len(concept.items) for concept in concepts]),
    ]
    publish(lines, options.out)


if __name__ == "__main__":
    main()
