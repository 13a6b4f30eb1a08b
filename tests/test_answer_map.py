"""The map of an answer: where its items lie, which are drawn, what an area holds, and that a missed group is seen."""

import numpy as np
import pytest
from groups import EACH, KINDS, write_groups
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from serving import *  # noqa: F403
from serving import API, begun, found_all

from gpubranches import Session, open_backend
from gpubranches.core.options import RefineOptions
from gpubranches.errors import UsageError
from gpubranches.retrieval.projection import fit_plane
from gpubranches.service import answer_map
from gpubranches.service.answer_map import EXTENT, AnswerMaps, inside


@pytest.fixture(scope="module")
def groups(tmp_path_factory):
    """A catalog of kinds within groups, group and kind of each item, and an answer of one kind alone."""
    catalog, group, kind, embedder = write_groups(tmp_path_factory.mktemp("groups"))
    with open_backend("oracle", catalog) as backend:
        session = Session(catalog, backend, embedder=embedder)
        session.mark(np.flatnonzero(kind == 0)[:6], +1)
        session.mark(np.flatnonzero(group != 0)[:12], -1)
        session.find_all(RefineOptions())
        yield catalog, group, kind, session


def drawn(session, most=answer_map.MOST_POINTS, maps=None):
    return (maps or AnswerMaps()).get(session.last_found(), session.last_answer(), most)


def purity(places, of, near=10):
    """Return the share of items of a group among the nearest points of each, on average."""
    found = []
    for row in np.flatnonzero(of):
        gaps = ((places - places[row]).astype(float) ** 2).sum(axis=1)
        gaps[row] = np.inf
        found.append(of[np.argsort(gaps)[:near]].mean())
    return float(np.mean(found))


def test_a_second_group_that_was_missed_lies_together_and_apart_from_the_rest(groups):
    catalog, _, kind, session = groups
    held = drawn(session)
    missed = {
        k: purity(held.places, kind[held.ids] == k)
        for k in range(1, KINDS)
        if np.isin(session.last_answer().matches.ids, np.flatnonzero(kind == k)).mean() < 0.2
    }
    assert missed
    chance = EACH / catalog.n
    assert np.mean(list(missed.values())) > 8 * chance
    everything = np.arange(catalog.n)
    vectors = catalog.embeddings(everything)
    plain = (vectors - vectors.mean(axis=0)) @ np.linalg.svd(vectors - vectors.mean(axis=0), full_matrices=False)[2][
        :2
    ].T
    assert np.mean(list(missed.values())) > np.mean([purity(plain, kind == k) for k in missed])


def test_matches_lie_to_the_right_and_everything_is_within_the_extent(groups):
    held = drawn(groups[3])
    matches = held.kinds >= 2
    assert held.places[matches].mean(axis=0)[0] > held.places[~matches].mean(axis=0)[0]
    assert np.abs(held.places).max() == EXTENT
    assert held.drawn == held.totals
    assert sum(held.totals.values()) == groups[0].n


def test_the_same_marks_give_the_same_map_and_other_answers_another(groups):
    catalog, _, kind, session = groups
    again = Session(catalog, session.backend, embedder=session.embedder)
    again.mark(session.positives, +1)
    again.mark(session.negatives, -1)
    again.find_all(RefineOptions())
    one, two = drawn(session), drawn(again)
    assert (one.version, one.ids.tolist()) == (two.version, two.ids.tolist())
    assert np.array_equal(one.places, two.places)
    again.mark(np.flatnonzero(kind == 7)[:8], +1)
    again.find_all(RefineOptions())
    assert drawn(again).version != one.version


def test_marks_change_what_the_points_are_and_not_where_they_lie(groups):
    catalog, _, _, session = groups
    maps = AnswerMaps()
    before = drawn(session, 100, maps)
    outside = np.setdiff1d(np.arange(catalog.n), before.ids)[:3]
    wrong = before.ids[before.kinds >= 2][:1]
    session.mark(outside, +1)
    session.mark(wrong, -1)
    try:
        after = drawn(session, 100, maps)
    finally:
        session.undo()
        session.undo()
    assert after.version == before.version
    placed = dict(zip(after.ids.tolist(), after.places.tolist(), strict=True))
    kinds = dict(zip(after.ids.tolist(), after.kinds.tolist(), strict=True))
    assert set(placed) == {*before.ids.tolist(), *outside.tolist()}
    assert [placed[item] for item in before.ids.tolist()] == before.places.tolist()
    assert [kinds[item] >= 2 for item in outside.tolist()] == [True] * 3
    assert kinds[int(wrong[0])] == 1


@given(most=st.integers(1, 2000))
def test_no_more_points_are_drawn_than_asked_for_and_the_matches_evenly(groups, most):
    session = groups[3]
    held, marked = drawn(session, most), len(session.positives) + len(session.negatives)
    assert len(held.ids) <= most + marked
    assert len(set(held.ids.tolist())) == len(held.ids)
    ranking = session.last_answer().listed
    ranked = held.ids[np.isin(held.ids, ranking.ids[ranking.matched])]
    order = [int(np.flatnonzero(ranking.ids == item)[0]) for item in ranked[: max(0, len(ranked) - marked)]]
    assert order == sorted(order)


def test_an_answer_within_a_filter_draws_nothing_from_outside_it(groups):
    catalog, group, _, session = groups
    filtered = Session(catalog, session.backend, embedder=None)
    filtered.mark(np.flatnonzero(group == 0)[:6], +1)
    filtered.find_all(RefineOptions(where="grp < 2"))
    held = drawn(filtered)
    assert set(group[held.ids].tolist()) <= {-1, 0, 1}
    assert sum(held.totals.values()) == int((group < 2).sum())


def test_codes_alone_have_a_map_too(tmp_path):
    from gpubranches import Catalog
    from gpubranches.ingestion import ingest

    codes = np.random.default_rng(0).integers(0, 256, (300, 16)).astype(np.uint8)
    np.save(tmp_path / "codes.npy", codes)
    ingest([tmp_path / "codes.npy"], tmp_path / "catalog")
    catalog = Catalog.open(tmp_path / "catalog")
    with Session(catalog, "oracle", embedder=None) as session:
        session.mark([1, 2, 3], +1)
        session.find_all()
        held = drawn(session)
    assert len(held.ids) >= 3
    assert np.isfinite(held.places).all()


def test_a_plane_of_nothing_and_of_one_item_is_still_a_plane(groups):
    catalog = groups[0]
    for some in ([], [np.zeros(0, np.int64)], [np.array([3])]):
        points = fit_plane(catalog, some).points(catalog, np.arange(5))
        assert points.shape == (5, 2)
        assert np.isfinite(points).all()


# Areas

PLACES = arrays.arrays(np.int32, st.tuples(st.integers(0, 40), st.just(2)), elements=st.integers(-50, 50))
CORNERS = st.lists(st.tuples(st.integers(-60, 60), st.integers(-60, 60)), min_size=3, max_size=12)


@given(PLACES, CORNERS, st.integers(0, 11), st.integers(-9, 9))
def test_an_area_is_the_same_from_any_corner_on_and_moves_with_its_points(places, area, turn, by):
    held = inside(places, area)
    turned = area[turn % len(area) :] + area[: turn % len(area)]
    assert np.array_equal(inside(places, turned), held)
    moved = [(x + by, y + by) for x, y in area]
    assert np.array_equal(inside((places + by).astype(np.int32), moved), held)


@given(PLACES, st.integers(-60, 60), st.integers(-60, 60), st.integers(1, 60), st.integers(1, 60))
def test_a_rectangle_holds_what_lies_between_its_sides(places, left, bottom, width, height):
    area = [(left, bottom), (left + width, bottom), (left + width, bottom + height), (left, bottom + height)]
    x, y = places[:, 0], places[:, 1]
    expected = (x >= left) & (x < left + width) & (y >= bottom) & (y < bottom + height)
    assert np.array_equal(inside(places, area), expected)


# Over HTTP

EVERYTHING = (
    f"-{2 * EXTENT}_-{2 * EXTENT}_{2 * EXTENT}_-{2 * EXTENT}_{2 * EXTENT}_{2 * EXTENT}_-{2 * EXTENT}_{2 * EXTENT}"
)


def test_page_and_api_send_the_same_map(client, labels):
    at, answer = found_all(client, labels)
    shown = {"session": at.rpartition("/")[2]}
    sent = client.get(f"{at}/map?points=100000").json
    assert client.get("/map/points", query_string=shown).json == sent
    assert len(sent["ids"]) == len(sent["x"]) == len(sent["y"]) == len(sent["kinds"]) == 700
    assert sent["totals"]["matches"] == answer["total"]
    assert len(client.get(f"{at}/map?points=50").json["ids"]) <= 50 + 18
    assert client.get(f"{at}/map?points=0").status_code == 422
    assert client.get(f"{begun(client)}/map").status_code == 422


def test_the_items_of_an_area_are_a_list_that_can_be_paged(client, labels):
    at, answer = found_all(client, labels)
    shown = {"session": at.rpartition("/")[2]}
    version = client.get(f"{at}/map").json["version"]
    asked = {**shown, "version": version, "area": EVERYTHING}
    page = client.get("/map", query_string=asked)
    assert f'data-total="{700}"' in page.text
    later = client.get("/map", query_string={**asked, "offset": 60}, headers={"HX-Request": "true"})
    assert later.text.count('class="tile"') == 60
    matches = client.get("/map", query_string={**asked, "kinds": "2345"})
    assert f'data-total="{answer["total"]}"' in matches.text
    stale = client.get("/map", query_string={**asked, "version": "another"})
    assert (stale.status_code, 'data-total="0"' in stale.text) == (200, True)
    for wrong in ("1_2", "1_2_3_4_5", "a", "1_2_3_4_5_6~", "_".join(["1"] * 4002), "1_2_3_4_5_6" * 40):
        refused = client.get("/map", query_string={**asked, "area": wrong})
        assert (refused.status_code, "expected polygons" in refused.text) == (422, True), wrong
    for wrong in ("a", "6", "-1", "٣"):
        refused = client.get("/map", query_string={**asked, "kinds": wrong})
        assert (refused.status_code, "expected digits" in refused.text) == (422, True), wrong
    nothing = client.get("/map", query_string={"session": begun(client).rpartition("/")[2]})
    assert (nothing.status_code, "/matches" in nothing.headers["Location"]) == (302, True)


def test_an_area_of_another_kind_of_number_is_refused():
    from gpubranches.app.map_routes import parse_areas

    assert parse_areas("1_2_-3_4_5_6~0_0_1_0_1_1") == [[(1, 2), (-3, 4), (5, 6)], [(0, 0), (1, 0), (1, 1)]]
    with pytest.raises(UsageError, match="select again"):
        parse_areas("1_2_3_4_5_٣")
    assert API
