"""The common start of search, refine, explain and serve: a catalog, its embedder and backend, and marks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click
import numpy as np
from numpy.typing import NDArray

from gpubranches.cli.options import (
    as_object,
    backend_option,
    nn_option,
    opened_backend,
    own_embedder_option,
    parse_ids,
    seed_option,
)
from gpubranches.errors import UsageError

if TYPE_CHECKING:
    from gpubranches.catalog import Catalog
    from gpubranches.engines import Backend
    from gpubranches.service import Session


@dataclass(frozen=True)
class Source:
    """The catalog of a command, with its embedder and backend. embedder: a spec, None for the catalog's own."""

    directory: Path
    embedder: str | None = None
    backend: str = "auto"
    nn: str = "auto"
    seed: int = 0

    @contextmanager
    def session(self) -> Iterator[Session]:
        """Open the catalog and the backend, and yield a session over them; it closes at the end of the block."""
        from gpubranches import Catalog, Session

        catalog = Catalog.open(self.directory)
        with (
            opened_backend(self.backend, catalog, self.nn) as backend,
            Session(catalog, backend, embedder=self.embedder or "auto", seed=self.seed) as session,
        ):
            yield session


@dataclass(frozen=True)
class ServedSource(Source):
    """The catalog of a server. cluster, gpus, shards: the user's options on the shards of the ray backend."""

    cluster: str | None = None
    gpus: str | None = None
    shards: int | None = None

    @contextmanager
    def opened(self, catalog: Catalog) -> Iterator[Backend]:
        """Yield the open backend. Raises UsageError for options of another backend."""
        chosen = None
        if self.backend == "ray":
            from gpubranches.engines.sharded.ray_cluster import Cluster

            gpus = int(self.gpus) if self.gpus is not None and self.gpus.isdecimal() else self.gpus
            chosen = Cluster(self.cluster, gpus, self.shards)
        elif given := [name for name in ("cluster", "gpus", "shards") if getattr(self, name) is not None]:
            raise UsageError(f"--{given[0]}: expected --backend ray with it, got --backend {self.backend}")
        with opened_backend(self.backend, catalog, self.nn, chosen) as backend:
            yield backend


@dataclass(frozen=True)
class MarkedIds:
    """The marks of a command, (p,) and (m,) int64. Raises UsageError for an item that is in both."""

    positive: NDArray[np.int64]
    negative: NDArray[np.int64]

    def __post_init__(self) -> None:
        if len(both := np.intersect1d(self.positive, self.negative)):
            raise UsageError(
                f"--negative: expected other items than --positive, got {both[0]} in both; leave it out of one"
            )

    def put_into(self, session: Session) -> None:
        """Mark the items in a session."""
        session.mark(self.positive, +1)
        session.mark(self.negative, -1)


def _ids(_: click.Context, option: click.Parameter, text: str | None) -> NDArray[np.int64]:
    return parse_ids(text, option.opts[0])


search_source = as_object("source", Source, own_embedder_option, backend_option, nn_option)
"""The options of searches, with the catalog as one argument `source`."""
model_source = as_object("source", Source, own_embedder_option, backend_option, seed_option)
"""The options of training and applying a model, with the catalog as one argument `source`."""
serve_source = as_object(
    "source",
    ServedSource,
    own_embedder_option,
    click.option(
        "--backend",
        default="auto",
        show_default=True,
        type=click.Choice(["auto", "gpu", "cpu", "kdtree", "oracle", "ray"]),
        help="The backend; auto is gpu if there is a usable card, else cpu; ray divides the catalog among machines "
        "or cards.",
    ),
    nn_option,
    seed_option,
    click.option("--cluster", metavar="HOST:PORT", help="ray: the cluster; this machine must be one of its nodes."),
    click.option("--gpus", metavar="N|all", help="ray: number of cards to use; without it, CPUs are used."),
    click.option("--shards", type=click.IntRange(1), help="ray: number of shards on CPUs; by default one per node."),
)
"""The options of serving, with the catalog as one argument `source`."""
mark_options = as_object(
    "marks",
    MarkedIds,
    click.option(
        "--positive",
        metavar="IDS|@FILE",
        required=True,
        callback=_ids,
        help="Ids of items that are right: 3,17,42 or @FILE.",
    ),
    click.option("--negative", metavar="IDS|@FILE", callback=_ids, help="Ids of items that are wrong."),
)
"""The marks that a model is trained on, as one argument `marks`."""
