from dataclasses import replace

import numpy as np
import pytest
from clusters import write_world

from gpubranches import Catalog, Session, open_backend
from gpubranches.engines import BACKENDS
from gpubranches.ingestion import ingest
from gpubranches.retrieval.breadth import judge
from gpubranches.retrieval.pseudo_labels import pseudo_labels
from gpubranches.retrieval.training_data import TrainingData

LABEL = 3
LOCAL = [name for name in BACKENDS if name in ("oracle", "cpu")]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    path = tmp_path_factory.mktemp("pseudo")
    labels = write_world(path)
    ingest([path / "images"], path / "catalog")
    return Catalog.open(path / "catalog"), labels


def the_marks(right, wrong, unchecked):
    chosen = np.ones(len(right), np.bool_), np.ones(len(wrong), np.bool_)
    return TrainingData(right, wrong, unchecked, *chosen, np.zeros(len(right) + len(wrong), np.bool_))


def marks(labels, p=6):
    unchecked = np.flatnonzero(labels != LABEL)[50:150]
    return the_marks(np.flatnonzero(labels == LABEL)[:p], np.flatnonzero(labels == LABEL + 1)[:5], unchecked)


@pytest.fixture(params=["narrow", "broad"])
def kind(request, monkeypatch):
    """Both kinds of ideas in turn, whatever the marks say."""

    def judged(view, marks):
        return replace(judge(view, marks), log_odds=10.0 if request.param == "broad" else -10.0)

    monkeypatch.setattr("gpubranches.retrieval.pseudo_labels.judge", judged)
    return request.param


def test_they_follow_the_group_of_the_marks(world, kind):
    catalog, labels = world
    told = marks(labels)
    with open_backend("cpu", catalog) as backend:
        found, beside = pseudo_labels(backend, catalog, told, 0)
    assert (labels[found] == LABEL).mean() > 0.9
    assert len(found) > 0.6 * (labels == LABEL).sum()
    assert (labels[beside] == LABEL).mean() < 0.1
    for ids in (found, beside):
        assert not np.isin(ids, np.concatenate([told.positives, told.negatives])).any()
    assert len(np.intersect1d(found, beside)) == 0


def test_every_backend_gives_the_same(world, kind):
    catalog, labels = world
    answers = []
    for name in LOCAL:
        with open_backend(name, catalog) as backend:
            answers.append(pseudo_labels(backend, catalog, marks(labels), 7))
    for other in answers[1:]:
        assert all(np.array_equal(a, b) for a, b in zip(answers[0], other, strict=True))


def test_of_many_labels_the_seed_draws_some(world, kind, monkeypatch):
    if kind == "narrow":
        pytest.skip("narrow ideas are small")
    monkeypatch.setattr("gpubranches.retrieval.pseudo_labels.MOST_LABELS", 20)
    catalog, labels = world
    told = marks(labels)
    with open_backend("cpu", catalog) as backend:
        one, same, other = (pseudo_labels(backend, catalog, told, seed) for seed in (1, 1, 2))
    assert [len(ids) for ids in one] == [20, 20]
    assert [ids.tolist() for ids in one] == [ids.tolist() for ids in same]
    assert [ids.tolist() for ids in one] != [ids.tolist() for ids in other]


def test_words_have_no_part_in_them(world, kind):
    catalog, labels = world
    told = marks(labels)
    words = np.random.default_rng(0).standard_normal(catalog.D).astype(np.float32)
    with open_backend("cpu", catalog) as backend:
        with_words = pseudo_labels(backend, catalog, replace(told, words=words), 0)
        assert all(map(np.array_equal, with_words, pseudo_labels(backend, catalog, told, 0)))


def test_votes_alone_find_more_with_them(world, monkeypatch):
    catalog, labels = world
    found = {}
    for taught in (("ensemble",), ()):
        monkeypatch.setattr("gpubranches.retrieval.refine.TAUGHT", taught)
        with open_backend("cpu", catalog) as backend:
            session = Session(catalog, backend)
            session.mark(marks(labels).positives, +1)
            session.mark(marks(labels).negatives, -1)
            ranking = session.refine(second_stage=False)
        ids = ranking.ids[ranking.matched]
        found[taught] = 2 * (labels[ids] == LABEL).sum() / (len(ids) + (labels == LABEL).sum())
    assert found["ensemble",] > found[()]


@pytest.mark.parametrize("model", ["ensemble", "branch"])
def test_boxes_before_a_second_stage_hold_most_of_what_it_is_to_rank(world, model):
    catalog, labels = world
    told = marks(labels)
    with open_backend("cpu", catalog) as backend:
        session = Session(catalog, backend)
        session.mark(told.positives, +1)
        session.mark(told.negatives, -1)
        ranked = session.refine(model).ids
    wanted = np.flatnonzero(labels == LABEL)
    assert np.isin(wanted, ranked).mean() > 0.9


def test_without_anything_wrong_there_are_none(world):
    catalog, labels = world
    nothing = np.zeros(0, np.int64)
    with open_backend("cpu", catalog) as backend:
        told = the_marks(marks(labels).positives, nothing, nothing)
        assert [len(ids) for ids in pseudo_labels(backend, catalog, told, 0)] == [0, 0]


def test_a_catalog_of_constant_codes_gives_an_answer(tmp_path):
    np.save(tmp_path / "codes.npy", np.full((300, 8), 7, np.uint8))
    ingest([tmp_path / "codes.npy"], tmp_path / "catalog")
    catalog = Catalog.open(tmp_path / "catalog")
    with open_backend("cpu", catalog) as backend:
        session = Session(catalog, backend)
        session.mark([1, 2], +1)
        session.mark([3], -1)
        ranking = session.refine()
    assert np.isin([1, 2], ranking.ids[ranking.matched]).all()
    assert not np.isin(3, ranking.ids[ranking.matched])


def test_where_nothing_stands_out_there_are_none(tmp_path):
    rows = np.random.default_rng(0).standard_normal((600, 32)).astype(np.float32)
    np.save(tmp_path / "rows.npy", rows)
    ingest([tmp_path / "rows.npy"], tmp_path / "catalog")
    catalog = Catalog.open(tmp_path / "catalog")
    with open_backend("cpu", catalog) as backend:
        session = Session(catalog, backend)
        session.mark(np.arange(8), +1)
        session.mark([20, 21], -1)
        unchecked = session.random_negatives(1000)
        labels = pseudo_labels(backend, catalog, the_marks(session.positives, session.negatives, unchecked), 0)
        assert [len(ids) for ids in labels] == [0, 0]
        assert session.refine(second_stage=False).total < 100
