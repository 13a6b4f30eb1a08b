"""Measure the value of 32 bytes per image on real embeddings: heads trained here, compared with codecs of the field.

    python -m benchmarks.codes --out benchmarks/results/codes

The data is that of `benchmarks.harness.real_data`. The heads are trained without a quarter of the vocabulary, which
includes the names of all classes, and without the rows that `gpubranches.encoders.holdout` holds out. Heads with and
without the KoLeo term are trained with the same seeds, and `gpubranches evaluate codes` measures them all in one run.
The goals are for decoded codes, because the other codecs are decoded, too.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness.options import out_folder, whole
from benchmarks.harness.publishing import Goal, command_line, goals_section
from benchmarks.harness.real_data import add_data_option, build_catalog, parse_with_data
from gpubranches import Catalog, cli
from gpubranches.encoders import open_embedder
from gpubranches.encoders.heads import HeadSettings
from gpubranches.ingestion.train_head import train_head
from gpubranches.research.quality.concepts import askable_by, find_concepts
from gpubranches.research.tables import Section

HELD_OUT_SHARE = 4
GAIN = 0.05
PRECISION = 0.72
BEST = "koleo"


def held_out_names(catalog: Catalog) -> list[str]:
    """Return the names of all classes that the vocabulary knows, and others drawn by a fixed seed."""
    vocabulary = open_embedder(catalog.embedder)
    names = vocabulary.training_texts
    classes = {c.name.lower() for c in find_concepts(catalog, askable_by(vocabulary), fewest=1) if c.text}
    own = [name for name in names if name.replace("_", " ").lower() in classes]
    others = [name for name in names if name not in own]
    more = len(names) // HELD_OUT_SHARE - len(own)
    return own + list(np.random.default_rng(0).permutation(others)[:more])


def train(catalog: Path, folder: Path, epochs: int) -> dict[str, dict[str, Any]]:
    """Train the heads into a folder; return how each went."""
    names = held_out_names(Catalog.open(catalog))
    usual = replace(HeadSettings(), epochs=epochs)
    told = {}
    for name, settings in {BEST: usual, "without-koleo": replace(usual, koleo=0.0)}.items():
        report = train_head(catalog, folder / f"{name}.safetensors", settings=settings, without_texts=names)
        told[name] = {"seconds": round(report.seconds), "epochs": report.epochs, "validation": round(report.recall, 4)}
        print(f"{name}: {told[name]}", file=sys.stderr, flush=True)
    return told


def goals(data: dict[str, Any]) -> Iterator[Goal]:
    """Yield the goals: the claim, the numbers, whether it holds."""
    codecs = {codec["name"]: codec for codec in data["codecs"]}

    def of(name: str, kind: str, first: int | None) -> float:
        found = codecs[name]["found"][kind]
        return float((found["share"] if first is None else found["recall"][str(first)])["mean"])

    ours, pca, opq, plain = f"{BEST} decoded", "pca uint8", "OPQ32+PQ32", "without-koleo decoded"
    for first, what in ((10, "R@10"), (None, "100-R@100")):
        for kind, other, least in (
            ("images", pca, GAIN),
            ("images", opq, 0.0),
            ("texts", pca, GAIN),
            ("texts", opq, 0.0),
            ("images", plain, 0.0),
        ):
            a, b = of(ours, kind, first), of(other, kind, first)
            claim = f"{what}, {kind}: above {other}" + (f" by {least}" if least else "")
            yield claim, f"{a:.3f}, {b:.3f}", a > b + least
    for name in (ours, f"{BEST} uint8"):
        precision = float(codecs[name]["average_precision"]["mean"])
        yield f"names of classes, {name}: AP at least {PRECISION}", f"{precision:.3f}", precision >= PRECISION
    for place, models in _by_place(data["answers"]):
        a, b = (models[f"{name} candidates"]["recall"]["mean"] for name in (BEST, "pca"))
        yield f"p = {place}: share inside the candidates not below pca's", f"{a:.3f}, {b:.3f}", a >= b
        a, b = (models[f"{name} refine"]["f1"]["mean"] for name in (BEST, "pca"))
        yield f"p = {place}: F1 of refine not below pca's", f"{a:.3f}, {b:.3f}", a >= b


def _by_place(answers: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for place in next(iter(answers.values())):
        yield place, {name: places[place] for name, places in answers.items()}


def main() -> None:
    """Train, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_data_option(parser)
    parser.add_argument("--out", type=out_folder, default=Path("benchmarks/results/codes"))
    parser.add_argument("--epochs", type=whole(1), default=HeadSettings().epochs)
    options = parse_with_data(parser)
    with tempfile.TemporaryDirectory(prefix="gpubranches-codes-") as name:
        folder = Path(name)
        catalog = build_catalog(options.data, folder)
        trained = train(catalog, folder, options.epochs)
        heads = [word for head in trained for word in ("--head", f"{head}={folder / head}.safetensors")]
        command = ["evaluate", "codes", str(catalog), *heads, "--marked", "8,22", "--out", str(options.out)]
        print(" ".join(command), file=sys.stderr, flush=True)
        with contextlib.redirect_stdout(sys.stderr):
            cli.cli(command, standalone_mode=False)
    report = options.out / "codes.md"
    rows = [(name, one["seconds"], one["epochs"], f"{one['validation']:.3f}") for name, one in trained.items()]
    training = Section("Training", ("head", "seconds", "epochs", "100-R@100 of validation rows"), rows)
    found = goals(json.loads((options.out / "codes.json").read_text()))
    parts = [report.read_text().rstrip(), goals_section(found), training.markdown()]
    report.write_text("\n\n".join([*parts, f"Made by `{command_line('codes')}`.\n"]))
    print(report.read_text())


if __name__ == "__main__":
    main()
