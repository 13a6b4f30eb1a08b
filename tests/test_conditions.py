"""Filters over the metadata: their grammar, their safety, and that they mean what plain Python says they mean."""

import datetime as dt
import os
import re
import sys
from decimal import Decimal

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from clusters import write_world
from forking import forked
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from test_texts import english_in

from gpubranches import Catalog
from gpubranches.catalog import reader
from gpubranches.catalog.items import read_table, unified_schema
from gpubranches.catalog.metadata.choices import selected_values, toggle_value
from gpubranches.catalog.metadata.condition_sql import to_sql
from gpubranches.catalog.metadata.conditions import (
    MAX_DEPTH,
    MAX_LENGTH,
    And,
    Comparison,
    Not,
    Or,
    column_text,
    columns_of,
    parse,
    to_text,
    value_condition,
)
from gpubranches.catalog.metadata.tables import json_rows
from gpubranches.catalog.metadata_table import MetadataTable, _database
from gpubranches.errors import UsageError
from gpubranches.ingestion import append, ingest
from gpubranches.service.texts import texts_in

ROWS = [
    {"id": 0, "n": 3, "x": 0.5, "t": "dog", "b": True, "d": dt.date(2024, 1, 1), "In": "up", "a": {"b c": 1}},
    {"id": 1, "n": None, "x": None, "t": "Hot dog", "b": False, "d": None, "In": "down", "a": None},
    {
        "id": 2,
        "n": -2,
        "x": float("nan"),
        "t": None,
        "b": None,
        "d": dt.date(2025, 6, 1),
        "In": None,
        "a": {"b c": None},
    },
    {"id": 3, "n": 7, "x": -1.5, "t": "it's", "b": True, "d": dt.date(2023, 1, 1), "In": "up", "a": {"b c": 3}},
    {"id": 4, "n": 7, "x": 1e300, "t": "", "b": None, "d": None, "In": "Up", "a": {"b c": 1}},
    {"id": 5, "n": 0, "x": 0.0, "t": "a\nb%", "b": False, "d": dt.date(2024, 1, 1), "In": "up", "a": None},
]


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    path = tmp_path_factory.mktemp("table") / "items.parquet"
    rows = pa.Table.from_pylist(ROWS)
    moments = pa.array([dt.datetime(2024, 1, 1, hour) for hour in range(6)])
    rows = rows.append_column("at", moments).append_column("zoned", moments.cast(pa.timestamp("us", "UTC")))
    rows = rows.append_column("tags", pa.array([["x"]] * 6)).append_column("none", pa.nulls(6))
    rows = rows.append_column("coded", pa.array(["p", "q", None, "p", "p", "q"]).dictionary_encode())
    pq.write_table(rows, path)
    return MetadataTable([path])


@pytest.mark.parametrize(
    ("condition", "ids"),
    [
        ("n = 7", [3, 4]),
        ("n <> 7", [0, 2, 5]),
        ("n != 7 and not n < 0", [0, 5]),
        ("n IN (3, 0, 99) OR n is null", [0, 1, 5]),
        ("n NOT BETWEEN 0 AND 3", [2, 3, 4]),
        ("x >= 0", [0, 4, 5]),
        ("x IS NULL", [1, 2]),
        ("x < 1e3 AND x > -.6", [0, 5]),
        ("t LIKE '%dog'", [0, 1]),
        ("t like 'Hot%'", [1]),
        ("t ILIKE 'H_T%'", [1]),
        ("t NOT LIKE '%o%'", [3, 4, 5]),
        ("t LIKE 'a_b_'", [5]),
        ("t = 'it''s' OR t = ''", [3, 4]),
        ("b = true", [0, 3]),
        ("NOT b = TRUE", [1, 5]),
        ("d >= '2024-01-01'", [0, 2, 5]),
        ("at > '2024-01-01 03:30' AND zoned < '2024-01-01 06:00+01:00'", [4]),
        ("\"In\" = 'up'", [0, 3, 5]),
        ('a."b c" = 1', [0, 4]),
        ('a."b c" IS NULL', [1, 2, 5]),
        ("none = 3 OR none IS NULL AND id < 2", [0, 1]),
        ("tags IS NOT NULL AND coded = 'q'", [1, 5]),
        ("n=3 OR n=7 AND b=true OR(id=5)", [0, 3, 5]),
    ],
)
def test_a_condition_lets_in_what_it_says(table, condition, ids):
    assert sorted(table.select(condition).tolist()) == ids


@pytest.mark.parametrize(
    ("condition", "part"),
    [
        ("", "a column at letter 1, got the end"),
        ("n", "letter 2, after 'n', got the end"),
        ("n = ", "a number, a 'text' in quotes, TRUE or FALSE at letter 5"),
        ("n = 3 n = 4", "AND, OR or the end at letter 7, after 'n = 3', got 'n'"),
        ("(n = 3", "AND, OR or ) at letter 7"),
        ("n = 3; DROP TABLE items", "letter 6, after 'n = 3', got '; DROP"),
        ("n IN ()", "a number, a 'text'"),
        ("n = NULL", "IS NULL"),
        ("t LIKE 3", "a 'pattern'"),
        ("t = 'open", "a closing '"),
        ("and = 3", "a column at letter 1, got 'and'"),
        ("a. = 3", "a field's name at letter 4"),
        ("lower(t) = 'x'", "got '('"),
        ("n = (SELECT 1)", "got '('"),
        ("id IN (SELECT a FROM read_csv('x.csv'))", "got 'SELECT'"),
        ("n = 3 -- comment", "got '-- comment'"),
        ("coded2 = 3", "got coded2; perhaps coded"),
        ("m = 3", 'one of the columns id, n, x, t, b, d, "In", a."b c"'),
        ("at2 = 3", "perhaps at"),
        ("AT IS NULL", "perhaps at"),
        ("n = 'x'", "n at letter 1 holds numbers, expected a number, got 'x'"),
        ("n = 1 AND n = true", "n at letter 11 holds numbers, expected a number, got true"),
        ("t = 3", "holds texts, expected a 'text', got 3"),
        ("t IN ('a', 3)", "holds texts"),
        ("b = 1", "TRUE or FALSE"),
        ("b < TRUE", "compare with = or !="),
        ("n LIKE '3%'", "LIKE is for texts"),
        ("d = '2024-13-01'", "such as '2024-05-31'"),
        ("tags = 'x'", "can only be tested by IS NULL"),
        ("x = 1e999", "at most 1e308"),
        ("NOT " * (MAX_DEPTH + 1) + "n = 3", f"at most {MAX_DEPTH} parentheses"),
        ("t = '" + "x" * MAX_LENGTH + "'", "at most 10,000 letters"),
        ("t LIKE '" + "%x" * 600 + "'", "at most 1,000 letters"),
    ],
)
def test_what_is_no_condition_is_told_where_and_why(table, condition, part):
    with pytest.raises(UsageError, match=re.escape(part)) as raised:
        table.select(condition)
    assert str(raised.value).startswith("where: ")
    german = texts_in("de")(raised.value.reason, **raised.value.values)
    assert german.endswith((".", "?"))
    assert english_in(re.sub(r"Spalte \S+|Es gibt: .*|Ist .* gemeint|dort steht .*|nicht \S+", "", german)) == []


@given(text=st.text("nt=<>'\"() ,.%1eE+-;ANDORLIKEnullin_", max_size=30))
@settings(max_examples=300)
def test_any_text_is_read_or_refused(table, text):
    try:
        sql, values = to_sql(parse(text), table.kinds)
    except UsageError:
        return
    assert re.fullmatch(
        r"(c\d+|[()?,<>= ]|'(i?s)'|AND|OR|NOT|IN|IS|NULL|BETWEEN|CAST|AS|BOOLEAN|regexp_full_match)+", sql
    )
    assert sql.count("?") == len(values)


# A second, plain reading of a condition's tree: True, False or None, after SQL's three values.


def told(condition, row):
    match condition:
        case Not(part):
            value = told(part, row)
            return None if value is None else not value
        case And(parts):
            values = [told(part, row) for part in parts]
            return False if False in values else None if None in values else True
        case Or(parts):
            values = [told(part, row) for part in parts]
            return True if True in values else None if None in values else False
    value = row[condition.column[0]]
    value = None if isinstance(value, float) and np.isnan(value) else value
    if condition.operator == "null":
        return (value is None) != condition.negated
    return None if value is None else holds(condition, value) != condition.negated


def holds(test, value):
    first, last = test.values[0], test.values[-1]
    if test.operator in ("like", "ilike"):
        pattern = "".join({"%": ".*", "_": "."}.get(letter, re.escape(letter)) for letter in first)
        return bool(re.fullmatch(pattern, value, re.DOTALL | (re.IGNORECASE if test.operator == "ilike" else 0)))
    return {
        "=": value == first,
        "<>": value != first,
        "<": value < first,
        "<=": value <= first,
        ">": value > first,
        ">=": value >= first,
        "in": value in test.values,
        "between": first <= value <= last,
    }[test.operator]


NUMBERS = st.integers(-3, 3) | st.sampled_from([-1.5, 0.0, 0.5, 2.0, 1e300])
TEXTS = st.text("aA b'%_.\n", max_size=4)
MISSING = st.none()


def quoted(value):
    return "'" + value.replace("'", "''") + "'" if isinstance(value, str) else str(value)


@st.composite
def conditions(draw, depth=3):
    if depth and draw(st.booleans()):
        kind = draw(st.sampled_from(["NOT", "AND", "OR"]))
        if kind == "NOT":
            return f"NOT ({draw(conditions(depth - 1))})"
        parts = draw(st.lists(conditions(depth - 1), min_size=2, max_size=3))
        return f" {kind} ".join(f"({part})" for part in parts)
    column = draw(st.sampled_from(["n", "x", "t", "b"]))
    kind, values = {"t": ("text", TEXTS), "b": ("boolean", st.booleans())}.get(column, ("number", NUMBERS))
    one = values.map(quoted)
    choices = [
        st.tuples(st.sampled_from(["=", "!=", "<>"]), one).map(" ".join),
        st.sampled_from(["IS NULL", "is not null"]),
        st.tuples(st.sampled_from(["IN", "not in"]), st.lists(one, min_size=1, max_size=3)).map(
            lambda parts: f"{parts[0]} ({', '.join(parts[1])})"
        ),
    ]
    if kind != "boolean":
        choices.append(st.tuples(st.sampled_from(["<", "<=", ">", ">="]), one).map(" ".join))
        choices.append(
            st.tuples(st.sampled_from(["", "NOT "]), one, one).map(lambda p: f"{p[0]}BETWEEN {p[1]} AND {p[2]}")
        )
    if kind == "text":
        choices.append(st.tuples(st.sampled_from(["LIKE", "NOT LIKE", "ilike", "not ilike"]), one).map(" ".join))
    return f"{column} {draw(st.one_of(choices))}"


ROW = st.fixed_dictionaries(
    {
        "n": MISSING | st.integers(-3, 3),
        "x": MISSING | st.sampled_from([-1.5, 0.0, 0.5, float("nan"), 1e300]),
        "t": MISSING | TEXTS,
        "b": MISSING | st.booleans(),
    }
)
SCHEMA = pa.schema({"id": pa.int64(), "n": pa.int64(), "x": pa.float64(), "t": pa.string(), "b": pa.bool_()})


@given(rows=st.lists(ROW, min_size=1, max_size=8), condition=conditions())
@settings(max_examples=60)
def test_a_condition_means_what_plain_python_says(tmp_path_factory, rows, condition):
    path = tmp_path_factory.getbasetemp() / "drawn.parquet"
    rows = [{"id": place, **row} for place, row in enumerate(rows)]
    pq.write_table(pa.Table.from_pylist(rows, SCHEMA), path)
    expected = [row["id"] for row in rows if told(parse(condition), row) is True]
    assert sorted(MetadataTable([path]).select(condition).tolist()) == expected


@pytest.mark.parametrize("number", [-5, 0, 107, 2**53 - 1, 1 - 2**53])
def test_equal_numbers_are_written_alike(number):
    texts = {value_condition(("n",), kind(number)) for kind in (int, float, Decimal)}
    assert texts == {f"n = {number}"}


def test_a_fork_filters_too(table):
    assert table.select("n = 7").tolist() == [3, 4]
    assert forked(lambda: sys.exit(table.select("n = 7").tolist() != [3, 4])) == 0


def test_what_runs_the_filters_reads_no_files_and_stays_so():
    with _database(os.getpid()).cursor() as connection:
        for text in (f"FROM read_text('{__file__}')", "SET enable_external_access = true"):
            with pytest.raises((duckdb.PermissionException, duckdb.InvalidInputException)):
                connection.execute(text)


@given(condition=conditions(), row=ROW)
def test_a_condition_that_is_written_means_the_same(condition, row):
    assert told(parse(to_text(parse(condition))), row) == told(parse(condition), row)


@pytest.mark.parametrize(
    ("before", "choice", "after", "on"),
    [
        ("", "n = 3", "n = 3", ["n = 3"]),
        ("n = 3", "n = 3", "", []),
        ("n = 3", "n = 5", "n IN (3, 5)", ["n = 3", "n = 5"]),
        ("n IN (3, 5.0, 7)", "n = 5", "n IN (3, 7)", ["n = 3", "n = 7"]),
        ("n = 3 or n = 5", "n = 7", "n IN (3, 5, 7)", ["n = 3", "n = 5", "n = 7"]),
        ("n = 3", "t = 'it''s'", "n = 3 AND t = 'it''s'", ["n = 3", "t = 'it''s'"]),
        ("n = 3", "n IS NULL", "n = 3 OR n IS NULL", ["n = 3", "n IS NULL"]),
        ("b AND n is null", "n = 3", None, None),
        ("b = true and n is null", "n = 3", "b = true AND (n = 3 OR n IS NULL)", ["b = true", "n = 3", "n IS NULL"]),
        ("n > 3", "n = 5", "n > 3 AND n = 5", ["n = 5"]),
        ("n = 3 OR t = 'a'", "n = 5", "(n = 3 OR t = 'a') AND n = 5", ["n = 5"]),
        ("NOT n IN (3) and n != 4", "n = 5", "NOT n IN (3) AND n != 4 AND n = 5", ["n = 5"]),
        ("n = 3 AND n = 5", "n = 5", "n = 3", ["n = 3"]),
        ("n = 3", "n > 5", None, None),
    ],
)
def test_values_of_a_column_widen_and_columns_narrow(before, choice, after, on):
    if after is None:
        with pytest.raises(UsageError, match="expected"):
            toggle_value(before, choice)
        return
    assert toggle_value(before, choice) == after
    assert selected_values(after) == on


@given(condition=conditions(), value=NUMBERS | MISSING, row=ROW)
def test_a_choice_put_on_and_taken_off_again_changes_nothing(condition, value, row):
    choice = value_condition(("x",), value)
    assume(choice not in selected_values(condition))
    widened = toggle_value(condition, choice)
    assert choice in selected_values(widened)
    assert told(parse(toggle_value(widened, choice)), row) == told(parse(condition), row)


def test_columns_tell_what_they_hold_most_and_lead_back_to_it(table):
    told = {column_text(column.name): column for column in table.columns(np.array([3]))}
    assert list(told) == ["id", "n", "x", "t", "b", "d", '"In"', 'a."b c"', "at", "zoned", "tags", "none", "coded"]
    assert told["id"].values == told["at"].values == told["tags"].values == ()
    assert told['"In"'].values == (("up", 2), ("Up", 1), ("down", 1), (None, 1))
    assert told["coded"].values == (("p", 2), ("q", 2), (None, 1))
    assert told["b"].values == ((False, 2), (None, 2), (True, 1))
    for column in told.values():
        for value, count in column.values:
            found = [i for i in table.select(value_condition(column.name, value)).tolist() if i != 3]
            assert len(found) == count, value_condition(column.name, value)


@given(names=st.lists(st.text(min_size=1, max_size=6), min_size=1, max_size=3))
def test_any_column_can_be_written(names):
    assert columns_of(parse(f"{column_text(tuple(names))} IS NULL")) == [tuple(names)]


def test_a_column_of_numbers_here_and_texts_there_is_one_of_texts(tmp_path):
    for place, values in enumerate(([1, None], ["x", "1"], [0.5, 2.0])):
        table = pa.table({"id": [2 * place, 2 * place + 1], "v": values, f"w{place}": [True, False]})
        pq.write_table(table, tmp_path / f"{place}.parquet")
    first, second, third = (tmp_path / f"{place}.parquet" for place in range(3))
    assert sorted(MetadataTable([first, second]).select("v = '1'").tolist()) == [0, 3]
    assert sorted(MetadataTable([first, third]).select("v > .7").tolist()) == [0, 5]
    assert sorted(MetadataTable([first, second]).select("w1 IS NULL").tolist()) == [0, 1]


def test_a_catalog_counts_what_a_condition_lets_in_without_deleted_items(tmp_path):
    labels = write_world(tmp_path, 200)
    ingest([tmp_path / "images"], tmp_path / "catalog")
    catalog = Catalog.open(tmp_path / "catalog")
    gone = np.flatnonzero(labels == 1)[:3]
    catalog.delete(gone)
    assert catalog.count("label = 1") == catalog.count(catalog.where("label = 1")) == (labels == 1).sum() - 3
    drawn = [
        catalog.sample_ids(9, np.random.default_rng(0), where) for where in ("label = 1", catalog.where("label = 1"))
    ]
    assert drawn[0].tolist() == drawn[1].tolist()
    assert catalog.inside(drawn[0], "label = 1").all()
    assert not catalog.inside(drawn[0], "label = 2").any()
    for call in (catalog.count, lambda where: catalog.sample_ids(1, np.random.default_rng(0), where)):
        with pytest.raises(UsageError, match="no_such_column"):
            call("no_such_column = 1")
    assert catalog.count() == 197
    captions = next(column for column in catalog.described_columns() if column.name == ("caption",))
    assert sum(count for _, count in captions.values) == 197
    assert Comparison(("label",), "=", (1,), False, 0) == parse("label = 1")


def test_a_condition_is_asked_again_only_after_rows_came_or_moved(tmp_path, monkeypatch):
    catalog = Catalog.from_embeddings(tmp_path / "c", np.eye(40, 32, dtype=np.float32)[:32], metadata={"v": range(32)})
    asked, filtered = [], reader._filtered
    monkeypatch.setattr(reader, "_filtered", lambda *given: asked.append(1) or filtered(*given))
    for gone, left in (([1], 9), ([2, 30], 8)):
        catalog.delete(gone)
        assert catalog.count("v < 10") == left
    assert len(asked) == 1
    catalog.compact()
    assert catalog.count("v < 10") == 8
    assert len(asked) == 2


def test_types_that_do_not_go_together_and_those_that_few_read_are_compared(tmp_path):
    """As texts where nothing holds both, as the nearest type that can be compared where it is a rare one."""
    whole, exact = pa.array([1, 2]), pa.array([1234567890123456789, 1234567890123456790])
    rare = {"half": pa.array([0.5, None], pa.float16()), "single": pa.array([0.1, 0.2], pa.float32())}
    rare["money"] = pa.array([Decimal("12345678901234567890.12"), Decimal("12345678901234567890.13")])
    rare |= {"late": pa.array([10**9 + 1, 2], pa.timestamp("ns"))}
    for name, tags, first in (("a", whole, 0), ("b", pa.array([[1], None]), 2)):
        table = pa.table({"id": [first, first + 1], "tags": tags, "exact": exact, **rare})
        pq.write_table(table, tmp_path / f"{name}.parquet")
    table = MetadataTable([tmp_path / "a.parquet", tmp_path / "b.parquet"], np.array([9]))
    for condition, ids in (
        ("tags IS NULL", [3, 9]),
        ("tags = '1'", [0]),
        ("exact = 1234567890123456789", [0, 2]),
        ("exact > 1234567890123456789", [1, 3]),
        ("exact < 12345678901234567890123", [0, 1, 2, 3]),
        ("half = 0.5", [0, 2]),
        ("half BETWEEN .1 AND 1e3", [0, 2]),
        ("single = 0.1", [0, 2]),
        ("single IN (7, 0.1)", [0, 2]),
        ("exact = 1234567890123456788.5", []),
        ("exact > 1234567890123456789.5", [1, 3]),
        ("money = 12345678901234567890.13", [1, 3]),
        ("late > '1970-01-01 00:00:01'", []),
        ("late < '2300-01-01'", [0, 1, 2, 3]),
        ("NOT exact = 1", [0, 1, 2, 3]),
    ):
        assert sorted(table.select(condition).tolist()) == ids, condition
    columns = {column.name[0]: column for column in table.columns(np.zeros(0, np.int64))}
    assert columns["tags"].kind == "text"
    for name in ("exact", "single", "money"):
        assert len(columns[name].values) == 3  # one of them missing
        for value, count in columns[name].values:
            assert len(table.select(value_condition((name,), value))) == count, (name, value)
    with pytest.raises(UsageError, match="late at letter 1 holds times"):
        table.select("late > '0001-01-01T00:00+14:00'")
    assert json_rows(pq.read_table(tmp_path / "a.parquet"))[1]["late"] == "1970-01-01T00:00:00"


def test_a_catalog_of_unlike_columns_is_filtered_compacted_and_read(tmp_path):
    for name, tags in (("a", pa.array([1, 2, 3])), ("b", pa.array([[1], [2], None]))):
        (tmp_path / name / "img_emb").mkdir(parents=True)
        (tmp_path / name / "metadata").mkdir()
        np.save(
            tmp_path / name / "img_emb/img_emb_0.npy", np.random.default_rng(0).standard_normal((3, 32), np.float32)
        )
        pq.write_table(pa.table({"tags": tags}), tmp_path / name / "metadata/metadata_0.parquet")
    ingest([tmp_path / "a"], tmp_path / "c")
    append(tmp_path / "c", [tmp_path / "b"])
    for _ in range(2):
        catalog = Catalog.open(tmp_path / "c")
        assert catalog.count(catalog.where("tags IS NULL")) == 1
        assert catalog.count(catalog.where("tags IN ('1', '[1]')")) == 2
        assert [column.kind for column in catalog.described_columns()] == ["number", "text"]
        catalog.compact()
    assert [item["tags"] for item in Catalog.open(tmp_path / "c").items(range(6))] == [
        "1",
        "2",
        "3",
        "[1]",
        "[2]",
        None,
    ]


def test_dates_beyond_those_of_python_and_bytes_that_are_no_text_are_told(tmp_path):
    far = pa.array([-(10**6), 10**8], pa.int32()).cast(pa.date32())
    rows = json_rows(pa.table({"far": far, "near": pa.array([0, None], pa.date32())}))
    assert [row["near"] for row in rows] == ["1970-01-01", None]
    assert all(isinstance(row["far"], str) for row in rows)
    kinds = (pa.array([b"\xff", None]), pa.array(["x", "y"]), pa.array(["x", "y"], pa.string_view()), pa.array([1, 2]))
    paths = [tmp_path / f"{place}.parquet" for place in range(len(kinds))]
    for path, values in zip(paths, kinds, strict=True):
        pq.write_table(pa.table({"id": [0, 1], "v": values}), path, store_schema=True)
    schema = unified_schema(paths)
    for path in paths:
        told = read_table([(path, np.array([1, 0]))], np.array([1, 0]), schema)
        assert all(value is None or isinstance(value, str) for value in told["v"].to_pylist())


def test_a_text_too_long_to_be_asked_for_is_not_offered(tmp_path):
    pq.write_table(pa.table({"id": [0, 1, 2, 3], "t": ["x" * MAX_LENGTH] * 2 + ["y"] * 2}), tmp_path / "a.parquet")
    (_, told) = MetadataTable([tmp_path / "a.parquet"]).columns(np.zeros(0, np.int64))
    assert told.values == (("y", 2),)


@pytest.mark.parametrize("other", [pa.decimal128(10, 2), pa.int64(), pa.list_(pa.int8()), pa.date32(), pa.bool_()])
def test_a_type_for_two_is_one_that_both_can_become(tmp_path, other):
    for name, kind in (("a", pa.float16()), ("b", other)):
        pq.write_table(pa.table({"id": [0], "v": pa.nulls(1, kind)}), tmp_path / f"{name}.parquet")
    table = MetadataTable([tmp_path / "a.parquet", tmp_path / "b.parquet"])
    assert table.select("v IS NULL").tolist() == [0, 0]
    assert len(table.columns(np.zeros(0, np.int64))) == 2
