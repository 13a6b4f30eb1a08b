"""Options and small parsers that several commands share."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from gpubranches.core.options import LEAST_WEIGHT, MODELS, MOST_WEIGHT, NEGATIVE_WEIGHT, RANDOM_NEGATIVES
from gpubranches.errors import UsageError, printable

if TYPE_CHECKING:
    from gpubranches.catalog import Catalog
    from gpubranches.encoders import Embedder
    from gpubranches.engines import Backend
    from gpubranches.service import Session

Command = TypeVar("Command", bound=Callable[..., Any])
Report = Callable[[str, int, int], None]

catalog_argument = click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
where_option = click.option("--where", metavar="CONDITION", help="Only items whose metadata meet a condition.")
embedder_option = click.option(
    "--embedder",
    metavar="SPEC",
    help="open_clip:MODEL/PRETRAINED, open_clip:MODEL,FILE, vocabulary:TEXT_EMB.npy,NAMES.json or demo.",
)
backend_option = click.option(
    "--backend",
    default="auto",
    show_default=True,
    type=click.Choice(["auto", "gpu", "cpu", "kdtree", "oracle"]),
    help="What computes.",
)
model_option = click.option(
    "--model", default=MODELS[0], show_default=True, type=click.Choice(MODELS), help="What is trained on the marks."
)
positive_option = click.option(
    "--positive", metavar="IDS|@FILE", required=True, help="Ids that are right: 3,17,42 or @FILE."
)
negative_option = click.option("--negative", metavar="IDS|@FILE", help="Ids that are wrong.")
query_option = click.option(
    "--query", metavar="TEXT", help="What was asked for; its words help as far as the marks agree."
)
second_stage_option = click.option(
    "--second-stage/--no-second-stage",
    default=None,
    help="Rank by a linear model on the embeddings; by default wherever the catalog has them.",
)
random_negatives_option = click.option(
    "--random-negatives",
    default=RANDOM_NEGATIVES,
    show_default=True,
    type=click.IntRange(0),
    help="Random items taken as wrong.",
)
negative_weight_option = click.option(
    "--negative-weight",
    default=NEGATIVE_WEIGHT,
    show_default=True,
    type=click.FloatRange(LEAST_WEIGHT, MOST_WEIGHT),
    help="What an item marked wrong counts in the second stage, in random ones.",
)
lean_option = click.option(
    "--lean",
    default=0.0,
    show_default=True,
    type=click.FloatRange(-1, 1),
    help="Where to cut: -1 for precision, 1 for recall.",
)
nn_option = click.option(
    "--nn",
    default="auto",
    show_default=True,
    type=click.Choice(["auto", "kernel", "faiss"]),
    help="The engine for nearest neighbours over codes, on a card over embeddings too.",
)


def open_embedder_for(catalog: Catalog, spec: str | None) -> Embedder | None:
    """Open the embedder named, else the one the catalog was made with; None if there is neither."""
    from gpubranches.encoders import open_embedder

    chosen = spec or catalog.embedder
    return open_embedder(chosen) if chosen else None


def for_terminal(text: str) -> str:
    """Return an untrusted text with the characters escaped that would control a terminal."""
    return printable(text, keep="\n")


def tell_missing_pictures(catalog: Catalog) -> None:
    """Print on standard error which folders of a catalog's pictures are missing, and what to do."""
    from gpubranches.catalog.pictures.image_files import missing_roots

    for root in missing_roots(catalog.source):
        told = f"Note: the catalog's pictures were in {root}, which is missing; if it was moved, name the new folder by"
        click.echo(for_terminal(f"{told} `gpubranches relocate {catalog.path} {root} NEW`."), err=True)


def parse_ids(text: str | None, name: str) -> NDArray[np.int64]:
    """Return ids from "1,2,3" or "@FILE": ids separated by commas or white space, or the column `id` of a CSV."""
    if not text:
        return np.zeros(0, np.int64)
    if text.startswith("@"):
        try:
            with open(text[1:], encoding="utf-8-sig", newline="") as file:
                text = file.read()
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"{name}: cannot read {text[1:]}: {error}; expected a text file of ids") from error
        rows = csv.DictReader(io.StringIO(text, newline=""))
        if "id" in (rows.fieldnames or ()):
            text = ",".join(str(row["id"]) for row in rows)
    words = text.replace(",", " ").split()
    try:
        return np.array([int(word) for word in words], np.int64)
    except (ValueError, OverflowError) as error:
        raise UsageError(f"{name}: expected ids such as 3,17,42 or @FILE, got {text[:60]!r}") from error


def print_json(data: dict[str, Any]) -> None:
    """Print one JSON object on standard output."""
    click.echo(json.dumps(data))


def describe(item: dict[str, Any]) -> str:
    """Return the most telling metadata of an item, for a table's cell."""
    shown = ("caption", "label", "image_path", "path", "dataset")
    return for_terminal("  ".join(str(item[name]) for name in shown if item.get(name) is not None))


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:,.0f}/s" if task.speed else "")


@contextmanager
def progress_bar() -> Iterator[Report]:
    """Yield a function (stage, done, total) that draws a bar with rate and time left on standard error."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _Rate(), TimeRemainingColumn())
    with Progress(*columns, console=Console(file=sys.stderr), transient=False) as progress:
        tasks: dict[str, Any] = {}

        def report(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = progress.add_task(stage, total=total)
            progress.update(tasks[stage], completed=done, total=total)

        yield report


@contextmanager
def opened_backend(name: str, catalog: Catalog, nn: str = "auto") -> Iterator[Backend]:
    """Yield an open backend; a bar is drawn while the gpu backend uploads, and gone before the work begins."""
    from gpubranches import open_backend

    bars: list[Report] = []
    with ExitStack() as drawn:

        def report(stage: str, done: int, total: int) -> None:
            if not bars:
                bars.append(drawn.enter_context(progress_bar()))
            bars[0](stage, done, total)

        backend = open_backend(name, catalog, nn=nn, report=report)
    with backend as opened:
        yield opened


@contextmanager
def marked_session(
    directory: Path,
    backend: str,
    positive: str,
    negative: str | None,
    seed: int,
    query: str | None = None,
    embedder: str | None = None,
) -> Iterator[Session]:
    """Open a catalog and a backend, and yield a session with the marks that --positive and --negative name.

    It has an embedder where a query in words needs one.
    """
    from gpubranches import Catalog, Session
    from gpubranches.retrieval.queries import Words, of_kind, parse

    catalog = Catalog.open(directory)
    right, wrong = parse_ids(positive, "--positive"), parse_ids(negative, "--negative")
    if len(both := np.intersect1d(right, wrong)):
        raise UsageError(
            f"--negative: expected other items than --positive, got {both[0]} in both; leave it out of one"
        )
    reads = query is not None and bool(of_kind(Words, parse(query).added))
    with opened_backend(backend, catalog) as opened:
        session = Session(catalog, opened, embedder=open_embedder_for(catalog, embedder) if reads else None, seed=seed)
        session.mark(right, +1)
        session.mark(wrong, -1)
        yield session
