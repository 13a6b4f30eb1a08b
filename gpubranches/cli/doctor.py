"""The command that reports what is installed."""

from __future__ import annotations

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from gpubranches.cli.options import json_option, print_json


@click.command()
@json_option
def doctor(as_json: bool) -> None:
    """Print what is installed and usable, and what to install for the rest."""
    from gpubranches.service.doctor import examine

    findings = examine()
    if as_json:
        print_json({"findings": [finding.to_json() for finding in findings]})
        return
    table = Table("part", "state", "what to do")
    for finding in findings:
        table.add_row(*(escape(text) for text in (finding.part, finding.state, finding.advice)))
    Console().print(table)
