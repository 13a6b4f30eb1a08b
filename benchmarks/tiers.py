"""Measure what share of each tier is right, on real embeddings.

    python -m benchmarks.tiers --out benchmarks/results/tiers.md

The data and the simulated user are those of `benchmarks.quality`. Each simulation is a concept, a seed and a number of
marks: refine, mark an audit of 20, estimate, mark 20 more, estimate, refine with all of these marks. Only items without
a mark count, because the user decided the tier of the others. The goal is that nine of ten sure items are right, five
to nine of ten likely items, and fewer than five borderline items.
"""

from __future__ import annotations

import numpy as np

from benchmarks.coverage import STAGES
from benchmarks.harness.intervals import audited
from benchmarks.harness.publishing import command_line, document, publish
from benchmarks.harness.real_data import opened_data, simulation_options
from gpubranches import Session
from gpubranches.core.results import TIERS
from gpubranches.research.quality import Draw, LabelledCatalog
from gpubranches.research.tables import markdown_table

NAMES = (*TIERS, "below")
Counts = list[list[tuple[int, int]]]
"""For every simulation: the unmarked items and the right items of each of NAMES."""


def simulate(labelled: LabelledCatalog, draw: Draw, counts: dict[str, Counts]) -> None:
    """Add what one user finds to the counts by stage; one with fewer than 4 positives has no tiers and adds nothing."""
    session = labelled.marked(draw)
    if session.refine().tiers is None:
        return
    counts[STAGES[0]].append(counted(session, labelled, draw))
    for stage in STAGES[1:3]:
        audited(session, labelled, draw.right)
        counts[stage].append(counted(session, labelled, draw))
    session.refine()
    counts[STAGES[3]].append(counted(session, labelled, draw))


def counted(session: Session, labelled: LabelledCatalog, draw: Draw) -> list[tuple[int, int]]:
    """Return unmarked items and right ones by tier."""
    marked = np.concatenate([session.positives, session.negatives])
    rows = [labelled.rows(ids[~np.isin(ids, marked)]) for ids in (session.part(name).ids for name in NAMES)]
    return [(len(part), int(draw.right[part].sum())) for part in rows]


def table(counts: dict[str, Counts]) -> str:
    """Return the counts as a Markdown table."""
    rows = []
    for stage, simulations in counts.items():
        items, right = np.moveaxis(np.array(simulations), -1, 0)
        shares = zip(items.mean(0), right.sum(0) / items.sum(0), strict=True)
        rows.append((stage, *(cell for n, share in shares for cell in (f"{n:.1f}", f"{share:.1%}"))))
    return markdown_table(("stage", *(head for name in NAMES for head in (f"{name}: items", "right"))), rows)


def main() -> None:
    """Read the options, run, print and write the table."""
    options = simulation_options("tiers", __doc__, seeds=1)
    counts: dict[str, Counts] = {stage: [] for stage in STAGES[:4]}
    with opened_data(options.data, options.concepts) as (labelled, concepts):
        for p in options.positives:
            for _, _, draw in labelled.draws(list(concepts), p, options.seeds):
                if draw is not None:
                    simulate(labelled, draw, counts)
    introduction = (
        f"{labelled.n:,} items, {len(counts[STAGES[0]])} simulations. Unmarked items of each tier, mean of the "
        "simulations, and the share of all of them that is right."
    )
    page = document("What share of each tier is right", command_line("tiers"), introduction, table(counts))
    publish(page, options.out)


if __name__ == "__main__":
    main()
