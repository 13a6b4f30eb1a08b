"""The scores of a whole catalog: exact where it is small, listed, sampled and estimated where it is large."""

from dataclasses import replace

import numpy as np
import pytest
from worlds import World

from gpubranches import open_backend
from gpubranches.core.tie_order import best_first
from gpubranches.retrieval import scoring
from gpubranches.retrieval.scoring import CatalogScores, CodeView, EmbeddingView

BACKENDS = ("oracle", "cpu")
NOTHING = np.zeros(0, np.int64)


@pytest.fixture(scope="module", params=[False, True], ids=["stored", "decoded"])
def world(request, tmp_path_factory):
    return World(tmp_path_factory.mktemp("world"), [900, 0, 1500, 700], seed=3, decoded=request.param)


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    return World(tmp_path_factory.mktemp("world"), [900, 0, 1500, 700], seed=3)


@pytest.fixture
def small(monkeypatch):
    """Limits that make a catalog of 3,000 items a large one."""
    for name, value in {
        "MOST_EXACT": 500,
        "LISTED": 400,
        "SAMPLED": 300,
        "HEAD": 50,
        "NEAR_CUT": 200,
        "MOST_READ": 0,
        "MOST_SCANNED": 0,
    }.items():
        monkeypatch.setattr(scoring, name, value)


def model(world, seed=0):
    return np.random.default_rng(seed).standard_normal(world.catalog.D).astype(np.float32), 0.25


def exact_scores(world, weights, intercept):
    return (world.embeddings - world.catalog.signs.mean_) @ weights + np.float32(intercept)


def of(world, exact, ids):
    """Return the exact scores of ids; every one of them is in the catalog."""
    rows = np.searchsorted(world.ids, ids)
    assert np.array_equal(world.ids[np.minimum(rows, len(world.ids) - 1)], ids)
    return exact[rows]


@pytest.mark.parametrize("name", BACKENDS)
def test_all_scores_of_a_small_catalog_are_exact(stored, name):
    weights, intercept = model(stored)
    exact = exact_scores(stored, weights, intercept)
    with open_backend(name, stored.catalog) as backend:
        view = EmbeddingView(backend, stored.catalog, None)
        found = view.scores(weights, intercept, scoring.HEAD)
        listed, scores = view.listed(weights, intercept, found, 0.0, NOTHING)
    assert np.array_equal(np.sort(found.ids), stored.ids)
    assert np.allclose(found.scores, of(stored, exact, found.ids), atol=1e-3)
    assert (np.diff(found.scores) <= 0).all()
    assert (found.sampled.tolist(), found.error, found.scale, found.offset) == ([], 0.0, 1.0, 0.0)
    assert (listed.tolist(), scores.tolist()) == (found.ids.tolist(), found.scores.tolist())


@pytest.mark.parametrize("name", BACKENDS)
def test_a_filter_leaves_the_others_out(stored, small, name, monkeypatch):
    where, inside = stored.where(0.4)
    weights, intercept = model(stored)
    exact = exact_scores(stored, weights, intercept)
    for most in (10**6, 500):
        monkeypatch.setattr(scoring, "MOST_EXACT", most)
        with open_backend(name, stored.catalog) as backend:
            view = EmbeddingView(backend, stored.catalog, where)
            found = view.scores(weights, intercept, scoring.HEAD)
            listed, scores = view.listed(weights, intercept, found, 0.0, NOTHING)
        assert view.n == inside.sum()
        for ids in (found.ids, found.sampled, listed):
            assert np.isin(ids, stored.ids[inside]).all()
        assert len(found.ids) + found.stands_for * len(found.sampled) == pytest.approx(view.n)
        wanted = stored.ids[inside & (exact >= 0.0)]
        assert np.isin(wanted, listed[scores >= 0]).mean() > (0.8 if most == 500 else 0.999)


@pytest.mark.parametrize("name", BACKENDS)
def test_of_a_large_catalog_the_best_are_listed_and_a_sample_stands_for_the_rest(world, small, name):
    weights, intercept = model(world)
    exact = exact_scores(world, weights, intercept)
    with open_backend(name, world.catalog) as backend:
        view = EmbeddingView(backend, world.catalog, None)
        found = view.scores(weights, intercept, scoring.HEAD)
        rough = backend.score(weights, tier="bits", limit=400)
        guessed = estimates(backend, world, weights, found)
    assert len(found.ids) == len(np.unique(found.ids)) == 400
    assert set(found.ids) == set(rough.ids)
    assert (np.diff(found.scores) <= 0).all()
    assert not np.isin(found.sampled, found.ids).any()
    assert 0 < len(found.sampled) <= 300
    assert 400 + found.stands_for * len(found.sampled) == pytest.approx(len(world.ids))
    assert np.allclose(found.sampled_scores, of(world, exact, found.sampled), atol=1e-3)
    head = np.isin(found.ids, rough.ids[:50])
    assert np.allclose(found.scores[head], of(world, exact, found.ids[head]), atol=1e-3)
    assert np.allclose(found.scores[~head], of(world, guessed, found.ids[~head]), atol=1e-4)
    errors = found.scores - of(world, exact, found.ids)
    assert np.abs(errors).max() < 6 * found.error
    assert abs(errors[~head].mean()) < 2 * found.error
    assert found.scale > 0


@pytest.mark.parametrize("share", [0.005, 0.05, 0.2, 0.6])
@pytest.mark.parametrize("name", BACKENDS)
def test_all_items_above_the_cut_are_listed_and_those_near_it_are_exact(world, small, name, share):
    weights, intercept = model(world, 1)
    exact = exact_scores(world, weights, intercept)
    cut = float(np.quantile(exact, 1 - share))
    marked = np.random.default_rng(0).choice(world.ids, 30, replace=False)
    with open_backend(name, world.catalog) as backend:
        view = EmbeddingView(backend, world.catalog, None)
        found = view.scores(weights, intercept, scoring.HEAD)
        ids, scores = view.listed(weights, intercept, found, cut, marked)
        guessed = estimates(backend, world, weights, found)
    assert len(np.unique(ids)) == len(ids)
    assert np.isin(marked, ids).all()
    assert np.array_equal(best_first(scores, ids), np.arange(len(ids)))
    true = of(world, exact, ids)
    right = np.isin(ids, marked)
    assert np.allclose(scores[right], true[right], atol=1e-3)
    assert np.count_nonzero(np.abs(scores - true) < 1e-3) >= 200
    above = np.count_nonzero(found.scores >= cut) + found.stands_for * np.count_nonzero(found.sampled_scores >= cut)
    most = 400 + round(1.5 * above)
    best = np.argsort(-guessed)[: most - 1]
    within = world.ids[best[guessed[best] > cut - 2.99 * found.error]]
    assert np.isin(within, ids).all()
    assert np.isin(world.ids[guessed > cut], ids).all()
    assert len(ids) <= max(most, 400) + len(marked)
    found_right = ids[scores >= cut]
    wanted = world.ids[exact >= cut]
    agreed = 2 * len(np.intersect1d(found_right, wanted)) / (len(found_right) + len(wanted))
    assert agreed > 0.7  # of 48 random dims the bits tell little


def estimates(backend, world, weights, found):
    """Return the scores of all items that the line from bits foretells, in the order of ids."""
    bits = backend.score(weights, tier="bits")
    order = np.argsort(bits.ids)
    assert np.array_equal(bits.ids[order], world.ids)
    return found.scale * bits.scores[order] + found.offset


@pytest.mark.parametrize("count", [0, 1, 7, 100, 1000])
@pytest.mark.parametrize("cut", [-9.0, -0.4, 0.0, 2.5, 9.0])
def test_the_numbers_nearest_to_a_cut_lie_together(count, cut):
    falling = np.sort(np.random.default_rng(count).standard_normal(300).astype(np.float32))[::-1]
    chosen = falling[scoring._nearest(falling, cut, count)]
    assert len(chosen) == min(count, 300)
    assert np.array_equal(np.sort(np.abs(chosen - cut)), np.sort(np.abs(falling - cut))[:count])


@pytest.mark.parametrize("limit", ["MOST_READ", "MOST_SCANNED"])
@pytest.mark.parametrize("name", BACKENDS)
def test_all_that_is_listed_is_scored_exactly_where_it_is_read_at_once(stored, small, name, limit, monkeypatch):
    monkeypatch.setattr(scoring, limit, 1 << 20)
    weights, intercept = model(stored, 1)
    exact = exact_scores(stored, weights, intercept)
    cut = float(np.quantile(exact, 0.8))
    with open_backend(name, stored.catalog) as backend:
        view = EmbeddingView(backend, stored.catalog, None)
        found = view.scores(weights, intercept, head=400)
        ids, scores = view.listed(weights, intercept, found, cut, stored.ids[:3])
    assert np.allclose(found.scores, of(stored, exact, found.ids), atol=1e-3)
    assert np.allclose(scores, of(stored, exact, ids), atol=1e-3)
    assert np.array_equal(best_first(scores, ids), np.arange(len(ids)))
    assert np.isin(stored.ids[:3], ids).all()
    assert 400 < len(ids) < len(stored.ids)
    if limit == "MOST_SCANNED":
        assert np.isin(stored.ids[exact > cut + 1e-3], ids).all()
        assert np.array_equal(np.sort(scores[:500]), np.sort(scores)[-500:])


@pytest.mark.parametrize("missing", [0, 1])
def test_a_list_is_exact_if_all_embeddings_may_be_read_to_the_last_byte(stored, small, missing, monkeypatch):
    monkeypatch.setattr(scoring, "MOST_SCANNED", 2 * stored.catalog.D * len(stored.ids) - missing)
    weights, intercept = model(stored, 1)
    exact = exact_scores(stored, weights, intercept)
    with open_backend("cpu", stored.catalog) as backend:
        view = EmbeddingView(backend, stored.catalog, None)
        found = view.scores(weights, intercept, scoring.HEAD)
        ids, scores = view.listed(weights, intercept, found, float(np.quantile(exact, 0.8)), NOTHING)
    assert np.allclose(scores, of(stored, exact, ids), atol=1e-3) == (not missing)


@pytest.mark.parametrize("name", BACKENDS)
def test_a_sample_that_tells_of_too_few_above_the_cut_does_not_cut_the_list_short(world, small, name):
    weights, intercept = model(world, 1)
    cut = float(np.quantile(exact_scores(world, weights, intercept), 0.2))
    with open_backend(name, world.catalog) as backend:
        view = EmbeddingView(backend, world.catalog, None)
        found = replace(view.scores(weights, intercept, scoring.HEAD), stands_for=0.0)
        ids, _ = view.listed(weights, intercept, found, cut, NOTHING)
        guessed = estimates(backend, world, weights, found)
    above = world.ids[guessed > cut]
    assert len(above) > 3 * 400
    assert np.isin(above, ids).all()


@pytest.mark.parametrize("sampled", [5, 300])
@pytest.mark.parametrize("name", BACKENDS)
def test_the_best_by_bits_are_found_however_little_the_sample_tells_of_where_they_end(
    world, small, name, sampled, monkeypatch
):
    monkeypatch.setattr(scoring, "SAMPLED", sampled)
    weights, intercept = model(world, 4)
    for spare in (4.0, -0.9):  # the second expects too few
        monkeypatch.setattr(scoring, "_SPARE", spare)
        with open_backend(name, world.catalog) as backend:
            found = EmbeddingView(backend, world.catalog, None).scores(weights, intercept, scoring.HEAD)
            rough = backend.score(weights, tier="bits", limit=400)
        assert set(found.ids) == set(rough.ids)


@pytest.mark.parametrize("name", BACKENDS)
def test_bits_are_read_as_backends_score_them(world, name):
    weights, _ = model(world)
    ids = np.random.default_rng(0).permutation(world.ids)[:50]
    bits, scales = world.catalog.sign_bits(ids)
    with open_backend(name, world.catalog) as backend:
        scored = scoring.in_order(backend.score(weights, tier="bits", ids=ids), ids)
    assert np.array_equal(world.catalog.signs.planes(weights).scores(bits, scales), scored)


@pytest.mark.parametrize("name", BACKENDS)
def test_an_outlier_among_the_best_hides_nothing_above_the_cut(stored, small, name):
    weights, intercept = model(stored, 1)
    exact = exact_scores(stored, weights, intercept)
    with open_backend(name, stored.catalog) as backend:
        view = EmbeddingView(backend, stored.catalog, None)
        found = view.scores(weights, intercept, scoring.HEAD)
        # one of the best by bits turns out to be far down: the list of bits still ends where it did
        scores = found.scores.copy()
        scores[-1] = scores[-2] - 20 * found.error
        lower = replace(found, scores=scores)
        cut = float(found.scores[-2]) - found.error
        ids, _ = view.listed(weights, intercept, lower, cut, NOTHING)
        guessed = estimates(backend, stored, weights, found)
    assert np.isin(stored.ids[guessed > cut], ids).all()
    assert np.isin(stored.ids[exact > cut + 3 * found.error], ids).all()


def test_backends_agree_on_what_is_listed_and_sampled(world, small):
    weights, intercept = model(world)
    answers = []
    for name in BACKENDS:
        with open_backend(name, world.catalog) as backend:
            view = EmbeddingView(backend, world.catalog, None)
            found = view.scores(weights, intercept, scoring.HEAD)
            answers.append((found, view.listed(weights, intercept, found, 1.0, world.ids[:5])))
    (one, listed), (other, same) = answers
    assert set(one.ids) == set(other.ids)
    assert np.array_equal(one.sampled, other.sampled)
    assert np.allclose(one.scores, other.scores, atol=1e-4)
    assert one.error == pytest.approx(other.error, abs=1e-5)
    assert set(listed[0]) == set(same[0])
    assert set(listed[0][listed[1] >= 1]) == set(same[0][same[1] >= 1])


@pytest.mark.parametrize("name", BACKENDS)
def test_codes_are_scored_as_vectors_around_their_mean(stored, small, name, monkeypatch):
    weights = np.random.default_rng(2).standard_normal(stored.catalog.d).astype(np.float32)
    for most in (10**6, 500):
        monkeypatch.setattr(scoring, "MOST_EXACT", most)
        with open_backend(name, stored.catalog) as backend:
            view = CodeView(backend, stored.catalog)
            found = view.scores(weights, -0.5)
            exact = (stored.codes / np.float32(127.5) - view.mean) @ weights - 0.5
            assert np.allclose(view.vectors(stored.ids[:9]) @ weights - 0.5, exact[:9], atol=1e-4)
        assert np.allclose(found.scores, of(stored, exact, found.ids), atol=1e-4)
        assert np.allclose(found.sampled_scores, of(stored, exact, found.sampled), atol=1e-4)
        assert len(found.ids) == (len(stored.ids) if most > 500 else 400)
        assert len(found.ids) + found.stands_for * len(found.sampled) == pytest.approx(len(stored.ids))
        assert found.scores.min() >= found.sampled_scores.max(initial=-np.inf) - 0.02  # listed by rounded weights


def test_marked_items_are_taken_out_listed_or_sampled():
    scores = CatalogScores(
        np.array([5, 3, 9]), np.array([3, 2, 1], np.float32), np.array([1, 7]), np.array([-1, 0], np.float32), 12.5
    )
    ids, left, weights = scores.without(np.array([3, 7, 100]))
    assert (ids.tolist(), left.tolist(), weights.tolist()) == ([5, 9, 1], [3, 1, -1], [1, 1, 12.5])
    assert [len(part) for part in scores.without(np.array([1, 3, 5, 7, 9]))] == [0, 0, 0]


@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize("decoded", [False, True])
def test_catalogs_of_a_few_items_are_scored(tmp_path, size, decoded):
    world = World(tmp_path / "world", [size], deleted=0.0, decoded=decoded)
    weights, intercept = model(world)
    exact = exact_scores(world, weights, intercept)
    with open_backend("cpu", world.catalog) as backend:
        view = EmbeddingView(backend, world.catalog, None)
        found = view.scores(weights, intercept, scoring.HEAD)
        ids, scores = view.listed(weights, intercept, found, 0.0, world.ids[:1])
    assert np.array_equal(np.sort(ids), world.ids)
    assert np.allclose(scores, of(world, exact, ids), atol=1e-3)


def test_equal_items_are_scored_equal(tmp_path, small):
    world = World(tmp_path / "world", [700], duplicates=True)
    weights, intercept = model(world)
    exact = exact_scores(world, weights, intercept)
    with open_backend("cpu", world.catalog) as backend:
        view = EmbeddingView(backend, world.catalog, None)
        found = view.scores(weights, intercept, scoring.HEAD)
        _, scores = view.listed(weights, intercept, found, float(exact[0]), NOTHING)
    assert np.isfinite(found.scores).all()
    assert np.allclose(found.sampled_scores, exact[0], atol=1e-3)
    assert np.allclose(scores, exact[0], atol=1e-3)


@pytest.mark.parametrize("name", BACKENDS)
def test_a_filter_that_lets_nothing_in_leaves_nothing(stored, small, name, monkeypatch):
    where, _ = stored.where(0.0)
    weights, intercept = model(stored)
    for most in (500, -1):
        monkeypatch.setattr(scoring, "MOST_EXACT", most)
        with open_backend(name, stored.catalog) as backend:
            view = EmbeddingView(backend, stored.catalog, where)
            found = view.scores(weights, intercept, scoring.HEAD)
            ids, _ = view.listed(weights, intercept, found, 0.0, NOTHING)
        assert [len(part) for part in found.without(NOTHING)] == [0, 0, 0]
        assert len(ids) == 0


@pytest.mark.parametrize("count", [1, 7, 100, 5000])
def test_thinned_scores_stand_for_all_that_is_unmarked(count):
    rng = np.random.default_rng(count)
    scores = np.sort(rng.standard_normal(1000))[::-1].astype(np.float32)
    sampled = (scores[-1] - rng.random(300)).astype(np.float32)
    found = CatalogScores(np.arange(1000), scores, 1000 + np.arange(300), sampled, 12.5)
    marked = np.array([0, 3, 999, 1100])
    ids, kept, stands_for = found.thinned(marked, count)
    assert len(ids) <= max(count + 1, 1) or count >= 1296
    assert not np.isin(ids, marked).any()
    assert stands_for.sum() == pytest.approx(997 + 299 * 12.5)
    every, of_all, _ = found.without(marked)
    assert np.isin(ids, every).all()
    assert np.isin(kept, of_all).all()
