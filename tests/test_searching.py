"""What a Session is used for from Python: it opens what it needs, searches by anything, and gives answers away."""

import sys

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pytest
from clusters import NAMES, D, world, write_world
from PIL import Image

import gpubranches as gb
from gpubranches import Catalog, RefineOptions, Session, ingest, open_backend
from gpubranches.errors import BackendUnavailableError, DataError, UsageError


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("world")
    write_world(path, 600)
    ingest([path / "images"], path / "catalog", embedder=f"vocabulary:{path}/text/emb.npy,{path}/text/names.json")
    ingest([path / "images"], path / "unnamed")
    return path


def test_five_lines_lead_from_embeddings_to_an_answer(tmp_path):
    X, labels, texts = world(600)
    table = {"caption": ["background" if label < 0 else NAMES[label] for label in labels]}
    names = gb.VocabularyEmbedder(texts, NAMES)

    catalog = gb.Catalog.from_embeddings(tmp_path / "catalog", X, metadata=table)
    session = gb.Session(catalog, embedder=names)
    hits = session.search("bicycle", k=100)
    session.mark(hits.ids[:8], +1)
    answer = session.find_all()
    found = answer.matches.to_arrow()

    assert repr(hits) == f"<Hits: 100 items by {session.backend.name}/bits+embeddings>"
    assert repr(answer.matches) == f"<Matches: {len(found)} items>"
    assert repr(answer).startswith(f"<Answer: {len(found)} items match, by {session.backend.name}/")
    assert found["id"].to_pylist() == answer.matches.ids.tolist()
    assert found["caption"].to_pylist().count("bicycle") > 0.5 * max(
        len(found), (labels == NAMES.index("bicycle")).sum()
    )
    session.close()


@pytest.fixture
def session(folder):
    with Session(Catalog.open(folder / "catalog"), "oracle") as opened:
        yield opened


class Colours:
    """An embedder of pictures: a picture's red, green and blue are the first three values."""

    identity, spec, reads_images, training_texts = "", "", True, ()
    text_mean = np.zeros(D, np.float32)
    D = D

    def images(self, images):
        rows = [np.pad(np.asarray(image.resize((1, 1)), np.float32).reshape(-1), (0, D - 3)) for image in images]
        return np.array([row / np.linalg.norm(row) for row in rows], np.float32)


def test_a_session_opens_a_backend_by_name_and_closes_it(folder, monkeypatch):
    catalog = Catalog.open(folder / "catalog")
    closed = []

    def close(backend):
        closed.append(backend)

    with open_backend("oracle", catalog) as given:
        monkeypatch.setattr(type(given), "close", close)
        with Session(catalog, given) as session:
            assert session.backend is given
        assert closed == []
        with Session(catalog, "oracle") as session:
            own = session.backend
        assert closed == [own]
        session.close()
        assert closed == [own]
    with pytest.raises(UsageError, match="backend: expected one of auto"):
        Session(catalog, "quantum")


def test_the_catalogs_own_embedder_is_opened_when_a_query_needs_it(session, folder, monkeypatch):
    assert len(session.search(3, 5)) == 5
    session.mark([3], +1)
    session.find_all(RefineOptions(second_stage=False))
    assert "embedder" not in vars(session.searcher)
    assert session.search(NAMES[0], 5).ids.tolist() == session.search(NAMES[0], 5).ids.tolist()
    assert session.embedder.spec.startswith("vocabulary:")
    monkeypatch.setitem(sys.modules, "open_clip", None)
    with Session(session.catalog, session.backend, embedder="open_clip:ViT-B-32/laion2b_s34b_b79k") as lacking:
        assert len(lacking.search(3, 5)) == 5
        with pytest.raises(BackendUnavailableError, match=r"gpubranches\[clip\]"):
            lacking.search("a red bicycle")
    for without in (
        Session(session.catalog, session.backend, embedder=None),
        Session(Catalog.open(folder / "unnamed"), "oracle"),
    ):
        with without, pytest.raises(UsageError, match="a text needs an embedder, got none; pass embedder="):
            without.search("a red bicycle")


def test_a_query_is_a_text_an_item_a_picture_or_a_vector(session, folder, tmp_path):
    catalog = session.catalog
    assert np.array_equal(session.search("#17", 9).ids, session.search(17, 9).ids)
    assert np.array_equal(session.search(np.int64(17), 9).ids, session.search(17, 9).ids)
    embedding = catalog.embeddings([17])[0]
    assert session.search(embedding, 9).ids[0] == 17
    assert np.array_equal(session.search(embedding.astype(np.float64), 9).ids, session.search(embedding, 9).ids)
    code = session.search(catalog.codes([17])[0], 9)
    assert code.source == session.search(17, 9, by_codes=True).source == "oracle/codes"
    assert np.array_equal(code.ids, session.search(17, 9, by_codes=True).ids)
    picture = Image.new("RGB", (8, 8), (200, 40, 90))
    picture.save(tmp_path / "picture.png")
    with open_backend("oracle", Catalog.open(folder / "unnamed")) as backend:
        seeing = Session(backend.catalog, backend, embedder=Colours())
        by_file = seeing.search(tmp_path / "picture.png", 9)
        assert np.array_equal(by_file.ids, seeing.search(picture, 9).ids)
        assert np.array_equal(by_file.ids, seeing.search(Colours().images([picture])[0], 9).ids)
        with pytest.raises(DataError, match=r"nothing\.png"):
            seeing.search(tmp_path / "nothing.png")
    for other, name in ((True, "bool"), (None, "NoneType"), (2.5, "float"), ([1.0], "list")):
        with pytest.raises(UsageError, match=rf"a text \(str\), the id of an item \(int\), .* got {name}"):
            session.search(other)
    for other in (picture, tmp_path / "picture.png", embedding):
        with pytest.raises(UsageError, match="by_codes: expected one text, item or code"):
            session.search(other, by_codes=True)


def test_hits_are_as_many_as_there_are(session):
    few = session.search(NAMES[0], 500, where="caption = 'kangaroo'")
    assert 0 < len(few) == len(few.ids) == len(few.distances) < 100
    assert (few.ids >= 0).all()
    assert np.isfinite(few.distances).all()
    assert (few.ids.dtype, few.distances.dtype) == (np.int64, np.float32)
    assert (np.diff(few.distances) >= 0).all()
    assert [hit.id for hit in few] == few.ids.tolist() == [item["id"] for item in few.items()]
    assert [hit.distance for hit in few] == few.distances.tolist()
    assert {item["caption"] for item in few.items()} == {"kangaroo"}
    assert len(session.search(NAMES[0], 10_000)) == session.catalog.n
    assert len(session.search(NAMES[0], 5, where="label = 1 AND label = 2")) == 0


@pytest.mark.parametrize("second_stage", [True, False])
def test_matches_are_a_table_and_files(session, tmp_path, second_stage):
    hits = session.search(NAMES[0], 40)
    right = np.array([item["caption"] == NAMES[0] for item in hits.items()])
    session.mark(hits.ids[right], +1)
    session.mark(hits.ids[~right], -1)
    answer = session.find_all(RefineOptions(second_stage=second_stage))
    matches = answer.matches
    assert len(matches) == answer.ranking.total == len(matches.ids) == len(matches.scores)
    assert matches.ids.tolist() == answer.ranking.ids[answer.ranking.matched].tolist()
    assert np.array_equal(matches.ids, answer.part("all").ids)
    table = matches.to_arrow()
    assert table.column_names == ["id", "score", "votes", "mark", "tier", "chance", "caption", "label"]
    assert table["id"].to_pylist() == matches.ids.tolist()
    assert table["score"].to_pylist() == matches.scores.tolist()
    assert table["caption"].to_pylist() == [item["caption"] for item in session.catalog.items(matches.ids)]
    assert matches.to_csv(tmp_path / "m.csv") == matches.export(tmp_path / "m.jsonl") == len(matches)
    assert matches.export(str(tmp_path / "m"), "csv") == session.export(tmp_path / "s.csv") == len(matches)
    assert (tmp_path / "m.csv").read_bytes() == (tmp_path / "m").read_bytes() == (tmp_path / "s.csv").read_bytes()
    assert pacsv.read_csv(tmp_path / "m.csv")["id"].to_pylist() == matches.ids.tolist()
    nothing = session.find_all(RefineOptions(second_stage=second_stage, where="label = 1 AND label = 2")).matches
    assert (len(nothing), nothing.to_arrow().num_rows, nothing.to_arrow().schema) == (0, 0, table.schema)


def test_matches_become_a_dataframe_with_pandas(session, monkeypatch):
    session.mark([3], +1)
    matches = session.find_all(RefineOptions(second_stage=False)).matches
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "pandas", None)
        with pytest.raises(BackendUnavailableError, match="pip install pandas"):
            matches.to_pandas()
    pytest.importorskip("pandas")
    assert pa.Table.from_pandas(matches.to_pandas()).column_names == matches.to_arrow().column_names


def test_an_answer_stays_as_it_was(session):
    session.mark([3], +1)
    first = session.find_all(RefineOptions(second_stage=False))
    before = first.matches.ids.tolist(), first.ranking.lean, first.ranking.recall
    session.recut(1.0)
    session.mark(session.audit(5), -1, origin="audit")
    session.estimate()
    session.refine_again()
    assert (first.matches.ids.tolist(), first.ranking.lean, first.ranking.recall) == before
    assert session.last_answer() is session.answer is not first


def test_old_names_warn_and_answer_as_they_did(session):
    calls = (
        ("ask", ("teapot", 7), {"where": "label >= 0"}, "teapot"),
        ("like", (17, 7), {"by_codes": True}, 17),
        ("vector", (session.catalog.embeddings([17])[0], 7), {}, session.catalog.embeddings([17])[0]),
    )
    for name, arguments, options, query in calls:
        with pytest.warns(DeprecationWarning, match=f"Session.{name} is now search"):
            old = getattr(session, name)(*arguments, **options)
        new = session.search(query, 7, **options)
        assert old.ids.shape == old.distances.shape == (1, 7)
        assert (old.ids[0].tolist(), old.source) == (new.ids.tolist(), new.source)
    with open_backend("oracle", session.catalog) as backend:
        seeing = Session(session.catalog, backend, embedder=None)
        with (
            pytest.warns(DeprecationWarning, match="Session.image is now search"),
            pytest.raises(UsageError, match="needs an embedder"),
        ):
            seeing.image(Image.new("RGB", (8, 8)))
    session.mark([3], +1)
    answer = session.find_all(RefineOptions(second_stage=False))
    with pytest.warns(DeprecationWarning, match="Session.last is now last_answer"):
        assert session.last() is answer
    with pytest.warns(DeprecationWarning, match="Session.learnt_all is now is_up_to_date"):
        assert session.learnt_all(but=("audit",))
    with pytest.warns(DeprecationWarning, match="min_votes"):
        assert session.min_votes == answer.min_votes
