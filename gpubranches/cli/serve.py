"""The commands that serve a catalog, and make and serve the demo."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from gpubranches.cli.options import (
    as_object,
    open_embedder_for,
    pictures_option,
    progress_bar,
    tell_missing_pictures,
)
from gpubranches.cli.sessions import ServedSource, serve_source
from gpubranches.errors import UsageError


@dataclass(frozen=True)
class Address:
    """The address of a server, and the hosts and proxies that may send requests to it, as the user gave them."""

    host: str
    port: int
    token_file: Path | None
    allowed_hosts: tuple[str, ...]
    behind_proxy: tuple[str, ...] = ()
    prefix: str = ""


listen_options = (
    click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on."),
    click.option(
        "--port",
        default=8765,
        show_default=True,
        type=click.IntRange(0, 65535),
        help="Port to listen on; 0 for a free one.",
    ),
    click.option(
        "--token-file",
        metavar="FILE",
        type=click.Path(path_type=Path),
        help="Require the token in this file, or else the one in the environment variable GPUBRANCHES_TOKEN. "
        "A token is needed on an address other than loopback.",
    ),
    click.option(
        "--allowed-host",
        "allowed_hosts",
        metavar="NAME",
        multiple=True,
        help="A further host name of this server.",
    ),
)
proxy_options = (
    click.option(
        "--behind-proxy",
        metavar="ADDRESS",
        multiple=True,
        help="Trust the X-Forwarded-For, -Proto, -Host, -Port and -Prefix of a proxy at this address or network.",
    ),
    click.option(
        "--prefix",
        metavar="PATH",
        default="",
        help="The path below which a reverse proxy serves the page, such as /photos.",
    ),
)


def _one_folder(_: click.Context, argument: click.Parameter, given: tuple[Path, ...]) -> Path:
    if len(given) > 1:
        joined = shlex.join(["gpubranches", "merge", "OUT", *map(str, given)])
        raise UsageError(
            f"serve: expected one catalog, got {len(given)}; join them by `{joined}`, which links their files"
        )
    return given[0]


@click.command()
@click.argument(
    "directory", metavar="DIR", nargs=-1, required=True, type=click.Path(path_type=Path), callback=_one_folder
)
@as_object("address", Address, *listen_options, *proxy_options)
@click.option(
    "--remote-pictures",
    is_flag=True,
    help="Let browsers load pictures that this machine does not have from the https addresses in the column url.",
)
@pictures_option
@serve_source
def serve(source: ServedSource, address: Address, remote_pictures: bool, pictures: tuple[str, ...]) -> None:
    """Serve the labelling page of a catalog and its API."""
    _serve(source, address, remote_pictures, pictures)


@click.command()
@click.option(
    "--out", default="demo-catalog", show_default=True, type=click.Path(path_type=Path), help="The catalog to make."
)
@click.option(
    "--scenes", default=4000, show_default=True, type=click.IntRange(200, 1_000_000), help="Number of scenes."
)
@click.option("--no-serve", is_flag=True, help="Make the catalog, but do not serve it.")
@as_object("address", Address, *listen_options)
def demo(out: Path, scenes: int, no_serve: bool, address: Address) -> None:
    """Render scenes, embed them with the small model shipped here, make a catalog and serve it. No network."""
    from gpubranches.demo import build_demo

    with progress_bar() as progress:
        build_demo(out, n=scenes, progress=progress)
    if not no_serve:
        _serve(ServedSource(out), address)


def _serve(source: ServedSource, address: Address, remote_pictures: bool = False, pictures: Sequence[str] = ()) -> None:
    from gpubranches import Catalog
    from gpubranches.app import create_app
    from gpubranches.app import serve as serve_app
    from gpubranches.app.access import read_token, require_token
    from gpubranches.app.proxies import Proxies

    token = read_token(address.token_file)
    require_token(address.host, token)
    proxies = Proxies.parse(address.behind_proxy, address.prefix)
    _tell(f"Opening the catalog {source.directory}")
    catalog = Catalog.open(source.directory)
    catalog.name_pictures(*pictures)
    tell_missing_pictures(catalog)
    _tell(f"Opening the {source.backend} backend over {catalog.n:,} items")
    with source.opened(catalog) as opened:
        _tell("Loading the model that reads texts and pictures")
        embedder = open_embedder_for(catalog, source.embedder)
        app = create_app(
            catalog, opened, embedder=embedder, seed=source.seed, token=token, remote_pictures=remote_pictures
        )
        name = f"[{address.host}]" if ":" in address.host else address.host
        told = f"with the {opened.name} backend. Ctrl-C stops."
        serve_app(
            app,
            address.host,
            address.port,
            allowed_hosts=address.allowed_hosts,
            proxies=proxies,
            ready=lambda port: click.echo(f"Serving {catalog.n:,} items at http://{name}:{port} {told}"),
            warm=lambda seconds: _tell(f"The kernels were compiled in {seconds:.1f} s; find all is fast now"),
        )


def _tell(stage: str) -> None:
    """Print a stage of the start on standard error."""
    click.echo(stage, err=True)
