"""Measure the value of the query's words while few items are marked, on real embeddings.

    python -m benchmarks.words --positives 2 3 5 8 --out benchmarks/results/words.md

The data and the simulated user are those of `benchmarks.quality`; the concepts are the classes of 20 items or more
whose name has a text embedding.
"""

from __future__ import annotations

from benchmarks.harness.publishing import command_line, document, publish
from benchmarks.harness.real_data import opened_data, simulation_options
from gpubranches.research.quality import Comparison, Draw, LabelledCatalog, evaluate
from gpubranches.research.quality.answers import Answer, Model
from gpubranches.research.quality.models import choose_models
from gpubranches.research.quality.product_models import answer_of
from gpubranches.research.tables import markdown_table

FEWEST = 20
TOLD = ("refine-unasked", "refine", "another")
MEASURES = ("f1", "average_precision", "oracle")
HEADER = ("p", "F1, marks alone", "and words", "difference", "wrong words", "AP", "and words", "oracle F1", "and words")


def main() -> None:
    """Read the options, run, print and write the table."""
    options = simulation_options("words", __doc__, seeds=2)
    with opened_data(options.data, options.concepts, fewest=FEWEST) as (labelled, found):
        concepts = [concept for concept in found if concept.text]
        names = [concept.name for concept in concepts]
        following = dict(zip(names, [*names[1:], names[0]], strict=True))

        def told_another(labelled: LabelledCatalog, draw: Draw) -> Answer:
            session = labelled.marked(draw)
            return answer_of(labelled, session.refine(query=f'"{following[draw.concept.name]}"'))

        models = {**choose_models("refine-unasked,refine"), "another": Model("told another class's name", told_another)}
        compared = evaluate(labelled, concepts, models=models, positives=options.positives, seeds=options.seeds)
    introduction = (
        f"{labelled.n:,} items, {len(concepts)} concepts asked for by their name, {options.seeds} seeds. Up to p "
        "marked right, 20 wrong, 1,000 random negatives; F1, average precision over unmarked items and F1 by an "
        "oracle's cut of the default `refine`, not told the query and told it, and F1 where it is told the name of "
        "another class; means over concepts ± standard error."
    )
    table = markdown_table(HEADER, [_row(compared, p) for p in options.positives])
    publish(document("What the words of the query give", command_line("words"), introduction, table), options.out)


def _row(compared: Comparison, p: int) -> tuple[object, ...]:
    cells = [_figure(*compared.mean(name, measure, p)) for measure in MEASURES for name in TOLD[:2]]
    gain, error, _ = compared.paired("refine", "refine-unasked", "f1", p)
    cells[2:2] = [f"{gain:+.3f} ± {error:.3f}".replace("0.", "."), _figure(*compared.mean("another", "f1", p))]
    return (p, *cells)


def _figure(mean: float, error: float) -> str:
    return f"{mean:.3f} ± {error:.3f}".replace("0.", ".")


if __name__ == "__main__":
    main()
