"""Change Parquet files: columns, types, values and rows that their readers may not expect."""

from __future__ import annotations

import io
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.fuzz.mutations import NUMBERS, ODD_TEXTS, Random, mutated_parquet

_TYPES: tuple[pa.DataType, ...] = (
    pa.int8(), pa.int32(), pa.int64(), pa.uint64(), pa.float16(), pa.float32(), pa.float64(), pa.bool_(), pa.string(),
    pa.large_string(), pa.binary(), pa.binary(16), pa.binary(3), pa.date32(), pa.date64(), pa.timestamp("s"),
    pa.timestamp("ns"), pa.timestamp("us", "Europe/Berlin"), pa.time32("s"), pa.time64("ns"), pa.duration("us"),
    pa.decimal128(38, 2), pa.decimal256(60, 5), pa.null(), pa.list_(pa.int64()), pa.list_(pa.string()),
    pa.map_(pa.string(), pa.int64()), pa.struct([("a", pa.int64()), ("b", pa.list_(pa.string()))]),
    pa.dictionary(pa.int32(), pa.string()),
)  # fmt: skip
_NAMES = (
    "id", "error", "input", "image_path", "image_target", "caption", "score", "votes", "a.b", "", "c0", "place",
    "digest",
)  # fmt: skip


def parquet(table: pa.Table, **options: Any) -> bytes:
    """Return a table as a Parquet file."""
    out = pa.BufferOutputStream()
    pq.write_table(table, out, **options)
    return bytes(out.getvalue())


def mutated_table(data: bytes, rng: Random) -> bytes:
    """Return a Parquet file with a changed table, or one changed by `mutated_parquet`."""
    if rng.random() < 0.4:
        return mutated_parquet(data, rng)
    try:
        table = pq.read_table(io.BytesIO(data))
        for _ in range(rng.choice((1, 1, 2, 4))):
            table = _changed(table, rng)
        return parquet(table, compression=rng.choice(("snappy", "zstd", "none")), row_group_size=rng.choice((3, 10**6)))
    except (pa.ArrowException, OSError, ValueError, TypeError, OverflowError):  # Parquet cannot store it
        return mutated_parquet(data, rng)


def _changed(table: pa.Table, rng: Random) -> pa.Table:
    n, what = len(table), rng.randrange(9)
    if what == 0:
        return table.slice(rng.randrange(n + 1), rng.choice((0, 1, n)))
    if what == 1:
        return (
            table.take(pa.array([rng.randrange(n) for _ in range(rng.choice((n, n, 2 * n)))], pa.int64()))
            if n
            else table
        )
    at = rng.randrange(table.num_columns) if table.num_columns else None
    if at is None or what == 2:
        return table.append_column(rng.choice((*_NAMES, *ODD_TEXTS)), _column(n, rng))
    if what == 3:
        return table.remove_column(at)
    if what == 4:
        names = table.column_names
        names[at] = rng.choice((*_NAMES, *ODD_TEXTS, *names))
        return table.rename_columns(names)
    field = table.field(at)
    if what == 5:
        return table.set_column(at, field.name, _column(n, rng))
    if what == 6:
        return table.set_column(at, field.name, table.column(at).cast(rng.choice(_TYPES), safe=False))
    if what == 7:
        return table.set_column(at, field.name, pa.nulls(n, field.type))
    values = table.column(at).to_pylist()
    for _ in range(rng.choice((1, n))):
        if values:
            values[rng.randrange(n)] = _value(field.type, rng)
    return table.set_column(at, field.name, pa.array(values, field.type))


def _column(n: int, rng: Random) -> pa.Array:
    kind = rng.choice(_TYPES)
    return pa.array([_value(kind, rng) if rng.random() < 0.8 else None for _ in range(n)], kind)


def _value(kind: pa.DataType, rng: Random) -> Any:
    """Return an unusual value of a type, or None if there is none."""
    types = pa.types
    if types.is_integer(kind):
        return rng.choice(
            [number for number in NUMBERS if -(2 ** (kind.bit_width - 1)) <= number < 2 ** (kind.bit_width - 1)]
        )
    if types.is_floating(kind):
        return rng.choice((0.0, -0.0, float("nan"), float("inf"), 1.5, -2.0))
    if types.is_boolean(kind):
        return rng.random() < 0.5
    if types.is_string(kind) or types.is_large_string(kind) or types.is_dictionary(kind):
        return rng.choice([text for text in ODD_TEXTS if text != "\ud800"])
    if types.is_fixed_size_binary(kind):
        return rng.randbytes(kind.byte_width)
    if types.is_binary(kind):
        return rng.randbytes(rng.choice((0, 1, 40)))
    if types.is_list(kind) or types.is_map(kind):
        return [] if types.is_map(kind) else [_value(kind.value_type, rng)] * rng.choice((0, 1, 50))
    if types.is_struct(kind):
        return {field.name: _value(field.type, rng) for field in kind}
    if types.is_temporal(kind):
        most = 2**31 if kind.bit_width == 32 else 2**62
        raw = pa.array(
            [rng.choice((0, 1, -1, most - 1, -most, 86_399))], pa.int32() if kind.bit_width == 32 else pa.int64()
        )
        return raw.view(kind)[0]
    return None
