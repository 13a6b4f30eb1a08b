"""Quality of the answers on real embeddings: a simulated user, every model on the same marks.

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
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from gpubranches import Catalog, open_backend
from gpubranches.evaluation import Evaluation, World, evaluate, find_concepts, first_pages
from gpubranches.evaluation.models import MODELS
from gpubranches.ingest import ingest

SHUFFLE_SEED = 0
FOLDERS = ("caltech101", "pets_dtd", "distractors")
REFINE, PROTOTYPE, VOTES = "refine (default)", "two-stage prototype", "branch ensemble by votes"
VOTES_GOALS = {8: 0.35, 22: 0.60}


def build_catalog(data: Path, folder: Path) -> Path:
    """Shuffle the rows of all folders into one clip-retrieval folder, and ingest it; return the catalog's path."""
    embeddings, tables = [], []
    for name in FOLDERS:
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
    order = np.random.default_rng(SHUFFLE_SEED).permutation(len(everything))
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


def goals(evaluation: Evaluation, pages: list[dict[str, float]]) -> list[tuple[str, str, bool]]:
    """Return what was to be reached: the claim, the number, whether it holds."""
    found = []
    for p in evaluation.positives:
        if {REFINE, PROTOTYPE} <= evaluation.values.keys():
            mean, error, wins = evaluation.paired(REFINE, PROTOTYPE, "f1", p)
            text = f"{mean:+.3f} ± {error:.3f}, wins {wins:.0%}"
            found.append((f"p = {p}: refine not below the two-stage prototype, paired", text, mean >= 0))
        if VOTES in evaluation.values and p in VOTES_GOALS:
            votes, _ = evaluation.mean(VOTES, "f1", p)
            claim = f"p = {p}: F1 of the ensemble by votes at least {VOTES_GOALS[p]:.2f}"
            found.append((claim, f"{votes:.3f}", votes >= VOTES_GOALS[p]))
    for page in pages:
        loss = page["exact"] - page["found"]
        claim = f"first {page['k']:,}: mean average precision within .01 of the cosine"
        found.append((claim, f"{-loss:+.4f}", loss <= 0.01))
    return found


def report(world: World, evaluation: Evaluation, pages: list[dict[str, float]], facts: dict[str, Any]) -> str:
    """Return everything as Markdown."""
    skipped = ", ".join(f"{evaluation.skipped(p)} at p = {p}" for p in evaluation.positives)
    lines = [
        f"{world.n:,} items, {len(evaluation.concepts)} concepts, {evaluation.seeds} seeds; skipped draws: {skipped}. "
        f"Means over concepts ± standard error. Oracle: the best cut of the ranking, known to an oracle only. "
        f"{', '.join(f'{key} {value}' for key, value in facts.items())}.",
        "",
        "## F1 over the whole catalog",
        "",
        evaluation.table(),
        "",
        *(
            ("## Paired differences, own cuts", "", evaluation.paired_table(REFINE), "")
            if REFINE in evaluation.values
            else ()
        ),
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
        *(f"| {claim} | {number} | {'pass' if held else 'MISS'} |" for claim, number, held in goals(evaluation, pages)),
    ]
    return "\n".join(lines)


def main() -> None:
    """Read the options, run, print and write the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality", description=__doc__)
    parser.add_argument(
        "--data", type=Path, default=os.environ.get("GPUBRANCHES_EVAL_DATA") or None, help="folder of the data"
    )
    parser.add_argument("--concepts", type=int, help="a random subset of so many (default: all)")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--positives", type=int, nargs="+", default=[8, 22])
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=list(MODELS))
    parser.add_argument("--out", type=Path, help="write PREFIX.md and PREFIX.json")
    options = parser.parse_args()
    if options.data is None:
        parser.error("expected --data or GPUBRANCHES_EVAL_DATA, got neither")
    start = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="gpubranches-quality-") as made:
        catalog = Catalog.open(build_catalog(options.data.resolve(), Path(made)))
        with open_backend("cpu", catalog) as backend:
            evaluation, pages, text = run(catalog, backend, options, start)
    print(text)
    if options.out is not None:
        command = "python -m benchmarks.quality"
        options.out.parent.mkdir(parents=True, exist_ok=True)
        document = f"# Quality of the answers on real embeddings\n\n`{command}`\n\n{text}\n"
        options.out.with_suffix(".md").write_text(document, encoding="utf-8")
        data = {"command": command, "evaluation": evaluation.to_json(), "first_pages": pages}
        options.out.with_suffix(".json").write_text(json.dumps(data) + "\n", encoding="utf-8")


def run(
    catalog: Catalog, backend: Any, options: argparse.Namespace, start: float
) -> tuple[Evaluation, list[dict[str, float]], str]:
    """Evaluate the models and the first pages; return both and the text of the report."""
    from gpubranches.embed import VocabularyEmbedder

    text = options.data / "text"
    vocabulary = VocabularyEmbedder.load(text / "text_emb_0.npy", text / "names.json")
    world = World(catalog, backend, vocabulary)
    concepts = find_concepts(catalog, vocabulary.knows)
    if options.concepts is not None:
        chosen = np.random.default_rng(0).permutation(len(concepts))[: options.concepts]
        concepts = [concepts[i] for i in sorted(chosen)]
    named = find_concepts(catalog, vocabulary.knows, fewest=1)
    pages = first_pages(world, named, [100, 1000, world.n])
    began = time.perf_counter()

    def progress(done: int, total: int) -> None:
        if done % 20 == 0 or done == total:
            print(f"{done} of {total} draws, {time.perf_counter() - began:.0f} s", file=sys.stderr, flush=True)

    models = {name: MODELS[name] for name in options.models}
    evaluation = evaluate(
        world, concepts, models=models, positives=tuple(options.positives), seeds=options.seeds, progress=progress
    )
    facts = {
        "date": time.strftime("%Y-%m-%d"),
        "concepts with a text": sum(concept.text for concept in concepts),
        "seconds": round(time.perf_counter() - start),
    }
    return evaluation, pages, report(world, evaluation, pages, facts)


if __name__ == "__main__":
    main()
