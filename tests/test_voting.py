"""Rankings by votes alone: what a bounded list tells is what the whole list tells, at every cut."""

import numpy as np
import pyarrow.parquet as pq
import pytest
from clusters import write_world
from test_backends import NAMES, opened

from gpubranches import Catalog, Session
from gpubranches.errors import UsageError
from gpubranches.ingestion import ingest
from gpubranches.retrieval import voting

LEANS = (0.0, 0.6, -1.0, -0.3, 1.0, 0.3, 0.92)
LISTED, BELOW, N = 700, 260, 6000


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    path = tmp_path_factory.mktemp("world")
    write_world(path, N)
    ingest([path / "images"], path / "catalog")
    return path / "catalog", pq.read_table(path / "images/metadata/metadata_0.parquet")["label"].to_numpy()


@pytest.fixture(params=NAMES)
def backend(request, world):
    with opened(request.param, Catalog.open(world[0])) as backend:
        yield backend


@pytest.fixture(params=[None, "label < 5"])
def where(request):
    return request.param


@pytest.fixture
def short(monkeypatch):
    def patch():
        monkeypatch.setattr(voting, "LISTED", LISTED)
        monkeypatch.setattr(voting, "BELOW", BELOW)
        monkeypatch.setattr(voting, "_FORESEEN", 10**9)

    return patch


def marked(backend, labels, wanted=(2, 3, 4)):
    """Return a session whose marks are of several clusters: many items get a vote."""
    session = Session(backend.catalog, backend)
    right, wrong = (np.flatnonzero(np.isin(labels, wanted) == held) for held in (True, False))
    session.mark(right[:12], +1)
    session.mark(wrong[:6], -1)
    return session


def refined(session, **options):
    return session.refine("ensemble-classic", second_stage=False, random_negatives=20, **options)


def rows_of(ranking, part):
    return [array[part].tolist() for array in (ranking.ids, ranking.votes, ranking.scores)]


def test_a_bounded_list_answers_every_cut_as_the_whole_list(backend, world, short, where):
    whole = marked(backend, world[1])
    refined(whole, where=where)
    expected = [(whole.recut(lean), whole.part("below").ids) for lean in LEANS]
    assert expected[0][0].unlisted is None
    short()
    session = marked(backend, world[1])
    first = refined(session, where=where)
    assert first.candidates == expected[0][0].candidates > len(first.ids)
    assert first.unlisted is not None
    for lean, (full, below) in zip(LEANS, expected, strict=True):
        ranking = session.recut(lean)
        assert rows_of(ranking, ranking.matched) == rows_of(full, full.matched)
        assert session.part("below").ids.tolist() == below.tolist()
        for field in ("total", "candidates", "threshold", "source"):
            assert getattr(ranking, field) == getattr(full, field)
        held = full.ids[np.isin(full.ids, ranking.ids)]
        assert held.tolist() == ranking.ids.tolist()
        assert np.isin(full.ids[full.votes >= ranking.complete_from], ranking.ids).all()
        again = marked(backend, world[1])
        leaning = refined(again, where=where, lean=lean)
        assert rows_of(leaning, leaning.matched) == rows_of(full, full.matched)


def test_a_list_is_as_long_as_its_cut_asks_for(backend, world, short):
    short()
    session = marked(backend, world[1])
    ranking = refined(session)
    majority = session.boxes.n_estimators // 2 + 1
    above = int((ranking.votes >= majority).sum())
    missing = len(session.positives)
    assert max(LISTED, above + BELOW) <= len(ranking.ids) <= max(LISTED, above + BELOW) + missing
    session.recut(0.1)
    answer = session.last_answer()
    assert session.recut(0.0).total == ranking.total
    assert session.last_answer().completeness.ranking is answer.completeness.ranking
    assert np.isin(session.positives, ranking.ids).all()


def test_a_recut_keeps_what_an_audit_drew(backend, world, short):
    short()
    session = marked(backend, world[1])
    refined(session)
    drawn = session.audit(20)
    for item in drawn:
        label = 1 if world[1][item] in (2, 3, 4) else -1
        session.mark([item], label, origin="audit")
    told = session.estimate()
    wide = session.recut(1.0)
    assert len(wide.ids) > len(told.ids)
    assert session.last_answer().completeness.drawn.ids.tolist() == drawn.tolist()
    assert told.recall is not None
    assert wide.recall is not None
    assert wide.recall[1] >= told.recall[1]


def test_recall_counts_what_is_not_listed_as_the_whole_list_does(backend, world, short):
    """The same evidence gives nearly the same interval, whether the rest is listed or told by a sample."""
    whole = marked(backend, world[1])
    refined(whole)
    short()
    session = marked(backend, world[1])
    refined(session)
    audited = {}
    for item in whole.audit(60):
        audited[int(item)] = 1 if world[1][item] in (2, 3, 4) else -1
    session.found = session.last_answer().with_audit(whole.last_answer().completeness.drawn)
    intervals = []
    for one in (whole, session):
        for item, label in audited.items():
            one.mark([item], label, origin="audit")
        intervals.append(one.estimate())
    full, ranking = intervals
    assert np.abs(np.array(full.precision) - ranking.precision).max() < 0.1
    assert np.abs(np.array(full.recall) - ranking.recall).max() < 0.15


def test_without_a_sample_all_is_listed(backend, world, short, monkeypatch):
    short()
    monkeypatch.setattr(voting, "SAMPLED", 0)
    ranking = refined(marked(backend, world[1]))
    assert ranking.unlisted is None
    assert np.count_nonzero(ranking.votes) == ranking.candidates


def test_a_recut_that_needs_other_codes_is_refused(backend, world, short, monkeypatch):
    short()
    session = marked(backend, world[1])
    refined(session)
    monkeypatch.setattr(type(backend.catalog), "coding", ("other", "codes", 9))
    session.recut(-1.0)
    with pytest.raises(UsageError, match="find all again"):
        session.recut(1.0)
