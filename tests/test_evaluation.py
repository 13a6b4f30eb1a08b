import json
import sys
from functools import partial
from itertools import pairwise

import numpy as np
import pytest
from clusters import NAMES, write_world
from hypothesis import given
from hypothesis import strategies as st
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import average_precision_score, f1_score, precision_recall_curve

from benchmarks import quality, speed
from gpubranches import Catalog, cli, open_backend
from gpubranches.encoders import VocabularyEmbedder
from gpubranches.errors import UsageError
from gpubranches.ingestion import ingest
from gpubranches.research.quality import (
    LabelledCatalog,
    Report,
    average_precision,
    best_f1,
    evaluate,
    f1,
    find_concepts,
    first_pages,
    play_rounds,
    plots,
)
from gpubranches.research.quality.answers import Answer, Model
from gpubranches.research.quality.comparison import LEVELS, measured
from gpubranches.research.quality.concepts import askable_by, random_subset
from gpubranches.research.quality.measures import precision_at
from gpubranches.research.quality.models import MODELS, choose_models
from gpubranches.research.quality.rounds import PAGE, POLICIES, play


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    write_world(folder, 1500)
    vocabulary = VocabularyEmbedder.load(folder / "text/emb.npy", folder / "text/names.json")
    ingest([folder / "images"], folder / "catalog", embedder=vocabulary)
    catalog = Catalog.open(folder / "catalog")
    catalog.delete([3, 700])
    with open_backend("cpu", catalog) as backend:
        yield LabelledCatalog(catalog, backend, vocabulary)


@pytest.fixture(scope="module")
def concepts(world):
    return find_concepts(world.catalog, world.embedder.knows, columns=("label",))


# Measures

flags = st.lists(st.booleans(), min_size=1, max_size=40)


@given(flags, st.randoms())
def test_f1_is_the_usual_one(right, random):
    returned = np.array([random.random() < 0.5 for _ in right])
    assert f1(returned, np.array(right)) == pytest.approx(f1_score(right, returned, zero_division=0))


@given(flags, st.randoms())
def test_the_best_f1_is_that_of_the_best_threshold(right, random):
    right = np.array(right)
    scores = np.array([random.choice([-np.inf, 0.0, 0.5, 1.0, 2.0]) for _ in right])
    cuts = [f1(scores >= cut, right) for cut in np.unique(scores[scores > -np.inf])]
    assert best_f1(scores, right) == pytest.approx(max(cuts, default=0.0))


@given(flags, st.randoms())
def test_average_precision_is_the_usual_one(right, random):
    right = np.array(right)
    order = np.array(random.sample(range(len(right)), len(right)))
    scores = np.empty(len(right))
    scores[order] = np.arange(len(right), 0, -1)
    expected = average_precision_score(right, scores) if right.any() else 0.0
    assert average_precision(order, right) == pytest.approx(expected)


def test_average_precision_of_a_cut_list_counts_what_it_could_hold():
    right = np.ones(10, np.bool_)
    assert average_precision(np.arange(4), right) == 1.0
    assert average_precision(np.array([0]), np.zeros(3, np.bool_)) == 0.0


@given(flags, st.randoms())
def test_precision_at_a_recall_is_the_best_of_the_cuts_that_reach_it(right, random):
    right = np.array(right)
    scores = np.array([random.choice([0.0, 0.5, 1.0, 2.0]) for _ in right])
    levels = np.linspace(0, 1, 7)
    found = precision_at(scores, right, levels)
    assert (np.diff(found) <= 0).all()
    if right.any():
        precision, recall, _ = precision_recall_curve(right, scores)
        cuts = recall > 0  # the usual curve ends at recall 0 with a precision of 1 that no cut has
        expected = [precision[cuts & (recall >= level - 1e-9)].max() for level in levels]
        assert found == pytest.approx(expected)
    else:
        assert (found == 0).all()


def test_what_is_never_returned_reaches_no_recall():
    right = np.array([True, True, False])
    scores = np.array([1.0, -np.inf, 0.5])
    assert precision_at(scores, right, np.array([0.5, 1.0])).tolist() == [1.0, 0.0]
    assert (precision_at(np.full(3, -np.inf), right, LEVELS) == 0).all()


def test_marks_count_as_what_they_are_and_not_at_all_among_the_unmarked():
    right = np.array([True, True, True, False, False, False])
    good = np.array([True, False, False, False, False, False])
    bad = np.array([False, False, False, True, False, False])
    answer = Answer(np.array([False, True, False, True, True, False]), np.array([0.0, 3, 1, 4, 2, 0]))
    found = measured(answer, right, good, bad)
    assert found["f1"] == pytest.approx(2 * 2 / (3 + 3))
    assert (found["precision"], found["recall"]) == (pytest.approx(2 / 3), pytest.approx(2 / 3))
    assert found["unmarked"] == pytest.approx(2 * 1 / (2 + 2))
    assert found["oracle"] == pytest.approx(2 * 3 / (4 + 3))
    assert found["average_precision"] == pytest.approx((1 + 2 / 3) / 2)
    alone = measured(answer, right, right, bad)
    assert alone["oracle"] == 1
    assert not {"unmarked", "oracle_unmarked", "average_precision"} & set(alone)


# The simulated user


def test_concepts_are_the_classes_with_enough_live_items(world, concepts):
    assert {concept.name for concept in concepts} == {*NAMES, "background"}
    assert [concept.text for concept in concepts] == [concept.name != "background" for concept in concepts]
    assert sum(len(concept.items) for concept in concepts) == world.n == 1498


def test_a_random_subset_keeps_the_order(concepts):
    chosen = random_subset(concepts, 4)
    assert [concept.name for concept in concepts if concept in chosen] == [concept.name for concept in chosen]
    assert len(chosen) == 4
    assert random_subset(concepts, None) == concepts
    assert random_subset(concepts, 99) == concepts


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({}, "dataset"),
        ({"columns": ()}, "got none"),
        ({"columns": ("label",), "name": "title"}, "title"),
        ({"columns": ("label",), "fewest": 1500}, "9 classes, the largest of"),
    ],
)
def test_classes_that_cannot_be_made_are_named(world, options, says):
    with pytest.raises(UsageError, match=says):
        find_concepts(world.catalog, world.embedder.knows, **options)


def test_without_an_embedder_every_concept_asks_with_its_mean(world):
    blind = LabelledCatalog(world.catalog, world.backend)
    concepts = find_concepts(world.catalog, askable_by(None), columns=("label",))
    assert not any(concept.text for concept in concepts)
    draw = blind.draw(concepts[1], 8, 0)
    assert len(draw.positives) == 8
    with pytest.raises(UsageError, match="have a text"):
        first_pages(blind, concepts, [100])


def test_an_embedder_without_a_list_is_tried(world):
    class Tried:
        def texts(self, texts):
            return world.embedder.texts(texts)

    assert askable_by(Tried())("kangaroo")
    assert not askable_by(Tried())("background")


def test_the_user_marks_what_is_seen(world, concepts):
    for concept in concepts[:3]:
        draw = world.draw(concept, 8, 0)
        again = world.draw(concept, 8, 0)
        first = world.ids[draw.order[:100]]
        assert len(draw.positives) == 8
        assert len(draw.negatives) <= 20
        assert np.isin(draw.positives, concept.items).all()
        assert not np.isin(draw.negatives, concept.items).any()
        assert np.isin(np.concatenate([draw.positives, draw.negatives]), first).all()
        assert not np.isin(draw.unchecked, np.concatenate([draw.positives, draw.negatives])).any()
        assert sorted(draw.order) == list(range(world.n))
        for name in ("positives", "negatives", "unchecked", "order"):
            assert np.array_equal(getattr(draw, name), getattr(again, name))
        assert not np.array_equal(draw.positives, world.draw(concept, 8, 1).positives)


def test_the_draws_of_classes_are_those_that_results_were_measured_on(world, concepts):
    background, piano = (world.draw(concepts[row], 8, 1) for row in (0, 2))
    assert (background.seed, piano.seed) == (1334688411, 2579374527)
    assert background.positives.tolist() == [863, 1425, 432, 630, 1318, 382, 874, 379]
    assert background.negatives.tolist() == []
    assert background.unchecked[:6].tolist() == [21, 25, 62, 67, 74, 82]
    assert piano.positives.tolist() == [969, 212, 981, 867, 1171, 265, 644, 275]
    assert piano.negatives.tolist()[:8] == [1357, 1126, 193, 759, 376, 687, 811, 797]
    assert piano.negatives.tolist()[8:16] == [1231, 474, 1136, 246, 1237, 758, 262, 497]
    assert piano.negatives.tolist()[16:] == [633, 548, 205, 1266]
    assert piano.unchecked[:6].tolist() == [1, 2, 4, 11, 45, 61]
    assert (len(background.unchecked), len(piano.unchecked)) == (149, 146)


def test_a_page_without_right_items_is_skipped_and_counted(world, concepts):
    nothing = type(concepts[0])("kangaroo", True, np.array([1]))
    assert world.draw(nothing, 8, 0) is None
    evaluation = evaluate(world, [nothing, concepts[1]], models={"all": Model("", everything)}, positives=(8,), seeds=2)
    assert evaluation.skipped(8) == 2
    assert evaluation.mean("all", "recall", 8)[0] == pytest.approx(1, abs=0.1)


# The comparison


def everything(world, draw):
    return Answer(np.ones(world.n, np.bool_))


def test_every_model_answers_and_refining_finds_most(world, concepts):
    calls = []
    # The first concept is the background, two thirds of the catalog, which no model here is made to find.
    evaluation = evaluate(world, concepts[1:5], seeds=1, positives=(8,), progress=lambda *done: calls.append(done))
    assert list(evaluation.values) == list(MODELS)
    assert calls[-1] == (4, 4)
    refined, _ = evaluation.mean("refine", "f1", 8)
    assert refined > evaluation.mean("text", "f1", 8)[0]
    assert refined > 0.9
    for model in ("prototype", "centroid", "logistic-embeddings", "svm-embeddings", "logistic-codes", "svm-codes"):
        assert evaluation.mean(model, "f1", 8)[0] > 0.9, model
    for model, values in evaluation.values.items():
        oracle, own = values["oracle"], values["f1"]
        if not np.isnan(own).any() and not np.isnan(oracle).any():
            assert (oracle >= own - 1e-9).all(), model
    assert evaluation.paired("refine", "refine", "f1", 8) == (0, 0, 0.5)
    assert np.isnan(evaluation.values["branch"]["oracle"]).all()
    assert evaluation.curve("branch", 8) is None
    curve = evaluation.curve("prototype", 8)
    assert curve.shape == LEVELS.shape
    assert (np.diff(curve) <= 1e-6).all()


def test_the_forest_in_boxes_is_that_of_scikit_learn(world, concepts):
    draw = world.draw(concepts[2], 22, 0)
    ids = np.concatenate([np.sort(draw.positives), np.sort(draw.negatives), draw.unchecked])
    y = np.arange(len(ids)) < len(draw.positives)
    forest = RandomForestClassifier(25, random_state=draw.seed, n_jobs=1).fit(world.codes[world.rows(ids)], y)
    expected = forest.predict(world.codes)
    expected[world.rows(draw.positives)] = True
    expected[world.rows(draw.negatives)] = False
    assert np.array_equal(MODELS["forest"].answer(world, draw).matched, expected)


def test_recommending_returns_a_page_without_the_marks(world, concepts):
    draw = world.draw(concepts[2], 8, 0)
    right = world.catalog.embeddings(draw.positives)
    wrong = world.catalog.embeddings(draw.negatives)
    everything = world.catalog.embeddings(world.ids)
    query = right.mean(axis=0) + right.mean(axis=0) - wrong.mean(axis=0)
    marked = world.flags(np.concatenate([draw.positives, draw.negatives]))
    averaged = MODELS["qdrant-average"].answer(world, draw)
    assert averaged.matched.sum() == 100
    assert not averaged.matched[marked].any()
    order = np.argsort(-np.where(marked, -np.inf, everything @ query), kind="stable")
    assert world.flags(world.ids[order[:90]])[averaged.matched].sum() == 90
    near, far = (everything @ right.T).max(axis=1), (everything @ wrong.T).max(axis=1)
    best = MODELS["qdrant-best"].answer(world, draw)
    sides = ~marked & (np.abs(near - far) > 1e-3)
    assert ((best.scores > 0) == (near > far))[sides].all()
    both = sides & (near > far)
    assert (np.diff(near[both][np.argsort(best.scores[both])]) > -1e-3).all()


def test_models_are_chosen_by_name():
    assert list(choose_models("refine, text")) == ["refine", "text"]
    assert list(choose_models("all")) == list(MODELS)
    for wrong in ("refine,oracle-of-delphi", "", ","):
        with pytest.raises(UsageError, match="qdrant-best"):
            choose_models(wrong)


# Rounds


def test_a_round_marks_twenty_more_and_says_where_they_come_from(world, concepts):
    draw = world.draw(concepts[2], 8, 0)
    origins = {"suggested": "suggestion", "uncertain": "suggestion", "best": "user", "random": "user"}
    for name, policy in POLICIES.items():
        seen = []
        for session, ranking in play(world, draw, policy, 2):
            seen.append(len(session.positives) + len(session.negatives))
            assert np.isin(session.positives, concepts[2].items).all()
            assert not np.isin(session.negatives, concepts[2].items).any()
            assert np.isin(session.positives, ranking.ids[ranking.matched]).all()
        first = len(draw.positives) + len(draw.negatives)
        assert seen[0] == first
        assert all(before <= after <= before + PAGE for before, after in pairwise(seen))
        assert seen[1] > first
        events = session.labels.events()
        assert {event["origin"] for event in events[:first]} == {"user"}
        assert {event["origin"] for event in events[first:]} == {origins[name]}


def test_policies_choose_what_they_say(world, concepts):
    draw = world.draw(concepts[2], 8, 0)
    session, ranking = next(play(world, draw, POLICIES["best"], 0))
    marked = np.concatenate([draw.positives, draw.negatives])
    open_ = ~np.isin(ranking.ids, marked)
    chosen = {name: policy.choose(session, np.random.default_rng(0)) for name, policy in POLICIES.items()}
    for ids in chosen.values():
        assert 0 < len(ids) <= PAGE
        assert len(np.unique(ids)) == len(ids)
        assert not np.isin(ids, marked).any()
    assert chosen["best"].tolist() == ranking.ids[open_][:PAGE].tolist()
    assert np.isin(chosen["random"], ranking.ids[ranking.matched]).all()
    distance = dict(zip(ranking.ids.tolist(), np.abs(ranking.scores - ranking.threshold), strict=True))
    farthest = max(distance[i] for i in chosen["uncertain"].tolist())
    others = set(ranking.ids[open_].tolist()) - set(chosen["uncertain"].tolist())
    assert all(distance[i] >= farthest - 1e-5 for i in others)


def test_rounds_begin_alike_and_end_better(world, concepts):
    calls = []
    rounds = play_rounds(world, concepts[1:4], rounds=2, seeds=1, progress=lambda *done: calls.append(done))
    assert rounds.places == (0, 1, 2)
    assert calls[-1] == (3, 3)
    single = evaluate(world, concepts[1:4], models=choose_models("refine"), positives=(8,), seeds=1)
    for name in POLICIES:
        assert rounds.mean(name, "f1", 0) == rounds.mean("suggested", "f1", 0) == single.mean("refine", "f1", 8)
        assert rounds.mean(name, "oracle", 2)[0] >= rounds.mean(name, "f1", 2)[0]
    assert rounds.mean("uncertain", "f1", 2)[0] >= rounds.mean("uncertain", "f1", 0)[0]
    again = play_rounds(world, concepts[1:4], policies={"random": POLICIES["random"]}, rounds=2, seeds=1)
    assert np.array_equal(again.values["random"]["f1"], rounds.values["random"]["f1"])


def test_rounds_where_everything_is_marked_leave_the_unmarked_out(world, concepts):
    few = type(concepts[1])(concepts[1].name, True, concepts[1].items[:9])
    rounds = play_rounds(world, [few, concepts[2]], policies={"best": POLICIES["best"]}, rounds=4, seeds=1)
    assert rounds.counted("best", "f1", 4) == 2
    assert rounds.counted("best", "unmarked", 4) < 2
    assert np.isfinite(rounds.mean("best", "f1", 4)).all()


def test_the_first_pages_of_nothing_are_refused(world, concepts):
    nothing = type(concepts[0])("kangaroo", True, np.array([1]))
    with pytest.raises(UsageError, match="2 right items"):
        play_rounds(world, [nothing], rounds=1, seeds=1)
    with pytest.raises(UsageError, match="2 right items"):
        evaluate(world, [nothing], models=choose_models("text"), seeds=1)


def test_first_pages_are_those_of_the_full_embeddings(world, concepts):
    pages = first_pages(world, concepts, [100, world.n])
    assert [page["concepts"] for page in pages] == [len(NAMES)] * 2
    for page in pages:
        assert page["exact"] > 0.9
        assert abs(page["exact"] - page["found"]) < 0.01


# The report and its plots


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_labels_are_apart_ordered_and_inside(wanted):
    gap = 0.04
    heights = plots._inside(plots._apart(sorted(wanted), gap), gap, 0.0, 1.0)
    assert (np.diff(heights) >= gap - 1e-9).all()
    assert min(heights) >= -1e-9
    assert max(heights) <= 1 + 1e-9
    alone = [height for height, value in zip(heights, sorted(wanted), strict=True) if height == value]
    if len(wanted) == 1:
        assert alone == wanted


def test_one_concept_has_no_standard_error(world, concepts):
    evaluation = evaluate(world, concepts[2:3], models=choose_models("text"), positives=(8,), seeds=1)
    report = Report(world.n, concepts[2:3], evaluation, None, "text")
    assert np.isnan(evaluation.mean("text", "f1", 8)[1])
    assert "±." not in report.markdown()
    means = json.loads(json.dumps(report.to_json(), allow_nan=False))["means"]
    assert means["text"]["8"]["f1"]["error"] is None


# The command


@pytest.fixture
def command(program):
    """Run `gpubranches evaluate` in this process; return exit code, standard output and standard error."""
    return partial(program, cli.main, "evaluate")


SHORT = ("--columns", "label", "--concepts", 3, "--seeds", 1, "--positives", "4,8", "--rounds", 1)


def test_the_command_writes_tables_json_and_plots(world, command, tmp_path):
    names = ("--models", "text,rocchio,refine", "--policies", "suggested,random")
    code, out, _ = command(world.catalog.path, *SHORT, *names, "--out", tmp_path / "new" / "out")
    assert code == 0
    folder = tmp_path / "new" / "out"
    text = (folder / "evaluation.md").read_text()
    data = json.loads((folder / "evaluation.json").read_text())
    for heading in ("p = 4", "p = 8", "p = 8, paired differences", "F1 by round"):
        assert f"## {heading}" in text
        assert heading in out
    assert list(data["means"]) == list(data["models"]) == ["text", "rocchio", "refine"]
    assert list(data["means"]["refine"]) == ["4", "8"]
    assert {"f1", "unmarked", "precision", "recall", "average_precision", "oracle"} <= set(data["means"]["refine"]["8"])
    assert "f1" not in data["means"]["rocchio"]["8"]
    assert {(row["other"], row["cut"]) for row in data["differences"]} == {("text", "own"), ("rocchio", "oracle")}
    assert list(data["rounds"]["means"]) == ["suggested", "random"]
    assert len(data["concepts"]) == 3
    assert len(data["precision"]["recall"]) == 101
    assert {p: len(curve) for p, curve in data["precision"]["models"]["refine"].items()} == {"4": 101, "8": 101}
    f1 = data["means"]["refine"]["8"]["f1"]
    values = np.mean(data["values"]["refine"]["f1"][1], axis=1)
    assert f1["mean"] == pytest.approx(values.mean(), abs=2e-4)
    assert f1["error"] == pytest.approx(values.std(ddof=1) / np.sqrt(3), abs=2e-4)
    for name in ("f1-by-marks", "precision-recall", "f1-by-round"):
        assert (folder / f"{name}.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    assert len(list(folder.iterdir())) == 5


def test_the_command_prints_one_json_object(world, command):
    code, out, _ = command(world.catalog.path, *SHORT, "--models", "text,ensemble", "--embedder", "none", "--json")
    data = json.loads(out)
    assert code == 0
    assert data["against"] == "ensemble"
    assert not any(concept["text"] for concept in data["concepts"])
    assert set(data["rounds"]["means"]) == set(POLICIES)


def test_without_matplotlib_the_tables_are_written(world, command, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    code, out, err = command(world.catalog.path, *SHORT, "--models", "text", "--rounds", 0, "--out", tmp_path)
    assert code == 0
    assert "gpubranches[research]" in err
    assert "0 plots" in out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["evaluation.json", "evaluation.md"]


@pytest.fixture(scope="module")
def unlabelled(tmp_path_factory):
    """Catalogs of codes alone, and of embeddings without metadata."""
    folder = tmp_path_factory.mktemp("unlabelled")
    rng = np.random.default_rng(0)
    np.save(folder / "codes.npy", rng.integers(0, 256, (300, 32), np.uint8))
    np.save(folder / "embeddings.npy", rng.standard_normal((300, 64)).astype(np.float32))
    for name in ("codes", "embeddings"):
        ingest([folder / f"{name}.npy"], folder / name)
    return folder


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["{catalog}"], 2, "dataset"),
        (["{catalog}", "--columns", "label", "--fewest", "2000"], 2, "2000 items or more"),
        (["{catalog}", "--columns", "label", "--name", "title"], 2, "title"),
        (["{catalog}", "--models", "nonsense"], 2, "forest-embeddings-10"),
        (["{catalog}", "--policies", "nonsense"], 2, "suggested, best, random, uncertain"),
        (["{catalog}", "--models", "text", "--against", "refine"], 2, "against"),
        (["{catalog}", "--positives", "1"], 2, "--positives"),
        (["{catalog}", "--positives", "few"], 2, "--positives"),
        (["{catalog}", "--embedder", "nonsense"], 2, "nonsense"),
        (["{catalog}", "--columns", "label", "--out", "/dev/null/x"], 3, "/dev/null"),
        (["{unlabelled}/codes"], 2, "codes only"),
        (["{unlabelled}/embeddings"], 2, "columns of the catalog (id"),
        (["{unlabelled}/nowhere"], 3, "nowhere"),
    ],
)
def test_a_mistake_ends_in_a_message(world, unlabelled, command, arguments, code, says):
    got, out, err = command(*[text.format(catalog=world.catalog.path, unlabelled=unlabelled) for text in arguments])
    assert (got, out) == (code, "")
    assert says in err
    assert "Traceback" not in err


# The scripts


def test_the_speed_table_is_printed_and_written(program, tmp_path):
    sizes = ["--rows", "30000", "--embedded-rows", "4000", "--fast-scan-rows", "3000", "--repeats", "1"]
    code, _, err = program(speed.main, *sizes, "--out", tmp_path / "speed")
    assert code == 0, err
    rows = json.loads((tmp_path / "speed.json").read_text())["rows"]
    assert len(rows) >= 9
    assert all(f"| {row['name']} |" in (tmp_path / "speed.md").read_text() for row in rows)


def test_quality_needs_its_data(program, monkeypatch):
    monkeypatch.delenv("GPUBRANCHES_EVAL_DATA", raising=False)
    code, _, err = program(quality.main)
    assert code == 2
    assert "GPUBRANCHES_EVAL_DATA" in err


def test_quality_on_real_embeddings(program, tmp_path, real):
    cheap = ("--data", real, "--models", "text,ensemble,prototype,refine", "--positives", 8, "--rounds", 3)
    code, _, err = program(quality.main, "--concepts", 2, "--seeds", 1, *cheap, "--out", tmp_path / "quality")
    assert code == 0, err
    values = json.loads((tmp_path / "quality.json").read_text())["evaluation"]["values"]
    refined, first = (np.mean(values[name]["f1"]) for name in ("refine", "text"))
    assert refined > first + 0.1
    text = (tmp_path / "quality.md").read_text()
    assert "paired differences" in text
    assert "round 3: suggested above random" in text
