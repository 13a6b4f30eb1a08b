"""Measure the effect of the slider: size, precision, recall and F_beta of the answer by lean, on real embeddings.

    python -m benchmarks.lean --out benchmarks/results/lean.md

The data and the simulated user are those of `benchmarks.quality`. F_beta, beta = 4^lean, is shown for the moved cut and
for the model's own cut. The moved cut should be better.
"""

from __future__ import annotations

import numpy as np

from benchmarks.harness.intervals import truth
from benchmarks.harness.publishing import command_line, document, publish
from benchmarks.harness.real_data import opened_data, simulation_options
from gpubranches import Ranking
from gpubranches.research.quality import Draw, LabelledCatalog
from gpubranches.research.tables import markdown_table

HEADER = ("lean", "size, median, of the own cut's", "precision", "recall", "F_beta", "of the own cut")
LEANS = (-1.0, -0.5, 0.0, 0.5, 1.0)


def f_beta(found: dict[str, float], lean: float) -> float:
    """Return the weighted harmonic mean of precision and recall, in which recall counts 4^lean times as much."""
    precision, recall = found["precision"], found["recall"]
    square = 16.0**lean
    return float((1 + square) * precision * recall / max(square * precision + recall, 1e-12))


def measure(labelled: LabelledCatalog, draw: Draw) -> list[list[float]]:
    """Return, by lean, the number of matches, precision, recall, F_beta, and F_beta of the model's own cut."""
    session = labelled.marked(draw)
    own = truth(labelled, session.refine(), draw.right)

    def row(ranking: Ranking, lean: float) -> list[float]:
        found = truth(labelled, ranking, draw.right)
        return [ranking.total, found["precision"], found["recall"], f_beta(found, lean), f_beta(own, lean)]

    return [row(session.recut(lean), lean) for lean in LEANS]


def main() -> None:
    """Read the options, run, print and write the table."""
    options = simulation_options("lean", __doc__, seeds=1)
    with opened_data(options.data, options.concepts) as (labelled, concepts):
        draws = [draw for p in options.positives for _, _, draw in labelled.draws(concepts, p, options.seeds)]
        values = np.array([measure(labelled, draw) for draw in draws if draw is not None])
    sizes = np.median(values[:, :, 0] / values[:, LEANS.index(0.0), 0][:, None], axis=0)
    rows = [
        (f"{lean:+.1f}", f"{size:.2f}", *(f"{mean:.3f}" for mean in means[1:]))
        for lean, size, means in zip(LEANS, sizes, values.mean(axis=0), strict=True)
    ]
    introduction = f"{labelled.n:,} items, {len(values)} simulations."
    publish(
        document(
            "What the slider gives",
            command_line("lean"),
            introduction,
            markdown_table(
                ("lean", "size, median, of the own cut's", "precision", "recall", "F_beta", "of the own cut"), rows
            ),
        ),
        options.out,
    )


if __name__ == "__main__":
    main()
