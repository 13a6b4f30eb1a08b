"""Quality of the answers on real embeddings, by the protocol of `gpubranches evaluate`, against what was to be reached.

    python -m benchmarks.quality --out benchmarks/results/quality

The data is a folder of clip-retrieval folders and `text/` (text_emb_0.npy, names.json), given by --data or the
environment variable GPUBRANCHES_EVAL_DATA: real CLIP embeddings with the columns dataset, label and caption. Rows are
shuffled by a fixed seed, ingested as one catalog with the texts as vocabulary, and every class of 34 items or more is
a concept.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from gpubranches import Catalog, open_backend
from gpubranches.encoders import VocabularyEmbedder
from gpubranches.ingestion import ingest
from gpubranches.research.quality import Comparison, Report, World, evaluate, find_concepts, first_pages, play_rounds
from gpubranches.research.quality.models import choose_models
from gpubranches.research.quality.protocol import random_subset
from gpubranches.research.quality.report import reference_among

SHUFFLE_SEED = 0
FOLDERS = ("caltech101", "pets_dtd", "distractors")
REFINE_GOALS = {8: 0.72, 15: 0.76, 22: 0.78}
VOTES_GOALS = {8: 0.45, 22: 0.66}
ROUND_GOALS = {3: 0.87, 5: 0.91}
PAGE_LOSS = 0.01

Goal = tuple[str, str, bool]


def build_catalog(data: Path, folder: Path, *, folders: Sequence[str] = FOLDERS, shuffled: bool = True) -> Path:
    """Put the rows of folders, shuffled or in order, into one clip-retrieval folder, and ingest it.

    Returns the catalog's path.
    """
    embeddings, tables = [], []
    for name in folders:
        rows = np.load(data / name / "img_emb/img_emb_0.npy")
        table = pq.read_table(data / name / "metadata/metadata_0.parquet").to_pydict()
        nothing = [None] * len(rows)
        classes = table.get("label", nothing)
        tables.append(
            pa.table(
                {
                    "dataset": pa.array(table.get("dataset", [name] * len(rows)), pa.string()),
                    "label": pa.array(classes, pa.int64()),
                    "caption": pa.array(table.get("caption", nothing), pa.string()),
                }
            )
        )
        embeddings.append(rows.astype(np.float16))
    everything, table = np.concatenate(embeddings), pa.concat_tables(tables)
    n = len(everything)
    order = np.random.default_rng(SHUFFLE_SEED).permutation(n) if shuffled else np.arange(n)
    source = folder / "input"
    (source / "img_emb").mkdir(parents=True)
    (source / "metadata").mkdir()
    np.save(source / "img_emb/img_emb_0.npy", everything[order])
    pq.write_table(table.take(order), source / "metadata/metadata_0.parquet")
    text = data / "text"
    ingest(
        [source],
        folder / "catalog",
        embedder=f"vocabulary:{text / 'text_emb_0.npy'},{text / 'names.json'}",
    )
    return folder / "catalog"


def goals(report: Report, pages: list[dict[str, float]]) -> list[Goal]:
    """Return what was to be reached: the claim, the number, whether it holds."""
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


def document(report: Report, pages: list[dict[str, float]]) -> str:
    """Return the evaluation's report, the first pages and the goals as Markdown."""
    lines = [
        report.markdown(),
        "",
        "## First pages: text queries against the cosine on all embeddings",
        "",
        "| first | concepts | mean average precision | of the cosine | largest loss | ms | cosine ms |",
        "|---|---|---|---|---|---|---|",
        *(
            f"| {page['k']:,} | {page['concepts']} | {page['found']:.4f} | {page['exact']:.4f} | "
            f"{page['largest_loss']:.4f} | {page['found_ms']:.1f} | {page['exact_ms']:.1f} |"
            for page in pages
        ),
        "",
        "## Goals",
        "",
        "| goal | measured | |",
        "|---|---|---|",
        *(f"| {claim} | {number} | {'pass' if held else 'MISS'} |" for claim, number, held in goals(report, pages)),
    ]
    return "\n".join(lines)


def run(catalog: Catalog, backend: Any, options: argparse.Namespace) -> tuple[Report, list[dict[str, float]]]:
    """Evaluate the models, the rounds and the first pages."""
    text = options.data / "text"
    vocabulary = VocabularyEmbedder.load(text / "text_emb_0.npy", text / "names.json")
    world = World(catalog, backend, vocabulary)
    start = time.perf_counter()
    concepts = random_subset(find_concepts(catalog, vocabulary.knows), options.concepts)
    models = choose_models(options.models)
    compared = evaluate(
        world,
        concepts,
        models=models,
        positives=tuple(options.positives),
        seeds=options.seeds,
        progress=_progress("models"),
    )
    played = None
    if options.rounds:
        played = play_rounds(world, concepts, rounds=options.rounds, seeds=options.seeds, progress=_progress("rounds"))
    pages = first_pages(world, find_concepts(catalog, vocabulary.knows, fewest=1), [100, 1000, world.n])
    facts = {"date": time.strftime("%Y-%m-%d"), "seconds": round(time.perf_counter() - start)}
    return Report(world.n, concepts, compared, played, reference_among(list(models), None), facts), pages


def asked(options: argparse.Namespace) -> str:
    """Return the command that makes these results anew, given the data."""
    command = (
        f"python -m benchmarks.quality --models {options.models} --rounds {options.rounds} --seeds {options.seeds}"
    )
    command += f" --positives {' '.join(str(p) for p in options.positives)}"
    return command if options.concepts is None else f"{command} --concepts {options.concepts}"


def main() -> None:
    """Read the options, run, print and write the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality", description=__doc__)
    parser.add_argument(
        "--data", type=Path, default=os.environ.get("GPUBRANCHES_EVAL_DATA") or None, help="folder of the data"
    )
    parser.add_argument("--concepts", type=int, help="a random subset of so many (default: all)")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--positives", type=int, nargs="+", default=[4, 8, 15, 22])
    parser.add_argument("--models", default="all", help="all, or a comma list of short names")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of marking, 0 for none")
    parser.add_argument("--out", type=Path, help="write PREFIX.md and PREFIX.json")
    options = parser.parse_args()
    if options.data is None:
        parser.error("expected --data or GPUBRANCHES_EVAL_DATA, got neither")
    with tempfile.TemporaryDirectory(prefix="gpubranches-quality-") as made:
        catalog = Catalog.open(build_catalog(options.data.resolve(), Path(made)))
        with open_backend("cpu", catalog) as backend:
            report, pages = run(catalog, backend, options)
    text = document(report, pages)
    print(text)
    if options.out is not None:
        command = asked(options)
        options.out.parent.mkdir(parents=True, exist_ok=True)
        body = f"# Quality of the answers on real embeddings\n\n`{command}`\n\n{text}\n"
        options.out.with_suffix(".md").write_text(body, encoding="utf-8")
        data = {"command": command, "evaluation": report.to_json(), "first_pages": pages}
        options.out.with_suffix(".json").write_text(json.dumps(data) + "\n", encoding="utf-8")


def _progress(stage: str) -> Callable[[int, int], None]:
    began = time.perf_counter()

    def report(done: int, total: int) -> None:
        if done % 20 == 0 or done == total:
            seconds = time.perf_counter() - began
            print(f"{stage}: {done} of {total} draws, {seconds:.0f} s", file=sys.stderr, flush=True)

    return report


if __name__ == "__main__":
    main()
