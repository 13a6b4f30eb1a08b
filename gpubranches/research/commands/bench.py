"""The command that compares engines."""

from __future__ import annotations

from pathlib import Path

import click

from gpubranches.cli.options import progress_bar
from gpubranches.errors import UsageError


@click.command()
@click.option(
    "--backends",
    default="gpu,cpu",
    show_default=True,
    help="gpu, cpu, kdtree, numpy, faiss-cpu, faiss-gpu, sklearn-forest.",
)
@click.option("--rows", default="1e6", show_default=True, help="Sizes of the catalog, such as 1e6,1e7.")
@click.option(
    "--out",
    metavar="DIR",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for the results.",
)
@click.option("--dims", "d", default=32, show_default=True, type=click.IntRange(4, 1024), help="Number of code dims.")
@click.option(
    "--clusters",
    default=4096,
    show_default=True,
    type=click.IntRange(0),
    help="Number of groups of rows; 0 for uniform codes.",
)
@click.option(
    "--embeddings-gb",
    default=0.0,
    show_default=True,
    type=click.FloatRange(0),
    help="Size of a file used as embeddings; 0: no refine.",
)
@click.option("--seconds", default=2.0, show_default=True, type=click.FloatRange(0), help="Time for each measurement.")
def bench(backends: str, rows: str, out: Path, d: int, clusters: int, embeddings_gb: float, seconds: float) -> None:
    """Compare engines on a synthetic catalog: JSON lines, a table and plots in DIR.

    Engines: gpu, cpu, kdtree, numpy, faiss-cpu, faiss-gpu, sklearn-forest; one that is missing here is named and left
    out. Every size is generated for the run, on the card for the gpu backend; the kdtree index is built in DIR and
    removed.
    """
    from gpubranches.research.speed.engines import ENGINES
    from gpubranches.research.speed.plots import draw
    from gpubranches.research.speed.run import Plan, run, table

    engines = [name.strip() for name in backends.split(",") if name.strip()]
    unknown = [name for name in engines if name not in ENGINES]
    if unknown or not engines:
        raise UsageError(f"--backends: expected some of {', '.join(ENGINES)}, got {backends!r}")
    if d % 4:
        raise UsageError(f"--dims: expected a multiple of 4, got {d}")
    plan = Plan(
        engines, _sizes(rows), d, clusters=clusters, embeddings_bytes=int(embeddings_gb * 1e9), budget_s=seconds
    )
    with progress_bar() as progress:
        measures = run(plan, out, report=progress, show=click.echo)
    (out / "bench.md").write_text(table(measures), encoding="utf-8")
    pictures = draw(measures, out)
    click.echo(f"Wrote bench.jsonl, bench.md and {len(pictures)} plots to {out}.")


def _sizes(text: str) -> list[int]:
    try:
        sizes = [int(float(part)) for part in text.split(",") if part.strip()]
    except (ValueError, OverflowError) as error:
        raise UsageError(f"--rows: expected numbers such as 1e6,1e7, got {text!r}") from error
    if not sizes or min(sizes) < 1:
        raise UsageError(f"--rows: expected sizes of 1 and more, got {text!r}")
    return sizes
