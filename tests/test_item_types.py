"""Whatever a Parquet file can hold of items is read, filtered, shown, compacted and exported."""

import csv
import io
import json
import math
from contextlib import suppress

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from gpubranches import Catalog, Ranking
from gpubranches.catalog.metadata.conditions import column_text, value_condition
from gpubranches.errors import UsageError
from gpubranches.ingestion import append, ingest
from gpubranches.service.export import FORMATS, ItemTable

N = 5
UNITS = ("s", "ms", "us", "ns")
EXTREME = (0, 1, -1, 86_399, 2**31 - 1, -(2**31), 253_402_300_800_000_000, 2**63 - 1, -(2**63))

PLAIN = st.sampled_from(
    [
        pa.null(), pa.bool_(), pa.int8(), pa.uint16(), pa.int32(), pa.int64(), pa.uint64(), pa.float16(), pa.float32(),
        pa.float64(), pa.string(), pa.large_string(), pa.string_view(), pa.binary(), pa.large_binary(), pa.binary(3),
        pa.binary_view(), pa.decimal128(38, 5), pa.decimal256(76, 0), pa.date32(), pa.date64(), pa.time32("s"),
        pa.time32("ms"), pa.time64("us"), pa.time64("ns"), pa.uuid(),
        *(pa.timestamp(unit, zone) for unit in UNITS for zone in (None, "UTC", "+05:30", "Europe/Berlin", "No/Where")),
        *map(pa.duration, UNITS),
    ]
)  # fmt: skip
NAMES = st.sampled_from(["a", "caption", "url", "label", 'b "c"', "", "ü.x"])


def nested(inner):
    fields = st.lists(st.tuples(NAMES, inner), min_size=1, max_size=3, unique_by=lambda field: field[0])
    return st.one_of(
        inner.map(pa.list_),
        inner.map(pa.large_list),
        inner.filter(lambda kind: kind != pa.null()).map(lambda kind: pa.list_(kind, 2)),
        fields.map(pa.struct),
        st.tuples(st.sampled_from([pa.string(), pa.int32(), pa.date32()]), inner).map(lambda pair: pa.map_(*pair)),
    )


NOT_OF_PARQUET = {
    "interval": pa.array([(1, 2, 3), None], pa.month_day_nano_interval()),
    "list of intervals": pa.array([[(1, 2, 3)], None], pa.list_(pa.month_day_nano_interval())),
    "empty struct": pa.array([{}, None], pa.struct([])),
    "list of empty structs": pa.array([[{}], None], pa.list_(pa.struct([]))),
    "runs": pa.RunEndEncodedArray.from_arrays([1, 2], ["x", None]),
    "union": pa.UnionArray.from_dense(
        pa.array([0, 1], pa.int8()), pa.array([0, 0], pa.int32()), [pa.array([5]), pa.array([None], pa.string())]
    ),
}


def test_types_that_parquet_lacks_become_text(tmp_path):
    rows = pa.array(np.random.default_rng(0).standard_normal((2, 8)).tolist(), pa.list_(pa.float32()))
    table = pa.table({"embedding": rows, **NOT_OF_PARQUET})
    with pa.ipc.new_file(str(tmp_path / "x.arrow"), table.schema) as file:
        file.write_table(table)
    first, second = ingest(tmp_path / "x.arrow", tmp_path / "c").items([0, 1])
    interval = "MonthDayNano(months=1, days=2, nanoseconds=3)"
    texts = [interval, f'["{interval}"]', "{}", "[{}]", "x", "5"]
    assert first == {"id": 0, **dict(zip(NOT_OF_PARQUET, texts, strict=True))}
    assert second == {"id": 1, **dict.fromkeys(NOT_OF_PARQUET)}


KINDS = st.one_of(
    st.recursive(PLAIN, nested, max_leaves=4),
    st.sampled_from([pa.string(), pa.int64(), pa.binary()]).map(lambda kind: pa.dictionary(pa.int32(), kind)),
)


def drawn(rng, kind, n, whole=False):
    """Return an array of a type with extreme values, many of them missing unless `whole`."""
    mask = np.zeros(n, np.bool_) if whole else rng.random(n) < 0.3
    if pa.types.is_null(kind):
        return pa.nulls(n)
    if pa.types.is_dictionary(kind):
        return drawn(rng, kind.value_type, n).dictionary_encode()
    if isinstance(kind, pa.BaseExtensionType):
        return pa.ExtensionArray.from_storage(kind, drawn(rng, kind.storage_type, n))
    if pa.types.is_struct(kind):
        return pa.StructArray.from_arrays(
            [drawn(rng, field.type, n) for field in kind], fields=list(kind), mask=pa.array(mask)
        )
    if pa.types.is_fixed_size_list(kind):
        return pa.FixedSizeListArray.from_arrays(drawn(rng, kind.value_type, 2 * n), type=kind, mask=pa.array(mask))
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_map(kind):
        ends = np.cumsum([0, *rng.integers(0, 3, n)])
        offsets = pa.array(ends.tolist(), pa.int64() if pa.types.is_large_list(kind) else pa.int32())
        if pa.types.is_map(kind):
            keys, values = drawn(rng, kind.key_type, ends[-1], True), drawn(rng, kind.item_type, ends[-1])
            return pa.MapArray.from_arrays(offsets, keys, values, mask=pa.array(mask))
        make = pa.LargeListArray if pa.types.is_large_list(kind) else pa.ListArray
        return make.from_arrays(offsets, drawn(rng, kind.value_type, ends[-1]), type=kind, mask=pa.array(mask))
    return flat(rng, kind, n, mask)


def flat(rng, kind, n, mask):
    numbers = rng.choice(np.array(EXTREME), n)
    if pa.types.is_boolean(kind):
        return pa.array(numbers > 0, kind, mask=mask)
    if pa.types.is_integer(kind):
        return pa.array(numbers.astype(kind.to_pandas_dtype()), kind, mask=mask)
    if pa.types.is_floating(kind):
        values = rng.choice([0.5, -0.0, np.nan, np.inf, -np.inf, 1e-7], n)
        return pa.array(values.astype(kind.to_pandas_dtype()), kind, mask=mask)
    if pa.types.is_decimal(kind):
        return pa.array(numbers.tolist(), mask=mask).cast(kind)
    if pa.types.is_temporal(kind):
        width = np.int32 if kind.bit_width == 32 else np.int64
        numbers = numbers.astype(width)
        if kind == pa.date64():
            numbers -= numbers % 86_400_000
        return pa.array(numbers, mask=mask).view(kind)
    texts = rng.choice(np.array([b"\xff\xfe0", b"dog", b"=1+", "ü€".encode()[:3], b"a\0b"], object), n)
    if pa.types.is_fixed_size_binary(kind):
        return pa.array([bytes(kind.byte_width)] * n, kind, mask=mask)
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or kind == pa.string_view():
        bytes_of = pa.large_binary() if pa.types.is_large_string(kind) else pa.binary()
        array = pa.array(texts, bytes_of, mask=mask)  # a file may hold what is no UTF-8
        return array.view(pa.string() if kind == pa.string_view() else kind).cast(kind)
    return pa.array(texts, pa.binary(), mask=mask).cast(kind)


def write_input(path, columns, rng):
    """Write a clip-retrieval folder of N items with such columns; return their metadata as it lies there."""
    for part in ("img_emb", "metadata"):
        (path / part).mkdir(parents=True)
    np.save(path / "img_emb/img_emb_0.npy", np.random.default_rng(0).standard_normal((N, 8), np.float32))
    schema = pa.schema([pa.field(name, kind) for name, kind in columns])
    table = pa.table([drawn(rng, kind, N) for _, kind in columns], schema=schema)
    try:
        pq.write_table(table, path / "metadata/metadata_0.parquet")
    except pa.ArrowException:  # a type or a value that the format does not hold
        reject()
    return pq.read_table(path / "metadata/metadata_0.parquet")


def exported(catalog, format):
    n = catalog.n
    ranking = Ranking(
        np.arange(n), np.linspace(1, 0, n).astype(np.float32), np.ones(n, np.bool_), n, n, 0.0,
        votes=np.ones(n, np.uint16),
    )  # fmt: skip
    return b"".join(FORMATS[format].write(ItemTable(catalog, ranking)))


def strict(text):
    """Read JSON as its standard says."""

    def refuse(name):
        raise AssertionError(f"{name} is no JSON")

    return json.loads(text, parse_constant=refuse)


def check_uses(catalog, names):
    """Do with a catalog all that is done with metadata; return its items as they are shown and as they are exported."""
    shown = catalog.items(range(catalog.n))
    assert strict(json.dumps(shown)) == shown
    for column in catalog.described_columns():
        for value, count in column.values:
            if not isinstance(value, float):  # a number of 32 bits is written as one of 64
                assert catalog.count(catalog.where(value_condition(column.name, value))) == count
    for name in names:
        for condition in ("IS NOT NULL", "= 1", "> '2020-01-01'", "LIKE '%o%'"):
            with suppress(UsageError):  # for a type that cannot be compared so
                catalog.where(f"{column_text((name,))} {condition}")
    assert len(exported(catalog, "jsonl").splitlines()) == catalog.n
    assert len(list(csv.reader(io.StringIO(exported(catalog, "csv").decode(), newline="")))) == catalog.n + 1
    assert len(pq.read_table(io.BytesIO(exported(catalog, "parquet")))) == catalog.n
    if "url" in names:
        pq.read_table(io.BytesIO(exported(catalog, "img2dataset")))
    return shown, [
        {"id": row["id"], **{name: row[name] for name in names}} for row in strict(exported(catalog, "json"))
    ]


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())])
@pytest.mark.parametrize("depth", [0, 1, 2])
def test_texts_that_are_no_utf8_are_listed_and_found_at_any_depth(tmp_path, kind, depth):
    column = pa.array([b"\xff0", b"dog", b"\xff0", b"dog", b"\xff0"], pa.binary()).view(pa.string()).cast(kind)
    for _ in range(depth):
        column = pa.StructArray.from_arrays([column], names=["a"])
    for name in ("img_emb", "metadata"):
        (tmp_path / "in" / name).mkdir(parents=True)
    np.save(tmp_path / "in/img_emb/img_emb_0.npy", np.random.default_rng(0).standard_normal((N, 8), np.float32))
    pq.write_table(pa.table({"a": column}), tmp_path / "in/metadata/metadata_0.parquet")
    ingest([tmp_path / "in"], tmp_path / "c", d=4)
    catalog = Catalog.open(tmp_path / "c")
    check_uses(catalog, ["a"])
    (listed,) = (one.values for one in catalog.described_columns() if one.name == ("a",) * (depth + 1))
    assert listed == (("\ufffd0", 3), ("dog", 2))
    assert catalog.count(catalog.where(f"{column_text(('a',) * (depth + 1))} = 'dog'")) == 2


COLUMNS = st.lists(st.tuples(NAMES, KINDS), min_size=1, max_size=3, unique_by=lambda column: column[0])
UNLIKE = st.lists(st.tuples(st.sampled_from(["a", "url"]), KINDS), min_size=1, unique_by=lambda column: column[0])


@settings(max_examples=25)
@given(COLUMNS, st.integers(0, 99))
def test_any_column_is_read_filtered_shown_compacted_and_exported(tmp_path_factory, columns, seed):
    folder = tmp_path_factory.mktemp("types")
    table = write_input(folder / "in", columns, np.random.default_rng(seed))
    ingest([folder / "in"], folder / "c", d=4)
    catalog = Catalog.open(folder / "c")
    shown, sent = check_uses(catalog, table.column_names)
    assert shown == sent
    for name in table.column_names:
        missing = table[name].is_null().to_pylist()
        assert all(row[name] is None for row, gone in zip(shown, missing, strict=True) if gone)
        if not pa.types.is_struct(table[name].type):
            there = catalog.where(f"{column_text((name,))} IS NOT NULL")
            nan = pa.types.is_floating(table[name].type) and sum(map(math.isnan, table[name].drop_null().to_pylist()))
            assert catalog.count(there) == N - sum(missing) - nan
    catalog.compact()
    assert check_uses(Catalog.open(folder / "c"), table.column_names) == (shown, sent)


@settings(max_examples=10)
@given(UNLIKE, UNLIKE, st.integers(0, 99))
def test_columns_that_are_of_other_types_in_another_file_are_used_too(tmp_path_factory, columns, others, seed):
    folder = tmp_path_factory.mktemp("types")
    rng = np.random.default_rng(seed)
    names = list(
        dict.fromkeys(
            write_input(folder / "a", columns, rng).column_names + write_input(folder / "b", others, rng).column_names
        )
    )
    ingest([folder / "a"], folder / "c", d=4)
    append(folder / "c", [folder / "b"])
    ingest([folder / "a", folder / "b"], folder / "joined", d=4)
    catalog = Catalog.open(folder / "c")
    _, sent = check_uses(catalog, names)
    catalog.compact()
    shown, again = check_uses(Catalog.open(folder / "c"), names)
    assert shown == again == sent
    assert [{**row, "input": None} for row in check_uses(Catalog.open(folder / "joined"), names)[1]] == [
        {**row, "input": None} for row in sent
    ]
