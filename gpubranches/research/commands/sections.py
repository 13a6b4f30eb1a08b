"""Parts that the commands of `evaluate` share: options, the embedder of their queries, and how a report is shown."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from gpubranches.cli.options import open_embedder_for, print_json
from gpubranches.errors import BackendUnavailableError, UsageError

if TYPE_CHECKING:
    from gpubranches import Catalog
    from gpubranches.encoders import Embedder
    from gpubranches.research.tables import Section

_PIPED_WIDTH = 120


def embedder_or_none(catalog: Catalog, spec: str | None) -> Embedder | None:
    """Open the embedder named, else the catalog's; None for "none", or if there is neither.

    Raises SpaceMismatchError or UsageError unless its space is the catalog's.
    """
    from gpubranches.retrieval.search import require_embedder

    opened = None if spec == "none" else open_embedder_for(catalog, spec)
    if opened is not None:
        require_embedder(catalog, opened)
    return opened


def parse_counts(text: str, option: str) -> tuple[int, ...]:
    """Read numbers of items marked right, each 2 or more, ascending. Raises UsageError naming the option."""
    try:
        numbers = tuple(dict.fromkeys(sorted(int(part) for part in text.split(",") if part.strip())))
    except ValueError as error:
        raise UsageError(f"{option}: expected numbers such as 8,22, got {text!r}") from error
    if not numbers or numbers[0] < 2:
        raise UsageError(f"{option}: expected numbers of 2 and more, got {text!r}")
    return numbers


def parse_columns(text: str) -> tuple[str, ...]:
    """Read a comma list of columns."""
    return tuple(word.strip() for word in text.split(",") if word.strip())


class Report(Protocol):
    """A report that is printed and written. stem: the name of its files without an ending."""

    stem: ClassVar[str]

    def introduction(self) -> str: ...  # noqa: D102
    def sections(self) -> Iterator[Section]: ...  # noqa: D102
    def markdown(self) -> str: ...  # noqa: D102
    def to_json(self) -> dict[str, Any]: ...  # noqa: D102


def make_folder(out: Path | None) -> None:
    """Make the folder of --out, if one is named. Raises DataError if it cannot be made."""
    from gpubranches.catalog.storage import disk_errors

    if out is not None:
        with disk_errors(out):
            out.mkdir(parents=True, exist_ok=True)


def show(
    report: Report, title: str, draw: Callable[[Any, Path], list[Path]], out: Path | None, *, as_json: bool
) -> None:
    """Print a report, and write its tables, JSON and plots into a folder if one is named.

    draw: draws the plots. Without matplotlib the plots are left out, and the reason is printed.
    """
    pictures = 0
    if out is not None:
        _write(report, title, out)
        try:
            pictures = len(draw(report, out))
        except BackendUnavailableError as error:
            click.echo(f"No plots: {error}", err=True)
    if as_json:
        print_json(report.to_json())
        return
    console = Console()
    if not console.is_terminal:
        console = Console(width=_PIPED_WIDTH)
    console.print(report.introduction(), highlight=False, markup=False)
    for section in report.sections():
        console.print(_table(section))
    if out is not None:
        click.echo(f"Wrote {report.stem}.md, {report.stem}.json and {pictures} plots to {out}.")


def _write(report: Report, title: str, folder: Path) -> None:
    from gpubranches.catalog.storage import disk_errors
    from gpubranches.core.files import replace_file

    data = json.dumps(report.to_json(), allow_nan=False)
    with disk_errors(folder):
        replace_file(folder / f"{report.stem}.md", f"# {title}\n\n{report.markdown()}\n".encode())
        replace_file(folder / f"{report.stem}.json", f"{data}\n".encode())


def _table(section: Section) -> Table:
    table = Table(title=section.title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    for number, heading in enumerate(section.header):
        table.add_column(heading, justify="right" if number else "left", no_wrap=not number)
    for row in section.rows:
        table.add_row(*map(str, row))
    return table
