"""Measure how good the answers are on real embeddings, by the protocol of `gpubranches evaluate`, against set goals.

    python -m benchmarks.quality --out benchmarks/results/quality

The data is that of `benchmarks.harness.real_data`. Its rows are shuffled by a fixed seed and ingested as one catalog
with the texts as vocabulary; every class of 34 items or more is a concept.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator

from benchmarks.harness.options import out_prefix, whole
from benchmarks.harness.publishing import Goal, command_line, document, goals_section, write_pair
from benchmarks.harness.real_data import add_data_options, opened_data, parse_with_data
from gpubranches.encoders import VocabularyEmbedder
from gpubranches.research.quality import (
    Comparison,
    Concept,
    LabelledCatalog,
    Report,
    evaluate,
    find_concepts,
    first_pages,
    play_rounds,
)
from gpubranches.research.quality.models import choose_models
from gpubranches.research.quality.report import reference_among
from gpubranches.research.tables import Section

REFINE_GOALS = {8: 0.72, 15: 0.76, 22: 0.78}
VOTES_GOALS = {8: 0.45, 22: 0.66}
ROUND_GOALS = {3: 0.87, 5: 0.91}
PAGE_LOSS = 0.01


def goals(report: Report, pages: list[dict[str, float]]) -> list[Goal]:
    """Return the goals: the claim, the number, whether it holds."""
    found = [*_model_goals(report.models)]
    if report.rounds is not None:
        found += _round_goals(report.rounds)
    for page in pages:
        loss = page["exact"] - page["found"]
        claim = f"first {page['k']:,}: mean average precision within {PAGE_LOSS} of the cosine"
        found.append((claim, f"{-loss:+.4f}", loss <= PAGE_LOSS))
    return found


def _model_goals(models: Comparison) -> Iterator[Goal]:
    for model, targets in (("refine", REFINE_GOALS), ("ensemble", VOTES_GOALS)):
        for p in models.places if model in models.values else ():
            if p in targets:
                f1, _ = models.mean(model, "f1", p)
                yield f"p = {p}: F1 of {model} at least {targets[p]:.2f}", f"{f1:.3f}", f1 >= targets[p]
    if {"refine", "prototype"} <= models.values.keys():
        for p in models.places:
            mean, error, wins = models.paired("refine", "prototype", "f1", p)
            text = f"{mean:+.3f} ± {error:.3f}, wins {wins:.0%}"
            yield f"p = {p}: refine not below the prototype, paired", text, mean >= 0


def _round_goals(rounds: Comparison) -> Iterator[Goal]:
    for place, target in ROUND_GOALS.items():
        if place in rounds.places:
            f1, _ = rounds.mean("suggested", "f1", place)
            yield f"round {place}: F1 of suggested marks at least {target:.2f}", f"{f1:.3f}", f1 >= target
            for other in ("random", "best"):
                mean, error, wins = rounds.paired("suggested", other, "f1", place)
                text = f"{mean:+.3f} ± {error:.3f}, wins {wins:.0%}"
                yield f"round {place}: suggested above {other}, paired", text, mean > 0


def first_pages_section(pages: list[dict[str, float]]) -> str:
    """Return the table of first pages as Markdown; pages: of `first_pages`."""
    header = ("first", "concepts", "mean average precision", "of the cosine", "largest loss", "ms", "cosine ms")
    rows = [
        (
            *(f"{page['k']:,}", str(page["concepts"])),
            *(f"{page[name]:.4f}" for name in ("found", "exact", "largest_loss")),
            *(f"{page[name]:.1f}" for name in ("found_ms", "exact_ms")),
        )
        for page in pages
    ]
    return Section("First pages: text queries against the cosine on all embeddings", header, rows).markdown()


def run(
    labelled: LabelledCatalog, concepts: list[Concept], options: argparse.Namespace
) -> tuple[Report, list[dict[str, float]]]:
    """Evaluate the models, the rounds and the first pages."""
    start = time.perf_counter()
    models = choose_models(options.models)
    compared = evaluate(
        labelled,
        concepts,
        models=models,
        positives=tuple(options.positives),
        seeds=options.seeds,
        progress=_progress("models"),
    )
    played = None
    if options.rounds:
        played = play_rounds(
            labelled, concepts, rounds=options.rounds, seeds=options.seeds, progress=_progress("rounds")
        )
    embedder = labelled.embedder
    assert isinstance(embedder, VocabularyEmbedder)  # nosec B101  # what `opened_data` gives
    named = find_concepts(labelled.catalog, embedder.knows, fewest=1)
    pages = first_pages(labelled, named, [100, 1000, labelled.n])
    facts = {"date": time.strftime("%Y-%m-%d"), "seconds": round(time.perf_counter() - start)}
    return Report(labelled.n, concepts, compared, played, reference_among(list(models), None), facts), pages


def main() -> None:
    """Read the options, run, print and write the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality", description=__doc__)
    add_data_options(parser, seeds=2)
    parser.add_argument("--positives", type=whole(2), nargs="+", default=[4, 8, 15, 22])
    parser.add_argument("--models", default="all", help="all, or a comma list of short names")
    parser.add_argument("--rounds", type=whole(0), default=5, help="rounds of marking, 0 for none")
    parser.add_argument("--out", type=out_prefix, help="write PREFIX.md and PREFIX.json")
    options = parse_with_data(parser)
    with opened_data(options.data, options.concepts) as (labelled, concepts):
        report, pages = run(labelled, concepts, options)
    command = command_line("quality")
    text = document(
        "Quality of the answers on real embeddings",
        command,
        report.markdown(),
        first_pages_section(pages),
        goals_section(goals(report, pages)),
    )
    print(text)
    if options.out is not None:
        write_pair(options.out, text, {"command": command, "evaluation": report.to_json(), "first_pages": pages})


def _progress(stage: str) -> Callable[[int, int], None]:
    began = time.perf_counter()

    def report(done: int, total: int) -> None:
        if done % 20 == 0 or done == total:
            seconds = time.perf_counter() - began
            print(f"{stage}: {done} of {total} draws, {seconds:.0f} s", file=sys.stderr, flush=True)

    return report


if __name__ == "__main__":
    main()
