"""The options of an ingest or append: their defaults, and the check of their values."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from numbers import Integral, Real
from pathlib import Path
from typing import Any, Self

from gpubranches.encoders import Embedder
from gpubranches.encoders.quantizers import require_quantizer
from gpubranches.errors import UsageError

FRAMES_EVERY_S = 5.0
"""The default time between two frames of a video."""
SCENES = "scenes"
FRAMES_AT = ("times", SCENES)
"""Which frames of a video are items: at even times, or at scene changes. The first is the default."""
DIMS = 32
"""The default dims of codes by rca and pca."""
_OF_THE_CATALOG = {
    "head": "--head",
    "d": "--dims",
    "quantizer": "--quantizer",
    "keep_embeddings": "--no-embeddings",
    "frames_every": "--frames-every",
    "frames_at": "--frames-at",
    "codec_from": "--codec-from",
    "shard": "--shard",
    "fit_only": "--fit-only",
}
"""The options that a catalog fixes for all its items, with their names on the command line."""


@dataclass(frozen=True)
class IngestOptions:
    """The options of an ingest or append.

    embedder: an embedder, its spec, or the specs of two, see `open_embedder`; needed for pictures. head: "rca"
    (default), "pca", "none" or a file. d: code dims of rca and pca. quantizer: "uniform" or "quantile", see
    `scalar_quantizer`; None: the head's default. keep_embeddings: False to store only codes and bits, and to decode
    embeddings from the codes; this needs the file of a head with a decoder. frames_every: the time between two frames
    of a video, in seconds. pictures: the folder or address of the pictures that metadata name; None: the program looks
    for it. strict: raise DataError at the end if any input could not be read. batch_size: pictures that are embedded
    together; None: the embedder's choice. codec_from: a catalog whose head, fitted statistics, embedder and tiers are
    used. shard: "i/n", the i-th of n parts of the input, which `merge` joins. fit_only: make an empty catalog for
    `codec_from`, fitted to a sample of the input. frames_at: "times" (default), or "scenes": a frame of each scene, and
    one every `frames_every` seconds of a longer scene.
    """

    embedder: Embedder | str | Sequence[str] | None = None
    head: str | None = None
    d: int = DIMS
    quantizer: str | None = None
    keep_embeddings: bool = True
    frames_every: float = FRAMES_EVERY_S
    pictures: str | Path | None = None
    strict: bool = False
    batch_size: int | None = None
    codec_from: str | Path | None = None
    shard: str | None = None
    fit_only: bool = False
    frames_at: str = FRAMES_AT[0]

    @classmethod
    def chosen(cls, options: Self | None, named: dict[str, Any]) -> Self:
        """Return valid options: `options`, or the defaults, with those that are given by name.

        Raises UsageError for an unknown name, and as `validate`.
        """
        known = [field.name for field in fields(cls)]
        for name in named:
            if name not in known:
                raise UsageError(f"options: expected some of {', '.join(known)}, got {name!r:.40}")
        return replace(options or cls(), **named).validate()

    def validate(self) -> Self:
        """Return the options. Raises UsageError for a value of a wrong type or out of range.

        Whether head, dims and quantizer fit the embeddings is checked later, when the catalog is made.
        """
        for name, count in (("d", self.d), ("batch_size", self.batch_size)):
            if name == "batch_size" and count is None:
                continue
            if not isinstance(count, Integral) or isinstance(count, bool) or count < 1:
                raise UsageError(f"{name}: expected a whole number from 1, got {count!r:.40}")
        self._require_frames()
        switches = ("keep_embeddings", self.keep_embeddings), ("strict", self.strict), ("fit_only", self.fit_only)
        for name, switch in switches:
            if not isinstance(switch, bool):
                raise UsageError(f"{name}: expected True or False, got {switch!r:.40}")
        for name, text in (("head", self.head), ("quantizer", self.quantizer), ("shard", self.shard)):
            if text is not None and not isinstance(text, str):
                raise UsageError(f"{name}: expected a text or None, got {type(text).__name__}")
        if self.quantizer is not None:
            require_quantizer(self.quantizer)
        for name, path in (("pictures", self.pictures), ("codec_from", self.codec_from)):
            if path is not None and not isinstance(path, str | os.PathLike):
                raise UsageError(f"{name}: expected a path or None, got {type(path).__name__}")
        self._require_fitting()
        return self

    def _require_frames(self) -> None:
        every = self.frames_every
        if not isinstance(every, Real) or isinstance(every, bool) or not 0.01 <= every <= 86_400:
            raise UsageError(f"frames_every: expected seconds from 0.01 to 86,400, got {every!r:.40}")
        if self.frames_at not in FRAMES_AT:
            raise UsageError(f"frames_at: expected {' or '.join(FRAMES_AT)}, got {self.frames_at!r:.40}")

    def _require_fitting(self) -> None:
        """Raise UsageError for options that exclude each other."""
        if self.codec_from is not None and (other := self._decided("head", "d", "quantizer", "keep_embeddings")):
            raise UsageError(
                f"--codec-from: expected it without {other}, because that catalog decides it; leave it out"
            )
        if self.fit_only and (other := self._decided("codec_from", "shard")):
            raise UsageError(f"--fit-only: expected it without {other}, which uses its result; leave one of them out")

    def require_of_append(self) -> None:
        """Raise UsageError for an option that the catalog has fixed: an append uses the catalog's own."""
        if other := self._decided(*_OF_THE_CATALOG):
            raise UsageError(
                f"append: expected none of {', '.join(_OF_THE_CATALOG.values())}, since the catalog keeps its own, got "
                f"{other}"
            )

    def _decided(self, *names: str) -> str:
        """Return the given options that differ from the default, in the form of the command line, or ""."""
        default = type(self)()
        return ", ".join(_OF_THE_CATALOG[name] for name in names if getattr(self, name) != getattr(default, name))
