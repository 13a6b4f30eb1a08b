"""Groups and unions of classes as concepts, users who walk a page, baselines that play rounds, F1 by size."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from clusters import NAMES
from clusters import world as clustered
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from gpubranches import Catalog, cli, open_backend
from gpubranches.encoders import VocabularyEmbedder
from gpubranches.errors import UsageError
from gpubranches.ingestion import ingest
from gpubranches.research.quality import Concept, LabelledCatalog, best_f1, evaluate, f1, find_concepts, play_rounds
from gpubranches.research.quality.answers import Answer
from gpubranches.research.quality.comparison import measured_within
from gpubranches.research.quality.groups import find_groups, random_unions, read_groups
from gpubranches.research.quality.measures import best_cut
from gpubranches.research.quality.models import BROAD, MODELS, choose_models
from gpubranches.research.quality.rounds import BROAD as BROAD_POLICIES
from gpubranches.research.quality.rounds import PAGE, POLICIES, choose_policies, play, play_model
from gpubranches.research.quality.size_bands import band, bands, by_size
from gpubranches.research.quality.users import USERS, choose_user

ROOT = Path(__file__).parents[1]
N = 1500


def metadata(labels):
    """Return data set, label and caption of every row; a background of rows that lack one of them, or hold ''."""
    rows = []
    for row, label in enumerate(labels):
        name = NAMES[label].replace(" ", "_")
        if label >= 0:
            rows.append(("first_half" if label < 4 else "second_half", int(label), name))
        else:
            rows.append(
                [("frames", None, None), (None, 0, "kangaroo"), ("first_half", None, None), ("", 1, "x")][row % 4]
            )
    return rows


@pytest.fixture(scope="module")
def rows():
    return metadata(clustered(N)[1])


@pytest.fixture(scope="module")
def world(tmp_path_factory, rows):
    folder = tmp_path_factory.mktemp("groups")
    images, _, texts = clustered(N)
    for name in ("images/img_emb", "images/metadata"):
        (folder / name).mkdir(parents=True)
    np.save(folder / "images/img_emb/img_emb_0.npy", images.astype(np.float16))
    columns = dict(zip(("dataset", "label", "caption"), map(list, zip(*rows))))
    pq.write_table(pa.table(columns), folder / "images/metadata/metadata_0.parquet")
    np.save(folder / "emb.npy", texts.astype(np.float32))
    (folder / "names.json").write_text(json.dumps(NAMES))
    vocabulary = VocabularyEmbedder.load(folder / "emb.npy", folder / "names.json")
    ingest([folder / "images"], folder / "catalog", embedder=vocabulary)
    catalog = Catalog.open(folder / "catalog")
    with open_backend("cpu", catalog) as backend:
        yield LabelledCatalog(catalog, backend, vocabulary)


def group(world, **keys):
    (concept,) = find_groups(world.catalog, {"it": {"query": None, **keys}}, world.embedder.knows)
    return concept


def ids_of(rows, wanted):
    return [row for row, (dataset, label, name) in enumerate(rows) if wanted(dataset, label, name)]


# Groups


def test_a_group_holds_the_classes_it_lists_by_value_or_by_name(world, rows):
    concept = group(world, first=[0, "grand piano"], second_half=["7"], ignore=[], distractors=True)
    assert concept.items.tolist() == ids_of(rows, lambda d, c, n: d in ("first_half", "second_half") and c in (0, 1, 7))
    assert (concept.where, concept.text, concept.by_embeddings) == (None, False, True)
    everything = group(world, first="all")
    assert everything.items.tolist() == ids_of(rows, lambda d, c, n: d == "first_half" and c is not None)


def test_a_group_is_asked_for_by_its_words(world):
    groups = {"it": {"query": "red car", "first": "all"}}
    (concept,) = find_groups(world.catalog, groups, world.embedder.knows)
    assert (concept.text, concept.words, concept.asked) == (True, "red car", "red car")
    assert world.draw(concept, 4, 0, USERS["page"]).query == '"red car"'
    (blind,) = find_groups(world.catalog, groups, None)
    assert (blind.text, blind.words) == (False, None)


def test_with_one_column_its_name_is_the_key(world, rows):
    groups = {"it": {"query": None, "caption": ["red car", 7], "ignore": ["x"]}}
    with pytest.raises(UsageError, match="got 7"):
        find_groups(world.catalog, groups, None, columns=("caption",))
    groups["it"]["caption"].pop()
    (concept,) = find_groups(world.catalog, groups, None, columns=("caption",))
    assert concept.items.tolist() == ids_of(rows, lambda d, c, n: n == "red_car")
    held = world.catalog.inside(np.arange(N), world.catalog.where(concept.where))
    assert np.flatnonzero(~held).tolist() == ids_of(rows, lambda d, c, n: n == "x")


@pytest.mark.parametrize("distractors", [True, False])
@pytest.mark.parametrize("ignored", [(), ("kangaroo",), ("kangaroo", "sunset", "violin")])
def test_what_is_left_out_is_the_ignored_and_not_what_lacks_a_value(world, rows, ignored, distractors):
    concept = group(world, first=["red_car"], ignore=list(ignored), distractors=distractors)

    def left_out(dataset, label, name):
        classless = not dataset or label is None
        return (classless and not distractors) or (not classless and name in ignored)

    expected = ids_of(rows, left_out)
    if not expected:
        assert concept.where is None
        return
    held = world.catalog.inside(np.arange(N), world.catalog.where(concept.where))
    assert np.flatnonzero(~held).tolist() == expected


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "a JSON file of groups"),
        ("[]", "a JSON object of a group or more"),
        ("{}", "a JSON object of a group or more"),
        ('{"it": []}', "it: expected an object"),
        ('{"it": {"first": "all"}}', "it: expected a query, a text or null, got none"),
        ('{"it": {"query": 3}}', "it: expected a query, a text or null, got 3"),
        ('{"it": {"query": " "}}', "a query"),
        ('{"it": {"query": null, "distractors": 1}}', "true or false"),
        ('{"it": {"query": null, "ignore": "all"}}', "a list of names"),
        ('{"it": {"query": null, "first": "some"}}', 'a list of classes or "all"'),
        ('{"it": {"query": null, "first": [true]}}', "a list of classes"),
        ('{"it": {"query": null}}', "a class or more, got none"),
        ('{"it": {"query": null, "first": []}}', "a class or more, got none"),
        ('{"it": {"query": null, "third": "all"}}', "first_half, second_half, got the key 'third'"),
        ('{"it": {"query": null, "half": "all"}}', "one of them in full, first_half, second_half, got the key 'half'"),
        ('{"it": {"query": null, "first": ["dog"]}}', "first: expected classes such as kangaroo"),
        ('{"it": {"query": null, "first": [5]}}', "got 5"),
        ('{"it": {"query": null, "first": [0], "ignore": ["dog"]}}', "ignore: expected classes"),
        ('{"it": {"query": null, "first": [0], "ignore": ["kangaroo"]}}', "both for kangaroo"),
        ('{"it": {"query": "dog", "first": [0]}}', "knows no 'dog'; write another query, or null"),
    ],
)
def test_a_mistake_in_a_file_of_groups_ends_in_a_message(world, command, tmp_path, text, says):
    file = tmp_path / "groups.json"
    file.write_text(text)
    code, out, err = command(world.catalog.path, "--groups", file)
    assert (code, out) == (2, "")
    assert says in " ".join(err.split())
    assert "Traceback" not in err


def test_a_file_of_groups_that_is_not_there_is_named(tmp_path):
    with pytest.raises(UsageError, match="nowhere"):
        read_groups(tmp_path / "nowhere.json")
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match=r"binary\.json"):
        read_groups(tmp_path / "binary.json")


def test_groups_need_one_column_or_two(world):
    for columns in ((), ("dataset", "label", "caption")):
        with pytest.raises(UsageError, match="one column or two"):
            find_groups(world.catalog, {}, None, columns=columns)
    with pytest.raises(UsageError, match="got breed"):
        find_groups(world.catalog, {}, None, columns=("dataset", "breed"))


def test_unions_are_drawn_by_their_seed_from_one_data_set(world, rows):
    unions = random_unions(world.catalog, 12)
    again = random_unions(world.catalog, 12)
    assert [(one.name, one.items.tolist()) for one in unions] == [(one.name, one.items.tolist()) for one in again]
    other = random_unions(world.catalog, 12, seed=1)
    assert [one.items.tolist() for one in unions] != [one.items.tolist() for one in other]
    assert len({one.name for one in unions}) == 12
    for union in unions:
        classes = {rows[item][:2] for item in union.items}
        assert len({dataset for dataset, _ in classes}) == 1
        assert 2 <= len(classes) <= 4
        assert union.items.tolist() == ids_of(rows, lambda d, c, n, classes=classes: (d, c) in classes)
        assert not union.text
    with pytest.raises(UsageError, match="2 classes"):
        random_unions(world.catalog, 1, columns=("caption", "label"))


# Users


def centred_order(world, query):
    return np.argsort(-(world.embeddings @ query / world.lengths), kind="stable")


def test_a_user_in_order_marks_the_first_right_and_the_first_wrong_of_the_page(world):
    concept = find_concepts(world.catalog, world.embedder.knows)[2]
    assert concept.text
    text = world.embedder.texts([concept.name])[0] - world.catalog.text_mean
    page = world.ids[centred_order(world, text)][:100]
    draw = world.draw(concept, 5, 0, USERS["page"])
    right = np.isin(page, concept.items)
    assert draw.positives.tolist() == page[right][:5].tolist()
    assert draw.negatives.tolist() == page[~right][:20].tolist()
    assert draw.query == f'"{concept.name}"'
    assert draw.inside.all()


def test_a_user_of_right_ones_alone_marks_no_wrong_one_and_tells_no_words(world):
    concept = find_concepts(world.catalog, world.embedder.knows)[2]
    page, right_only = (world.draw(concept, 5, 0, USERS[name]) for name in ("page", "right-only"))
    assert right_only.positives.tolist() == page.positives.tolist()
    assert len(right_only.negatives) == 0
    assert right_only.query is None
    session, ranking = next(play(world, right_only, POLICIES["suggested"], 0))
    assert len(session.negatives) == 0
    assert "words" not in ranking.source
    assert not np.isin(right_only.unchecked, right_only.positives).any()


def test_a_query_without_words_is_a_noisy_mean_of_embeddings(world):
    concept = group(world, first=[0, 1])
    draw = world.draw(concept, 8, 0, USERS["page"])
    rng = np.random.default_rng([0, 8, *b"it"])
    rng.integers(2**32)
    mean = world.embeddings[world.rows(concept.items)].mean(axis=0, dtype=np.float64)
    D = len(mean)
    query = mean / np.linalg.norm(mean) + 0.3 * rng.standard_normal(D) / np.sqrt(D)
    expected = centred_order(world, query)
    assert draw.order[:100].tolist() == expected[:100].tolist()
    assert draw.order.tolist() == world.draw(concept, 8, 0, USERS["page"]).order.tolist()
    assert draw.order.tolist() != world.draw(concept, 8, 1, USERS["page"]).order.tolist()


def test_a_class_without_words_is_asked_for_by_embeddings_by_users_in_order_alone(world):
    code = Concept("background", False, find_concepts(world.catalog, world.embedder.knows)[0].items)
    walked = world.draw(code, 8, 0, USERS["page"])
    drawn = world.draw(code, 8, 0)
    assert walked.order.tolist() == world.draw(replace(code, by_embeddings=True), 8, 0, USERS["page"]).order.tolist()
    assert walked.order.tolist() != drawn.order.tolist()


def test_users_are_chosen_by_name():
    assert choose_user("page") is USERS["page"]
    with pytest.raises(UsageError, match="random, page, right-only"):
        choose_user("nobody")


# What is left out


@pytest.fixture(scope="module")
def filtered(world):
    return group(world, first=["red_car", "sunset"], ignore=["kangaroo", "violin"], distractors=False)


@pytest.mark.parametrize("user", USERS)
def test_what_is_left_out_is_seen_and_counted_nowhere(world, rows, filtered, user):
    held = np.array([bool(d) and c is not None and n not in ("kangaroo", "violin") for d, c, n in rows])
    draw = world.draw(filtered, 8, 0, USERS[user])
    assert np.array_equal(draw.inside, held)
    assert np.array_equal(np.sort(draw.order), np.flatnonzero(held))
    for session, ranking in play(world, draw, POLICIES["suggested"], 2):
        for ids in (session.positives, session.negatives, ranking.ids, session.suggest(), session.audit(20)):
            assert held[ids].all()
    for name in ("text", "query-oracle", "qdrant-average", "refine"):
        assert not MODELS[name].answer(world, draw).matched[~held].any(), name
    for marked, _ in play_model(world, draw, MODELS["logistic-light"], 2):
        assert held[np.concatenate([marked.positives, marked.negatives])].all()


def test_measures_do_not_depend_on_what_is_left_out(world, filtered):
    draw = world.draw(filtered, 8, 0, USERS["page"])
    good, bad = world.flags(draw.positives), world.flags(draw.negatives)
    scores = np.random.default_rng(0).standard_normal(world.n)
    inside = Answer((scores > 1) & draw.inside, np.where(draw.inside, scores, -9))
    outside = Answer((scores > 1) | ~draw.inside, np.where(draw.inside, scores, 9))
    assert measured_within(draw, inside, good, bad) == measured_within(draw, outside, good, bad)
    returned = (inside.matched | good) & ~bad
    assert measured_within(draw, inside, good, bad)["f1"] == pytest.approx(f1(returned, draw.right))


# Baselines


@given(st.lists(st.booleans(), min_size=1, max_size=40), st.randoms())
def test_the_best_cut_is_that_of_the_best_f1(right, random):
    right = np.array(right)
    scores = np.array([random.choice([-np.inf, 0.0, 0.5, 1.0, 2.0]) for _ in right])
    returned = scores >= best_cut(scores, right)
    assert f1(returned, right) == pytest.approx(best_f1(scores, right))
    assert not returned[scores == -np.inf].any()


def test_the_query_by_its_best_cut_is_the_oracle_of_the_query(world):
    concepts = find_concepts(world.catalog, world.embedder.knows)[:3]
    found = evaluate(world, concepts, models=choose_models("text,query-oracle"), positives=(8,), seeds=1)
    own, oracle = found.values["query-oracle"]["f1"], found.values["text"]["oracle"]
    assert own == pytest.approx(oracle)


def test_unchecked_negatives_can_weigh_little(world, filtered):
    draw = world.draw(filtered, 8, 0, USERS["page"])
    found = MODELS["logistic-light"].answer(world, draw)
    rows = world.rows(np.concatenate([draw.positives, draw.negatives, draw.unchecked]))
    marks = len(draw.positives) + len(draw.negatives)
    y = np.arange(len(rows)) < len(draw.positives)
    weights = np.where(np.arange(len(rows)) < marks, 1, 0.01)
    model = LogisticRegression(C=10, max_iter=1000).fit(world.embeddings[rows], y, sample_weight=weights)
    expected = model.decision_function(world.embeddings)
    assert found.scores == pytest.approx(expected, abs=1e-3)
    assert np.array_equal(found.matched, found.scores > 0)


@pytest.mark.parametrize("name", ["logistic-light", "logistic-embeddings", "forest-embeddings-10"])
def test_a_baseline_suggests_the_unmarked_nearest_to_its_own_cut(world, filtered, name):
    draw = world.draw(filtered, 8, 0, USERS["page"])
    model = MODELS[name]
    rounds = list(play_model(world, draw, model, 2))
    assert len(rounds) == 3
    assert rounds[0][0] is draw
    for (before, answer), (after, _) in pairwise(rounds):
        marked = np.concatenate([before.positives, before.negatives])
        now = np.concatenate([after.positives, after.negatives])
        new = np.setdiff1d(now, marked)
        assert len(new) == PAGE
        assert np.isin(after.positives, filtered.items).all()
        assert not np.isin(after.negatives, filtered.items).any()
        assert not np.isin(after.unchecked, now).any()
        assert np.isin(np.setdiff1d(before.unchecked, after.unchecked), now).all()
        distances = np.abs(answer.scores - model.cut)
        others = draw.inside & ~world.flags(now)
        assert distances[world.rows(new)].max() <= distances[others].min() + 1e-6
    again = list(play_model(world, draw, model, 2))
    assert again[-1][0].positives.tolist() == rounds[-1][0].positives.tolist()


def test_models_without_a_cut_play_no_rounds(world, filtered):
    draw = world.draw(filtered, 8, 0, USERS["page"])
    assert len(list(play_model(world, draw, MODELS["text"], 0))) == 1
    with pytest.raises(UsageError, match="cut of its own"):
        list(play_model(world, draw, MODELS["text"], 1))
    with pytest.raises(UsageError, match="logistic-light"):
        choose_policies("suggested,prototype")


def test_product_and_baselines_play_the_same_draws(world, filtered):
    policies = choose_policies(",".join(BROAD_POLICIES))
    concepts = [filtered, *random_unions(world.catalog, 1)]
    found = play_rounds(world, concepts, policies=policies, rounds=2, seeds=1, user=USERS["page"])
    single = evaluate(
        world, concepts, models=choose_models(",".join(BROAD)), seeds=1, positives=(8,), user=USERS["page"]
    )
    assert found.places == (0, 1, 2)
    for name, model in (("suggested", "refine"), *((name, name) for name in BROAD_POLICIES[1:])):
        assert found.mean(name, "f1", 0) == single.mean(model, "f1", 8)
        assert found.counted(name, "f1", 2) == 2


# Sizes


def test_bands_hold_every_size_once():
    assert [band(size) for size in (2, 33, 34, 59, 60, 119, 120, 299, 300, 999, 1000, 5605)] == [
        *("up to 33", "up to 33", "34-59", "34-59", "60-119", "60-119"),
        *("120-299", "120-299", "300-999", "300-999", "1,000+", "1,000+"),
    ]
    assert bands([400, 40, 1000, 41]) == {"34-59": [1, 3], "300-999": [0], "1,000+": [2]}


def test_f1_is_told_by_size_of_concept(world):
    concepts = [replace(concept, name=str(at)) for at, concept in enumerate(random_unions(world.catalog, 3))]
    found = evaluate(world, concepts, models=choose_models("text,rocchio,centroid"), positives=(8,), seeds=1)
    (section,) = by_size(found, [40, 500, 41], [8], "F1 by size")
    assert section.header == ("items", "34-59 (2)", "300-999 (1)")
    assert [row[0] for row in section.rows] == ["text", "centroid"]
    mean = found.values["centroid"]["f1"][0, [0, 2], 0].mean()
    assert found.take([0, 2]).mean("centroid", "f1", 8)[0] == pytest.approx(mean)
    assert section.rows[1][1].startswith(f"{mean:.3f}".lstrip("0"))
    assert list(by_size(found, [40, 41, 42], [8], "F1 by size")) == []


# The command and the benchmark


@pytest.fixture
def command(capsys, monkeypatch):
    """Run `gpubranches evaluate` in this process; return exit code, standard output and standard error."""

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["gpubranches", "evaluate", *map(str, arguments)])
        code = 0
        try:
            cli.main()
        except SystemExit as stop:
            code = stop.code or 0
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


def test_the_command_plays_groups_and_unions(world, command, tmp_path):
    file = tmp_path / "groups.json"
    file.write_text('{"wheels": {"query": "red car", "first": [2], "second": [4], "ignore": ["sunset"]}}')
    arguments = ("--groups", file, "--unions", 1, "--seeds", 1, "--rounds", 1)
    code, out, err = command(world.catalog.path, *arguments, "--json")
    assert code == 0, err
    data = json.loads(out)
    assert data["concepts"][0]["name"] == "wheels"
    assert [concept["query"] for concept in data["concepts"]] == ["red car", None]
    assert "sunset" not in data["concepts"][0]["where"]
    assert "label IN (3)" in data["concepts"][0]["where"]
    assert data["user"]["name"] == "page"
    assert list(data["models"]) == [*BROAD]
    assert list(data["rounds"]["means"]) == [*BROAD_POLICIES]
    assert data["positives"] == [8]
    code, out, err = command(world.catalog.path, *arguments, "--user", "right-only", "--models", "text")
    assert code == 0, err
    assert "marks the first right ones of the page alone" in " ".join(out.split())
    assert "20 wrong" not in out


def test_another_user_is_refused(world, command):
    code, out, err = command(world.catalog.path, "--user", "nobody")
    assert (code, out) == (2, "")
    assert "right-only" in err


def run(*arguments, **variables):
    return subprocess.run(
        [sys.executable, "-m", "benchmarks.breadth", *map(str, arguments)],
        check=False,
        cwd=ROOT,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_breadth_refuses_what_it_cannot_play(tmp_path):
    for arguments, says in (
        ((), "GPUBRANCHES_EVAL_DATA"),
        (("--data", tmp_path, "--parts", "nonsense"), "ideas, unions, easy, votes, target, coverage"),
        (("--data", tmp_path, "--models", "prototype"), "fixed cut"),
    ):
        done = run(*arguments, GPUBRANCHES_EVAL_DATA="")
        assert done.returncode == 2
        assert says in done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.skipif(not os.environ.get("GPUBRANCHES_EVAL_DATA"), reason="GPUBRANCHES_EVAL_DATA is not set")
def test_breadth_on_real_embeddings(tmp_path):
    done = run("--parts", "ideas", "--models", "none", "--out", tmp_path / "breadth")
    assert done.returncode == 0, done.stderr
    plays = json.loads((tmp_path / "breadth.json").read_text())["plays"]
    assert list(plays) == ["broad, page", "broad, right-only"]
    assert len(plays["broad, page"]["concepts"]) == 9
    first = [play["means"]["query-oracle"]["0"]["f1"]["mean"] for play in plays.values()]
    assert first == pytest.approx([0.88, 0.87], abs=0.02)
    text = (tmp_path / "breadth.md").read_text()
    assert "round 4: F1 at least .985" in text
