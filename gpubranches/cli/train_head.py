"""The command that trains a head."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from gpubranches.cli.options import Decorator, as_object, embedder_option, json_option, print_json, progress_bar
from gpubranches.core.files import parse_json
from gpubranches.encoders.heads.settings import ROUNDINGS, VARIANTS, HeadSettings
from gpubranches.errors import UsageError

_DEFAULT = HeadSettings()


def _widths(_: click.Context, __: click.Parameter, text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(",") if part.strip())
    except ValueError as error:
        raise UsageError(f"--hidden: expected widths such as 1024,1024, got {text!r}") from error


def _setting(*names: str, default: object, kind: Any, help: str) -> Decorator[Any]:
    return click.option(*names, default=default, show_default=True, type=kind, help=help)


settings_options = as_object(
    "settings",
    HeadSettings,
    _setting("--dim", "d", default=_DEFAULT.d, kind=int, help="Code dims, a multiple of 4."),
    _setting("--variant", default=_DEFAULT.variant, kind=click.Choice(VARIANTS), help="The towers."),
    click.option(
        "--hidden",
        default=",".join(map(str, _DEFAULT.hidden)),
        show_default=True,
        callback=_widths,
        help="Widths of the hidden layers.",
    ),
    _setting("--koleo", default=_DEFAULT.koleo, kind=float, help="Weight of the KoLeo term."),
    _setting("--text-weight", default=_DEFAULT.text_weight, kind=float, help="Weight of the texts' ranking."),
    _setting(
        "--rounding", default=_DEFAULT.rounding, kind=click.Choice(ROUNDINGS), help="The 8-bit step while training."
    ),
    _setting("--epochs", default=_DEFAULT.epochs, kind=int, help="The largest number of passes over the rows."),
    _setting("--batch", default=_DEFAULT.batch, kind=int, help="Rows per step."),
    _setting("--learning-rate", default=_DEFAULT.learning_rate, kind=float, help="Learning rate of AdamW."),
    _setting(
        "--patience", default=_DEFAULT.patience, kind=int, help="Stop after this many evaluations without a gain."
    ),
    _setting("--seed", default=_DEFAULT.seed, kind=click.IntRange(0), help="Seed of all random draws."),
)
"""The options of the training, as one argument `settings`."""


@click.command("train-head")
@click.argument("source", metavar="CATALOG|EMBEDDINGS", type=click.Path(path_type=Path))
@click.option("--out", metavar="FILE", required=True, type=click.Path(path_type=Path), help="The head, .safetensors.")
@click.option("--pairs", metavar="FILE", type=click.Path(path_type=Path), help="Text embeddings, one for each image.")
@embedder_option
@click.option(
    "--without-texts", metavar="FILE", type=click.Path(path_type=Path), help="JSON list of names to leave out."
)
@click.option(
    "--device", default="auto", show_default=True, type=click.Choice(["auto", "cpu", "cuda"]), help="What computes."
)
@settings_options
@json_option
def train_head(
    source: Path,
    out: Path,
    pairs: Path | None,
    embedder: str | None,
    without_texts: Path | None,
    device: str,
    settings: HeadSettings,
    as_json: bool,
) -> None:
    """Train a head on a catalog's embeddings, or on those of a file or clip-retrieval folder.

    The head learns to keep the ranking of the embeddings in 8-bit codes. With --pairs it is trained contrastively on
    pairs of images and texts. The same command resumes a stopped run; `encode` makes a catalog's codes with the head.
    """
    from gpubranches.ingestion.train_head import train_head as train

    with progress_bar() as progress:
        report = train(
            source,
            out,
            settings=settings,
            embedder=embedder,
            without_texts=[] if without_texts is None else _names(without_texts),
            pairs=pairs,
            device=device,
            progress=progress,
        )
    if as_json:
        print_json({"head": str(out), **asdict(report)})
        return
    click.echo(
        f"{out}: trained on {report.rows:,} rows and {report.texts:,} texts in {report.seconds:.0f} s on "
        f"{report.device}; of the rows nearest to held-out ones its codes find {report.recall:.1%}, PCA's "
        f"{report.recall_pca:.1%}; the mean cosine of decoded and original embeddings is {report.decoded:.2f}."
    )


def _names(path: Path) -> list[str]:
    try:
        names = parse_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"--without-texts: expected a JSON list of names in {path}, got a problem: {error}") from error
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise UsageError(f"--without-texts: expected a JSON list of strings in {path}, got {type(names).__name__}")
    return names
