"""Measure how often the 90% intervals of precision and recall hold, and how wide they are, on real embeddings.

    python -m benchmarks.coverage --out benchmarks/results/coverage.md

The data and the simulated user are those of `benchmarks.quality`. Each simulation is a concept, a seed and a number of
marks: refine, estimate, mark an audit of 20, estimate, mark 20 more, estimate, refine with all of these marks,
estimate. Refines and audits by votes alone are reported separately. An interval has to contain the true precision of
the matches, or their true recall over the whole catalog, by the labels.
"""

from __future__ import annotations

import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np

from benchmarks.harness.intervals import Tally, audited, truth
from benchmarks.harness.publishing import command_line, document, publish
from benchmarks.harness.real_data import opened_data, simulation_options
from gpubranches import Ranking
from gpubranches.research.quality import Concept, Draw, LabelledCatalog
from gpubranches.research.quality.size_bands import band, bands
from gpubranches.research.tables import markdown_table

STAGES = (
    "no audit",
    "audit of 20",
    "audit of 40",
    "refined again with them",
    "votes alone, audit of 20",
    "votes alone, audit of 40",
)
GOAL = 0.88
HEADER: tuple[str, ...] = ("estimate", "of", "which", "simulations", "held", "true above", "true below", "mean width")
HEADER += ("error of middle", "")
Tallies = dict[tuple[str, str, int, str], Tally]
"""Results by stage, measure, number of marks and band of the concept's size."""


def simulate(labelled: LabelledCatalog, draw: Draw) -> Iterator[tuple[str, Ranking]]:
    """Yield each stage with its answer and estimates."""
    session = labelled.marked(draw)
    yield STAGES[0], session.refine()
    for stage in STAGES[1:3]:
        yield stage, audited(session, labelled, draw.right)
    yield STAGES[3], session.refine()
    session = labelled.marked(draw)
    session.refine(second_stage=False)
    for stage in STAGES[4:]:
        yield stage, audited(session, labelled, draw.right)


def run(labelled: LabelledCatalog, concepts: Sequence[Concept], positives: Sequence[int], seeds: int) -> Tallies:
    """Simulate every concept, number of marks and seed."""
    tallies: Tallies = defaultdict(Tally)
    began = time.perf_counter()
    for p in positives:
        for number, (_, _, draw) in enumerate(labelled.draws(list(concepts), p, seeds)):
            if draw is None:
                continue
            for stage, ranking in simulate(labelled, draw):
                for measure, true in truth(labelled, ranking, draw.right).items():
                    size = band(len(draw.concept.items))
                    tallies[stage, measure, p, size].count(getattr(ranking, measure), true)
            if number % 50 == 0:
                print(f"p = {p}: {number}, {time.perf_counter() - began:.0f} s", file=sys.stderr, flush=True)
    return tallies


def table(tallies: Tallies, positives: Sequence[int], sizes: Sequence[int]) -> str:
    """Return the tallies as a Markdown table, of all simulations together, by number of marks and by size of concept.

    sizes: items of the concepts.
    """
    groups: list[tuple[str, int | str | None]] = [("all", None)]
    groups += [(f"p = {p}", p) for p in positives]
    groups += [(f"{size} items", size) for size in bands(sizes)]
    rows = []
    for stage in STAGES:
        for measure in ("precision", "recall"):
            for name, group in groups:
                parts = [
                    tally
                    for key, tally in tallies.items()
                    if key[:2] == (stage, measure) and (group is None or group in key[2:])
                ]
                held = np.concatenate([np.zeros(0), *(part.held for part in parts)])
                if not len(held):
                    continue
                above = np.concatenate([part.above for part in parts]).mean()
                width, error = (
                    np.concatenate([getattr(part, values) for part in parts]).mean() for values in ("widths", "errors")
                )
                shares = (f"{held.mean():.1%}", f"{above:.1%}", f"{abs(1 - held.mean() - above):.1%}")
                verdict = "pass" if held.mean() >= GOAL else "MISS"
                rows.append((stage, measure, name, len(held), *shares, f"{width:.3f}", f"{error:.3f}", verdict))
    return markdown_table(HEADER, rows)


def main() -> None:
    """Read the options, run, print and write the table."""
    options = simulation_options("coverage", __doc__, seeds=3)
    began = time.perf_counter()
    with opened_data(options.data, options.concepts) as (labelled, concepts):
        tallies = run(labelled, concepts, options.positives, options.seeds)
    introduction = (
        f"{labelled.n:,} items, {len(concepts)} concepts, {options.seeds} seeds, {time.perf_counter() - began:.0f} s. "
        f"A stated 90% is to hold in at least {GOAL:.0%} of the simulations, at every size and number of marks."
    )
    found = table(tallies, options.positives, [len(concept.items) for concept in concepts])
    publish(document("How often the 90% intervals hold", command_line("coverage"), introduction, found), options.out)


if __name__ == "__main__":
    main()
