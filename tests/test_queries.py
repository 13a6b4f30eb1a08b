"""Texts that ask for several things at once: their grammar, and what they find."""

import numpy as np
import pytest
from clusters import NAMES, write_world
from hypothesis import given
from hypothesis import strategies as st

from gpubranches import Catalog, Session, open_backend
from gpubranches.core.arrays import unit
from gpubranches.encoders import open_embedder
from gpubranches.errors import UsageError
from gpubranches.ingestion import ingest
from gpubranches.retrieval.queries import (
    LONGEST,
    MOST_TERMS,
    Item,
    Picture,
    Query,
    Words,
    combine,
    parse,
    written_terms,
)
from gpubranches.retrieval.search import Searcher

PLAIN = st.text("abc-+\"' é#:", min_size=1, max_size=12).map(lambda text: "x" + " ".join(text.split()))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("queries")
    np.save(path / "labels.npy", write_world(path))
    ingest([path / "images"], path / "catalog", embedder=f"vocabulary:{path}/text/emb.npy,{path}/text/names.json")
    return path


@pytest.fixture(scope="module")
def searcher(folder):
    catalog = Catalog.open(folder / "catalog")
    with open_backend("oracle", catalog) as backend:
        yield Searcher(catalog, backend, open_embedder(catalog.embedder), {"a" * 10: catalog.embeddings([17])[0]}.get)


@pytest.mark.parametrize(
    ("text", "query"),
    [
        ("dog", Query((Words("dog"),))),
        ("  a  red dog ", Query((Words("a red dog"),))),
        ("dog + #17 - sketch", Query((Words("dog"), Item(17)), (Words("sketch"),))),
        ("- cat + dog", Query((Words("dog"),), (Words("cat"),))),
        ("+ dog", Query((Words("dog"),))),
        ("t-shirt, black-and-white -5 +1", Query((Words("t-shirt, black-and-white -5 +1"),))),
        ('"#1 + dad" - "a - b"', Query((Words("#1 + dad"),), (Words("a - b"),))),
        ('"black dog" on grass', Query((Words('"black dog" on grass'),))),
        ('5" pipe - "tap', Query((Words('5" pipe'),), (Words('"tap'),))),
        ('"a" + "b', Query((Words("a"), Words('"b')))),
        ("#17", Query((Item(17),))),
        (f"picture:{'ab12' * 2}cd + #3", Query((Picture("ab12ab12cd"), Item(3)))),
    ],
)
def test_a_text_is_read_as_its_grammar_says(text, query):
    assert parse(text) == query


@pytest.mark.parametrize(
    ("text", "part"),
    [
        (" ", "a word or more"),
        ("dog +", "after +, got the end"),
        ("dog + - cat", "after +, got '-'"),
        ("-", "after -, got the end"),
        ("- dog - #3", "got only subtracted ones"),
        ("#1 dad", "quotes"),
        ("# 3", "quotes"),
        ("picture:of a dog", "name of a picture"),
        ('"" + dog', "between the quotes"),
        ("x" * (LONGEST + 1), "at most 1,000 letters"),
        (" + ".join("x" * (MOST_TERMS + 1)), f"at most {MOST_TERMS}"),
    ],
)
def test_what_is_no_query_is_told_why(text, part):
    with pytest.raises(UsageError, match=part.replace("+", r"\+")):
        parse(text)


@given(terms=st.lists(st.tuples(st.sampled_from("+-"), PLAIN), min_size=1, max_size=6))
def test_quoted_words_come_back_whatever_they_hold(terms):
    terms = [(sign, " ".join(text.replace('"', "").split())) for sign, text in terms]
    text = " ".join(f'{sign} "{text}"' for sign, text in [("+", "first"), *terms])
    assert parse(text) == Query(
        (Words("first"), *(Words(text) for sign, text in terms if sign == "+")),
        tuple(Words(text) for sign, text in terms if sign == "-"),
    )


@given(text=PLAIN)
def test_words_without_a_sign_between_spaces_are_one_text(text):
    if not {"+", "-"} & set(text.split()):
        assert parse(text) == Query((Words(text),))


@given(seed=st.integers(0, 2**32 - 1), counts=st.tuples(*[st.integers(0, 3)] * 3))
def test_the_order_of_terms_does_not_count_and_none_turns_the_query_round(seed, counts):
    rng = np.random.default_rng(seed)
    words, images, away = (unit(rng.standard_normal((m, 16)).astype(np.float32)) for m in (counts[0] + 1, *counts[1:]))
    direction = combine(words, images, away)
    turned = combine(words[::-1], images[::-1], away[::-1])
    assert np.allclose(direction, turned, atol=1e-5)
    plain = combine(words, images, away[:0])
    assert np.array_equal(combine(words[:1], images[:0], away[:0]), words[0])
    if len(away) == 1:
        before, after = float(away[0] @ plain), float(away[0] @ direction)
        assert after == pytest.approx(before / 2 if before > 0 else before, abs=1e-5)


def test_a_single_term_is_answered_as_ever(searcher):
    for text, other in (
        ("kangaroo", searcher.search(Words("kangaroo"), 50)),
        ('"kangaroo"', searcher.search(Words("kangaroo"), 50)),
        ("#17", searcher.search(17, 50)),
        (f"picture:{'a' * 10}", searcher.search(searcher.catalog.embeddings([17])[0], 50)),
    ):
        found = searcher.search(text, 50)
        assert np.array_equal(found.ids, other.ids), text
        assert np.array_equal(found.distances, other.distances), text
    assert np.array_equal(searcher.search("#17", 9, by_codes=True).ids, searcher.search(17, 9, by_codes=True).ids)


def test_adding_draws_both_and_subtracting_sends_away(searcher, labels):
    kangaroo, teapot = NAMES.index("kangaroo"), NAMES.index("teapot")

    def shares(text):
        found = labels[searcher.search(text, 100).ids]
        return (found == kangaroo).mean(), (found == teapot).mean()

    item = int(np.flatnonzero(labels == teapot)[0])
    assert min(shares("kangaroo + teapot")) > 0.2
    assert min(shares(f"kangaroo + #{item}")) > 0.05
    assert shares("kangaroo + teapot - teapot")[1] < shares("kangaroo + teapot")[1]
    assert shares(f"kangaroo + teapot - #{item}")[1] < shares("kangaroo + teapot")[1]


def test_what_cannot_be_combined_is_refused_with_advice(searcher, folder, tmp_path):
    for text, part in (
        ("kangaroo - kangaroo - kangaroo", "cancel"),
        ("#17 + #99999", "ids"),
        ("zzz + #1", "names that are known"),
    ):
        with pytest.raises(UsageError, match=part):
            searcher.search(text)
    with pytest.raises(UsageError, match="got several terms"):
        searcher.search("#1 + #2", by_codes=True)
    with pytest.raises(UsageError, match="only in the session of its upload"):
        Session(searcher.catalog, searcher.backend).search(f"picture:{'b' * 10} + #1")
    codes = np.random.default_rng(0).integers(0, 256, (40, 8)).astype(np.uint8)
    np.save(tmp_path / "codes.npy", codes)
    ingest([tmp_path / "codes.npy"], tmp_path / "codes")
    alone = Catalog.open(tmp_path / "codes")
    with open_backend("oracle", alone) as backend:
        assert Searcher(alone, backend).search("#3", 5).ids[0] == 3
        for text in ("#3 + #4", "dog", "dog + #3"):
            with pytest.raises(UsageError, match="one item"):
                Searcher(alone, backend).search(text)


WRITTEN = st.lists(
    st.tuples(
        st.sampled_from("+-"), st.sampled_from(["dog", "t-shirt", "#17", '"a - b"', "picture:abcdefgh23", '"x', 'y"'])
    ),
    min_size=1,
    max_size=5,
)


@given(WRITTEN)
def test_a_query_without_one_of_its_terms_has_all_the_others(terms):
    text = " ".join(f"{sign} {word}" for sign, word in terms)
    try:
        before = parse(text)
    except UsageError:
        with pytest.raises(UsageError):
            written_terms(text)
        return
    written = written_terms(text)
    assert {(w.sign, w.term) for w in written} == {("+", t) for t in before.added} | {
        ("-", t) for t in before.subtracted
    }
    for at, term in enumerate(written):
        if not term.others:
            continue
        rest = written[:at] + written[at + 1 :]
        after = parse(term.others)
        assert after.added == tuple(other.term for other in rest if other.sign == "+")
        assert after.subtracted == tuple(other.term for other in rest if other.sign == "-")


def test_terms_are_told_as_they_were_written():
    written = written_terms('dog  + #17 - "black - white"')
    assert [(w.sign, w.text) for w in written] == [("+", "dog"), ("+", "#17"), ("-", '"black - white"')]
    assert [w.others for w in written] == ['#17 - "black - white"', 'dog - "black - white"', "dog + #17"]
    assert [w.others for w in written_terms("dog - cat")] == ["", "dog"]  # nothing is left to look for
    assert written_terms("#17")[0].others == ""
