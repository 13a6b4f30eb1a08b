"""The command line: each command reads its options, calls one method and prints the result."""

from __future__ import annotations

import importlib
import logging
import resource
import sys
from io import TextIOWrapper

import click

import gpubranches
from gpubranches.cli.options import for_terminal
from gpubranches.errors import GpuBranchesError

_COMMANDS = {
    **dict.fromkeys(("ingest", "append", "sync", "relocate", "encode"), "cli.ingest"),
    **dict.fromkeys(("delete", "compact", "merge", "info", "verify", "export"), "cli.catalogs"),
    "train-head": "cli.train_head",
    "index": "cli.index",
    "search": "cli.search",
    "refine": "cli.refine",
    "explain": "cli.explain",
    "serve": "cli.serve",
    "demo": "cli.serve",
    "doctor": "cli.doctor",
    "evaluate": "research.commands.evaluate",
    "bench": "research.commands.bench",
}
"""The module of each command, in the order of the help."""


class _Commands(click.Group):
    """Imports the module of a command when the command is first used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module = importlib.import_module(f"gpubranches.{_COMMANDS[cmd_name]}")
        command: click.Command = getattr(module, cmd_name.replace("-", "_"))
        return command


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(gpubranches.__version__, prog_name="gpubranches")
@click.option("-v", "--verbose", is_flag=True, help="Log the program's choices, and their reasons.")
def cli(verbose: bool) -> None:
    """Find all images of a catalog that match an idea: search, mark a few, apply a model to everything."""
    # A large catalog has more files open than the 1,024 that shells usually allow.
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    for stream in (sys.stdout, sys.stderr):  # a file name may not be valid text
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    level = logging.INFO if verbose else logging.WARNING
    logging.basicConfig(level=level, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr)


def main() -> None:
    """Run the command line: exit 0 ok, 2 usage, 3 data, 4 device."""
    try:
        cli(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except click.Abort:
        click.echo("Stopped. Finished work is kept; the same command resumes it.", err=True)
        sys.exit(130)
    except GpuBranchesError as error:
        click.echo(for_terminal(f"Error: {error}"), err=True)
        sys.exit(error.exit_code)
