"""Options and small parsers that several commands share."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import fields
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from gpubranches.core.options import (
    LEAST_WEIGHT,
    MODELS,
    MOST_RANDOM_NEGATIVES,
    MOST_WEIGHT,
    NEGATIVE_WEIGHT,
    RANDOM_NEGATIVES,
    RefineOptions,
)
from gpubranches.errors import UsageError, printable

if TYPE_CHECKING:
    from gpubranches.catalog import Catalog
    from gpubranches.encoders import Embedder
    from gpubranches.engines import Backend
    from gpubranches.engines.sharded.ray_cluster import Cluster

Command = TypeVar("Command", bound=Callable[..., Any])
Decorator = Callable[[Command], Command]
Report = Callable[[str, int, int], None]


def as_object(name: str, kind: type[Any], *options: Decorator[Any]) -> Decorator[Any]:
    """Return a decorator that adds options to a command, and passes values to it as one argument.

    name: of the argument; kind: a dataclass of the values. It takes all parameters with the names of its fields, also
    those of options that another decorator adds.
    """
    own = {field.name for field in fields(kind)}

    def decorate(command: Command) -> Command:
        @wraps(command)
        def called(*arguments: Any, **values: Any) -> Any:
            chosen = {key: values.pop(key) for key in own & values.keys()}
            return command(*arguments, **values, **{name: kind(**chosen)})

        decorated: Any = called
        for option in reversed(options):
            decorated = option(decorated)
        return cast(Command, decorated)

    return decorate


catalog_argument = click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
pictures_option = click.option(
    "--pictures",
    metavar="[INPUT=]ROOT",
    multiple=True,
    help="Where the pictures are now: a folder, or the address of a store, which is read only if it is named here; "
    "INPUT is needed if the catalog has several.",
)
where_option = click.option(
    "--where", metavar="CONDITION", help='Return only items whose metadata meet a condition, such as "year > 2010".'
)
_EMBEDDERS = "open_clip:MODEL/TAG, transformers:ORG/NAME, onnx:FOLDER, demo and others; see docs/encoders.md"


def _joined_specs(_: click.Context, option: click.Parameter, specs: tuple[str, ...]) -> str | None:
    from gpubranches.encoders.joint import joined

    return joined(specs) if specs else None


def _embedder_option(which: str) -> Callable[[Any], Any]:
    return click.option(
        "--embedder",
        metavar="SPEC",
        multiple=True,
        callback=_joined_specs,
        help=f"The model of texts and images, {which}: {_EMBEDDERS}.",
    )


embedder_option = _embedder_option("or each of two")
own_embedder_option = _embedder_option("by default the one the catalog was made with")
backend_option = click.option(
    "--backend",
    default="auto",
    show_default=True,
    type=click.Choice(["auto", "gpu", "cpu", "kdtree", "oracle"]),
    help="The backend; auto is gpu if there is a usable card, else cpu.",
)
nn_option = click.option(
    "--nn",
    default="auto",
    show_default=True,
    type=click.Choice(["auto", "kernel", "faiss"]),
    help="The engine for nearest neighbours over codes, and on a card also over embeddings.",
)
seed_option = click.option(
    "--seed",
    default=0,
    show_default=True,
    type=click.IntRange(0),
    help="Seed of all random draws; the same marks, query and seed give the same answer.",
)
refine_options = as_object(
    "options",
    RefineOptions,
    click.option(
        "--query", metavar="TEXT", help="The text that was searched for; the model uses its words if the marks agree."
    ),
    click.option(
        "--model",
        default=MODELS[0],
        show_default=True,
        type=click.Choice(MODELS),
        help="The model to train on the marks.",
    ),
    click.option(
        "--second-stage/--no-second-stage",
        default=None,
        help="Rank what the boxes find by a linear model on the embeddings, or by votes; by default by the model if "
        "the catalog has embeddings.",
    ),
    click.option(
        "--random-negatives",
        default=RANDOM_NEGATIVES,
        show_default=True,
        type=click.IntRange(0, MOST_RANDOM_NEGATIVES),
        help="Number of random items that are used as wrong items without a check.",
    ),
    click.option(
        "--negative-weight",
        default=NEGATIVE_WEIGHT,
        show_default=True,
        type=click.FloatRange(LEAST_WEIGHT, MOST_WEIGHT),
        help="Weight of an item marked wrong in the second stage; a random one has 1.",
    ),
    click.option(
        "--lean",
        default=0.0,
        show_default=True,
        type=click.FloatRange(-1, 1),
        help="Where the list is cut: below 0 for fewer and surer items, above 0 for more items.",
    ),
    where_option,
)
"""The options of a find all, as one argument `options`."""


def open_embedder_for(catalog: Catalog, spec: str | None) -> Embedder | None:
    """Open the embedder of a spec, else that of the catalog; None if there is neither."""
    from gpubranches.encoders import open_embedder

    chosen = spec or catalog.embedder
    return open_embedder(chosen, identity=catalog.space.embedder) if chosen else None


def for_terminal(text: str) -> str:
    """Return an untrusted text with the characters escaped that would control a terminal."""
    return printable(text, keep="\n")


def tell_missing_pictures(catalog: Catalog) -> None:
    """Print on standard error which folders of pictures are missing, which stores are not read, and what to do."""
    from gpubranches.catalog.pictures.image_files import missing_roots
    from gpubranches.catalog.pictures.places import unread_stores

    for store in unread_stores(catalog.picture_source):
        told = f"Note: the catalog's pictures are in {store}, which is only read if you name it"
        click.echo(for_terminal(f"{told}: `gpubranches serve {catalog.path} --pictures {store}`."), err=True)
    for root in missing_roots(catalog.picture_source):
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
    """Return the metadata that describe an item best, for a table's cell."""
    shown = ("caption", "label", "image_path", "path", "dataset")
    return for_terminal("  ".join(str(item[name]) for name in shown if item.get(name) is not None))


def print_table(table: Table, summary: str) -> None:
    """Print a table and a line below it on standard output."""
    console = Console()
    console.print(table)
    console.print(escape(summary), highlight=False)


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
def opened_backend(name: str, catalog: Catalog, nn: str = "auto", cluster: Cluster | None = None) -> Iterator[Backend]:
    """Yield an open backend; a bar is shown while the gpu backend uploads, and is removed before the work begins."""
    from gpubranches import open_backend

    bars: list[Report] = []
    with ExitStack() as drawn:

        def report(stage: str, done: int, total: int) -> None:
            if not bars:
                bars.append(drawn.enter_context(progress_bar()))
            bars[0](stage, done, total)

        backend = open_backend(name, catalog, nn=nn, report=report, cluster=cluster)
    with backend as opened:
        yield opened
