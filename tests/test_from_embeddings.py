"""Catalogs made of arrays in memory, and by the one call for files."""

import logging

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from worlds import decoding_head

import gpubranches as gb
from gpubranches.catalog.pictures.image_files import image_file
from gpubranches.errors import ArrayError, DataError, UsageError
from gpubranches.ingestion import append

N, D = 400, 16


def rows(n=N, seed=0):
    return np.random.default_rng(seed).standard_normal((n, D)).astype(np.float32)


class Frame:
    """A table of another library: all it offers is Arrow's stream."""

    def __init__(self, table):
        self._table = table

    def __arrow_c_stream__(self, requested_schema=None):
        return self._table.__arrow_c_stream__(requested_schema)


def test_it_holds_what_an_ingest_of_the_same_rows_holds(tmp_path):
    np.save(tmp_path / "x.npy", rows())
    one = gb.Catalog.from_embeddings(tmp_path / "a", rows())
    other = gb.ingest(tmp_path / "x.npy", tmp_path / "b")
    ids = np.arange(N)
    assert isinstance(other, gb.Catalog)
    assert one.space == other.space
    assert np.array_equal(one.codes(ids), other.codes(ids))
    assert np.array_equal(one.embeddings(ids), other.embeddings(ids))
    assert all(np.array_equal(a, b) for a, b in zip(one.sign_bits(ids), other.sign_bits(ids)))
    assert (one.n, one.verify(), one.source) == (N, [], {})


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("kind", ["table", "columns", "frame"])
def test_metadata_of_any_tabular_kind_can_be_filtered_by(tmp_path, kind, dtype):
    columns = {"id": [f"k{i}" for i in range(N)], "label": list(range(N))}
    table = pa.table(columns)
    metadata = {"table": table, "columns": columns, "frame": Frame(table)}[kind]
    catalog = gb.Catalog.from_embeddings(tmp_path / "c", rows().astype(dtype), metadata=metadata)
    assert catalog.columns == ["id", "source_id", "label"]
    assert catalog.items([7]) == [{"id": 7, "source_id": "k7", "label": 7}]
    assert catalog.count(catalog.where("label < 10 AND source_id != 'k3'")) == 9


def test_rows_without_a_direction_are_left_out_and_told(tmp_path):
    bad = rows()
    bad[3], bad[50, 2] = 0, np.nan
    catalog = gb.Catalog.from_embeddings(tmp_path / "c", bad, metadata={"label": np.arange(N)})
    assert catalog.n == N - 2
    assert [error["id"] for error in catalog.errors()] == [3, 50]
    assert [item["label"] for item in catalog.items([2, 4, 51])] == [2, 4, 51]
    assert np.isnan(bad[50, 2])  # the input is not changed


def test_texts_are_searched_by_the_embedder_that_is_named(tmp_path):
    embedder = gb.VocabularyEmbedder(rows(5, seed=3), list("abcde"))
    catalog = gb.Catalog.from_embeddings(tmp_path / "c", rows(), embedder=embedder, head="pca", d=8)
    assert (catalog.space.embedder, catalog.d) == (embedder.identity, 8)
    assert np.array_equal(catalog.text_mean, embedder.text_mean)


def test_pictures_are_found_in_the_folder_that_is_named(tmp_path):
    (tmp_path / "shots").mkdir()
    (tmp_path / "shots" / "7.png").write_bytes(b"x")
    names = [f"{i}.png" for i in range(N)]
    catalog = gb.Catalog.from_embeddings(
        tmp_path / "c", rows(), metadata={"image_path": names}, pictures=tmp_path / "shots"
    )
    (item,) = catalog.items([7])
    assert image_file(catalog.source, item) == (tmp_path / "shots" / "7.png").resolve()


def test_a_head_with_a_decoder_can_stand_for_the_embeddings(tmp_path):
    head = tmp_path / "h.safetensors"
    head.write_bytes(decoding_head(np.random.default_rng(0), 8, D).to_bytes())
    catalog = gb.Catalog.from_embeddings(tmp_path / "c", rows(), head=str(head), keep_embeddings=False)
    assert (catalog.stores_embeddings, catalog.has_embeddings) == (False, True)
    with pytest.raises(UsageError, match="decoder"):
        gb.Catalog.from_embeddings(tmp_path / "d", rows(), head="pca", keep_embeddings=False)


def test_files_are_appended_to_it(tmp_path):
    catalog = gb.Catalog.from_embeddings(tmp_path / "c", rows())
    np.save(tmp_path / "more.npy", rows(20, seed=1))
    assert append(catalog.path, [tmp_path / "more.npy"]).added == 20
    assert catalog.refresh()
    assert catalog.n == N + 20


@pytest.mark.parametrize(
    ("embeddings", "options", "error", "says"),
    [
        (np.zeros((3, D), np.uint8), {}, ArrayError, "floats"),
        (np.zeros(3, np.float32), {}, ArrayError, "floats"),
        (np.zeros((0, D), np.float32), {}, ArrayError, "floats"),
        (np.zeros((3, D), np.float32), {}, DataError, "finite numbers"),
        (rows(), {"metadata": {"label": [1]}}, UsageError, "400 rows"),
        (rows(), {"metadata": 7}, UsageError, "DataFrame"),
        (rows(2), {"metadata": pa.table([[1, 2], [3, 4]], ["a", "a"])}, UsageError, "distinct names"),
        (rows(), {"pictures": "nowhere"}, UsageError, "folder of the pictures"),
        (rows(), {"head": "nohead"}, UsageError, "head"),
        (rows(), {"embedder": "nothing"}, UsageError, "embedder"),
        (rows(), {"embedder": gb.VocabularyEmbedder(np.eye(3, dtype=np.float32), ["a", "b", "c"])}, UsageError, "dims"),
    ],
)
def test_what_cannot_be_used_is_refused_and_leaves_nothing(tmp_path, embeddings, options, error, says):
    with pytest.raises(error, match=says):
        gb.Catalog.from_embeddings(tmp_path / "c", embeddings, **options)
    assert list(tmp_path.iterdir()) == []


def test_it_appears_complete_or_not_at_all(tmp_path, monkeypatch):
    monkeypatch.setattr("gpubranches.catalog.catalog.SEGMENT_ROWS", 150)
    seen, commit = [], gb.Catalog._commit

    def failing(catalog, *arguments, **entries):
        seen.append((tmp_path / "c").exists())
        if len(seen) == 2:
            raise DataError("stopped")
        commit(catalog, *arguments, **entries)

    monkeypatch.setattr(gb.Catalog, "_commit", failing)
    with pytest.raises(DataError, match="stopped"):
        gb.Catalog.from_embeddings(tmp_path / "c", rows())
    assert seen == [False, False]
    assert list(tmp_path.iterdir()) == []
    monkeypatch.undo()
    gb.Catalog.from_embeddings(tmp_path / "c", rows())
    with pytest.raises(UsageError, match="empty or new"):
        gb.Catalog.from_embeddings(tmp_path / "c", rows())


def test_ingest_takes_one_path_and_logs_what_it_noticed(tmp_path, caplog):
    folder = tmp_path / "in"
    for name in ("img_emb", "metadata"):
        (folder / name).mkdir(parents=True)
    np.save(folder / "img_emb/img_emb_0.npy", rows())
    pa.parquet.write_table(pa.table({"id": list(range(N))}), folder / "metadata/metadata_0.parquet")
    with caplog.at_level(logging.WARNING):
        catalog = gb.ingest(str(folder), tmp_path / "c")
    assert catalog.n == N
    assert "kept as `source_id`" in caplog.text
