"""Parts that the commands of `evaluate` share: the embedder of their queries, and tables on the terminal."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from gpubranches.cli.options import open_embedder_for
from gpubranches.errors import UsageError

if TYPE_CHECKING:
    from gpubranches import Catalog
    from gpubranches.encoders import Embedder
    from gpubranches.research.tables import Section

_PIPED_WIDTH = 120


def embedder_or_none(catalog: Catalog, spec: str | None) -> Embedder | None:
    """Open the embedder named, else the catalog's; None for "none" and where there is neither.

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


def print_sections(introduction: str, sections: Iterable[Section]) -> None:
    """Print an introduction and tables, as wide as the terminal, or 120 columns where there is none."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=_PIPED_WIDTH)
    console.print(introduction, highlight=False, markup=False)
    for section in sections:
        console.print(_table(section))


def _table(section: Section) -> Table:
    table = Table(title=section.title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    for number, heading in enumerate(section.header):
        table.add_column(heading, justify="right" if number else "left", no_wrap=not number)
    for row in section.rows:
        table.add_row(*map(str, row))
    return table
