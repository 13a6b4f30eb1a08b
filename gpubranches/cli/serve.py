"""demo, serve and doctor."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from gpubranches.cli.options import (
    backend_option,
    catalog_argument,
    embedder_option,
    json_option,
    nn_option,
    open_embedder_for,
    opened_backend,
    print_json,
    progress_bar,
    tell_missing_pictures,
)

host_option = click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
port_option = click.option("--port", default=8765, show_default=True, type=click.IntRange(0, 65535))
token_option = click.option(
    "--token-file",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Ask for the token in this file; needed beyond loopback. Default: GPUBRANCHES_TOKEN of the environment.",
)
allowed_host_option = click.option(
    "--allowed-host", "allowed_hosts", metavar="NAME", multiple=True, help="Another name requests may be sent to."
)
behind_proxy_option = click.option(
    "--behind-proxy",
    metavar="ADDRESS",
    multiple=True,
    help="Believe the X-Forwarded-For, -Proto, -Host, -Port and -Prefix of a reverse proxy at this address or network.",
)
prefix_option = click.option(
    "--prefix",
    metavar="PATH",
    default="",
    help="What addresses begin with that a browser asks a reverse proxy for, such as /photos.",
)


@click.command()
@catalog_argument
@host_option
@port_option
@token_option
@allowed_host_option
@behind_proxy_option
@prefix_option
@embedder_option
@backend_option
@nn_option
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0))
def serve(
    directory: Path,
    host: str,
    port: int,
    token_file: Path | None,
    allowed_hosts: tuple[str, ...],
    behind_proxy: tuple[str, ...],
    prefix: str,
    embedder: str | None,
    backend: str,
    nn: str,
    seed: int,
) -> None:
    """Serve the labelling page of a catalog and its API."""
    address = _Address(host, port, token_file, allowed_hosts, behind_proxy, prefix)
    _serve(directory, address, embedder, backend, nn, seed)


@click.command()
@click.option("--out", default="demo-catalog", show_default=True, type=click.Path(path_type=Path), help="Where to.")
@click.option("--scenes", default=4000, show_default=True, type=click.IntRange(200, 1_000_000), help="How many scenes.")
@click.option("--check", is_flag=True, help="Play a simulated user on it and print F1 before and after refining.")
@click.option("--no-serve", is_flag=True, help="Build only.")
@host_option
@port_option
@token_option
@allowed_host_option
@json_option
def demo(
    out: Path,
    scenes: int,
    check: bool,
    no_serve: bool,
    host: str,
    port: int,
    token_file: Path | None,
    allowed_hosts: tuple[str, ...],
    as_json: bool,
) -> None:
    """Render scenes, embed them with the small model shipped here, build a catalog and serve it. No network."""
    from gpubranches.demo import build_demo, check_demo

    with progress_bar() as progress:
        build_demo(out, n=scenes, progress=progress)
    if check:
        report = check_demo(out)
        if as_json:
            print_json(report.to_json())
        else:
            click.echo(report.table())
    elif not no_serve:
        _serve(out, _Address(host, port, token_file, allowed_hosts), None, "auto", "auto", 0)


@click.command()
@json_option
def doctor(as_json: bool) -> None:
    """Tell what is installed, what is usable, and what to install for the rest."""
    from gpubranches.service.doctor import examine

    findings = examine()
    if as_json:
        print_json({"findings": [finding.to_json() for finding in findings]})
        return
    table = Table("part", "state", "what to do")
    for finding in findings:
        table.add_row(*(escape(text) for text in (finding.part, finding.state, finding.advice)))
    Console().print(table)


@dataclass(frozen=True)
class _Address:
    """Where to listen and who may come in, as given."""

    host: str
    port: int
    token_file: Path | None
    allowed_hosts: tuple[str, ...]
    behind_proxy: tuple[str, ...] = ()
    prefix: str = ""


def _serve(directory: Path, address: _Address, embedder: str | None, backend: str, nn: str, seed: int) -> None:
    from gpubranches import Catalog
    from gpubranches.app import create_app
    from gpubranches.app import serve as serve_app
    from gpubranches.app.access import read_token, require_token
    from gpubranches.app.proxies import Proxies

    token = read_token(address.token_file)
    require_token(address.host, token)
    proxies = Proxies.parse(address.behind_proxy, address.prefix)
    catalog = Catalog.open(directory)
    tell_missing_pictures(catalog)
    with opened_backend(backend, catalog, nn) as opened:
        app = create_app(catalog, opened, embedder=open_embedder_for(catalog, embedder), seed=seed, token=token)
        name = f"[{address.host}]" if ":" in address.host else address.host
        told = f"with the {opened.name} backend. Ctrl-C stops."
        serve_app(
            app,
            address.host,
            address.port,
            allowed_hosts=address.allowed_hosts,
            proxies=proxies,
            ready=lambda port: click.echo(f"Serving {catalog.n:,} items at http://{name}:{port} {told}"),
        )


COMMANDS = (serve, demo, doctor)
