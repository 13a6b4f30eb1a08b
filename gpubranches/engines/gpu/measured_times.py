"""The choice between faiss and the kernels for nearest neighbours by embeddings, from times measured on the card."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from math import log
from pathlib import Path
from typing import Any, Literal, Self

from gpubranches.core.assets import folder
from gpubranches.core.files import parse_json, read_regular
from gpubranches.errors import DataError

Engine = Literal["faiss", "kernel"]
MEASURE = "python -m benchmarks.nearest CATALOG measures it"


@dataclass(frozen=True)
class Line:
    """Median times of one search in milliseconds: the k nearest of `batch` queries among rows, some filtered out.

    faiss_ms: None where faiss does not support the search.
    """

    rows: int
    k: int
    batch: int
    filter: bool
    kernel_ms: float
    faiss_ms: float | None


@dataclass(frozen=True)
class Measured:
    """The measured times, with the card, the commit and the date."""

    card: str
    commit: str
    date: str
    lines: tuple[Line, ...]

    @classmethod
    def read(cls, path: Path | None = None) -> Self | None:
        """Read the table beside the kernels, or return None if there is none. Raises DataError for an invalid file."""
        path = path or place()
        try:
            content = parse_json(read_regular(path))
            return cls(
                content["card"], content["commit"], content["date"], tuple(_line(one) for one in content["lines"])
            )
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"{path}: expected a table of measured times, got other content ({type(error).__name__}: {error}); "
                f"remove it, {MEASURE}"
            ) from error

    def write(self, path: Path | None = None) -> None:
        """Write the table beside the kernels."""
        (path or place()).write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")

    def quickest(self, rows: int, k: int, batch: int) -> tuple[Engine, Line] | None:
        """Return the faster engine at the measured point with the closest ratios; None if all have a filter."""
        lines = [line for line in self.lines if not line.filter]
        if not lines:
            return None

        def away(line: Line) -> float:
            pairs = (line.rows, rows), (line.k, k), (line.batch, batch)
            return sum(abs(log(max(own, 1) / max(asked, 1))) for own, asked in pairs)

        closest = min(lines, key=away)
        faster = closest.faiss_ms is not None and closest.faiss_ms < closest.kernel_ms
        return ("faiss" if faster else "kernel"), closest


def choose(
    measured: Measured | None, card: str, resident: Collection[str], rows: int, k: int, batch: int
) -> tuple[Engine, str]:
    """Return the engine for a query without a filter, and the reason in a few words; resident: tiers on the card."""
    if "embeddings" not in resident:
        return "kernel", "the embeddings are not on the card"
    if measured is None or measured.card != card:
        return "kernel", f"faiss has not been measured on {card}: {MEASURE}"
    found = measured.quickest(rows, k, batch)
    if found is None:
        return "kernel", f"faiss has not been measured without a filter on {card}: {MEASURE}"
    engine, line = found
    at = f"{line.rows:,} rows, k {line.k}, {line.batch} queries"
    return engine, f"measured {measured.date} on {card} at {at}: faiss {line.faiss_ms} ms, kernels {line.kernel_ms} ms"


def place() -> Path:
    """Return the path of the table."""
    return folder("kernels") / "nearest.json"


def _line(content: Mapping[str, Any]) -> Line:
    whole = rows, k, batch = content["rows"], content["k"], content["batch"]
    if any(type(one) is not int or not 1 <= one < 2**63 for one in whole):
        raise ValueError(f"expected rows, k and batch of 1 or more, got {rows!r:.40}, {k!r:.40} and {batch!r:.40}")
    if type(content["filter"]) is not bool:
        raise ValueError(f"expected a filter that is true or false, got {content['filter']!r:.40}")
    faiss_ms = content["faiss_ms"]
    kernel_ms = _milliseconds(content["kernel_ms"])
    return Line(rows, k, batch, content["filter"], kernel_ms, None if faiss_ms is None else _milliseconds(faiss_ms))


def _milliseconds(value: object) -> float:
    if type(value) not in (int, float) or not 0 <= value < math.inf:  # type: ignore[operator]
        raise ValueError(f"expected milliseconds, got {value!r:.40}")
    try:
        return float(value)  # type: ignore[arg-type]
    except OverflowError as error:
        raise ValueError(f"expected milliseconds, got {value!r:.40}") from error
