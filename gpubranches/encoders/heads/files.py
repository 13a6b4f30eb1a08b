"""Heads opened by name or from a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.numpy import load

from gpubranches.encoders.heads.identity import IdentityHead
from gpubranches.encoders.heads.linear import PCAHead, RCAHead
from gpubranches.encoders.heads.protocol import Head
from gpubranches.encoders.heads.towers import TrainedHead
from gpubranches.errors import CatalogFormatError, SpaceMismatchError, UsageError

_KINDS: dict[str, Any] = {"rca": RCAHead, "pca": PCAHead, "none": IdentityHead, "trained": TrainedHead}

LINEAR = ("rca", "pca")
"""Heads that are fitted to the embeddings of a catalog, with any number of code dims. The first is the default."""


def load_head(path: Path) -> Head:
    """Read a head.safetensors. Raises CatalogFormatError for another or a damaged file."""
    try:
        with safe_open(path, "np") as file:
            kind = (file.metadata() or {}).get("kind", "")
        head: Head = _KINDS[kind].from_tensors(load(path.read_bytes()))
    except (OSError, SafetensorError, KeyError, ValueError, IndexError) as error:
        raise CatalogFormatError(
            f"{path}: expected a head ({', '.join(_KINDS)}) as safetensors, got a problem: {error}"
        ) from error
    return head


def open_head(spec: str, *, d: int = 32) -> tuple[Head, bool]:
    """Open a head by "rca", "pca", "none" or a file; return it and whether it is fitted already.

    d: code dims of rca and pca.
    """
    if spec in LINEAR:
        head: Head = _KINDS[spec](d)
        return head, False
    if spec == "none":
        return IdentityHead(), False
    if not Path(spec).is_file():
        raise UsageError(f"head: expected {', '.join(LINEAR)}, none or a head's file, got {spec!r}")
    return load_head(Path(spec)), True


def require_head(head: Head, D: int, embedder: str = "") -> None:
    """Raise UsageError unless a fitted head accepts the embeddings of a catalog or an input.

    D: their dims; embedder: identity of what made them, "" where it is unknown. Raises SpaceMismatchError for a head
    trained on the embeddings of another model.
    """
    if head.D != D:
        raise UsageError(
            f"head: expected one for embeddings of {D} dims{f' of {embedder}' if embedder else ''}, got one for "
            f"{head.D}; use another, or train one on these embeddings"
        )
    if head.embedder and embedder and head.embedder != embedder:
        raise SpaceMismatchError(
            f"head: expected one for embeddings of {embedder}, got one trained on those of {head.embedder}; take "
            "another, or train one on these embeddings"
        )
