"""The command that plays a simulated user on the demo."""

from __future__ import annotations

from pathlib import Path

import click

from gpubranches.cli.options import json_option, print_json


@click.command()
@click.argument("directory", metavar="CATALOG", type=click.Path(path_type=Path))
@json_option
def demo(directory: Path, as_json: bool) -> None:
    """Play a simulated user on the demo's catalog and print F1 before and after refining."""
    from gpubranches.research.quality.demo_check import check_demo

    report = check_demo(directory)
    if as_json:
        print_json(report.to_json())
    else:
        click.echo(report.table())
