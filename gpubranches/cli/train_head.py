"""The command that trains a head."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from gpubranches.cli.options import embedder_option, json_option, print_json, progress_bar
from gpubranches.core.files import parse_json
from gpubranches.encoders.heads.settings import ROUNDINGS, VARIANTS, HeadSettings
from gpubranches.errors import UsageError

_DEFAULT = HeadSettings()


@click.command("train-head")
@click.argument("source", metavar="CATALOG|EMBEDDINGS", type=click.Path(path_type=Path))
@click.option("--out", metavar="FILE", required=True, type=click.Path(path_type=Path), help="The head, .safetensors.")
@click.option("--pairs", metavar="FILE", type=click.Path(path_type=Path), help="Text embeddings, one of every image.")
@embedder_option
@click.option(
    "--without-texts", metavar="FILE", type=click.Path(path_type=Path), help="JSON list of names to leave out."
)
@click.option("--dim", "d", default=_DEFAULT.d, show_default=True, type=int, help="Code dims, a multiple of 4.")
@click.option("--variant", default=_DEFAULT.variant, show_default=True, type=click.Choice(VARIANTS), help="The towers.")
@click.option(
    "--hidden", default=",".join(map(str, _DEFAULT.hidden)), show_default=True, help="Widths of the hidden layers."
)
@click.option("--koleo", default=_DEFAULT.koleo, show_default=True, type=float, help="Weight of the KoLeo term.")
@click.option(
    "--text-weight", default=_DEFAULT.text_weight, show_default=True, type=float, help="Weight of the texts' ranking."
)
@click.option(
    "--rounding",
    default=_DEFAULT.rounding,
    show_default=True,
    type=click.Choice(ROUNDINGS),
    help="The 8-bit step while training.",
)
@click.option("--epochs", default=_DEFAULT.epochs, show_default=True, type=int, help="Passes over the rows, at most.")
@click.option("--batch", default=_DEFAULT.batch, show_default=True, type=int, help="Rows a step.")
@click.option("--learning-rate", default=_DEFAULT.learning_rate, show_default=True, type=float, help="Of AdamW.")
@click.option(
    "--patience", default=_DEFAULT.patience, show_default=True, type=int, help="Evaluations without a gain to stop at."
)
@click.option("--seed", default=_DEFAULT.seed, show_default=True, type=click.IntRange(0), help="Of all that is drawn.")
@click.option(
    "--device", default="auto", show_default=True, type=click.Choice(["auto", "cpu", "cuda"]), help="What computes."
)
@json_option
def train_head(
    source: Path,
    out: Path,
    pairs: Path | None,
    embedder: str | None,
    without_texts: Path | None,
    hidden: str,
    device: str,
    as_json: bool,
    **chosen: object,
) -> None:
    """Train a head on a catalog's embeddings, or on those of a file or clip-retrieval folder.

    The head's vectors keep the embeddings' ranking as well as their 8-bit codes can. With --pairs it is trained
    contrastively on images and their texts. A stopped run goes on where it was with the same command; `encode` makes
    a catalog's codes with the head.
    """
    from gpubranches.ingestion.train_head import train_head as train

    settings = HeadSettings(hidden=_widths(hidden), **chosen)  # type: ignore[arg-type]
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
        f"{report.recall_pca:.1%}; decoded, they lie at a cosine of {report.decoded:.2f} from the embeddings."
    )


def _widths(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(",") if part.strip())
    except ValueError as error:
        raise UsageError(f"--hidden: expected widths such as 1024,1024, got {text!r}") from error


def _names(path: Path) -> list[str]:
    try:
        names = parse_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"--without-texts: expected a JSON list of names in {path}, got a problem: {error}") from error
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise UsageError(f"--without-texts: expected a JSON list of strings in {path}, got {type(names).__name__}")
    return names
