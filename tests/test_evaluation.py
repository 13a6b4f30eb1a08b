import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from clusters import NAMES, write_world
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, f1_score

from gpubranches import Catalog, open_backend
from gpubranches.embed import VocabularyEmbedder
from gpubranches.evaluation import World, average_precision, best_f1, evaluate, f1, find_concepts, first_pages
from gpubranches.evaluation.models import MODELS, Answer
from gpubranches.ingest import ingest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    write_world(folder, 1500)
    vocabulary = VocabularyEmbedder.load(folder / "text/emb.npy", folder / "text/names.json")
    ingest([folder / "images"], folder / "catalog", embedder=vocabulary)
    catalog = Catalog.open(folder / "catalog")
    catalog.delete([3, 700])
    with open_backend("cpu", catalog) as backend:
        yield World(catalog, backend, vocabulary)


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


# The simulated user


def test_concepts_are_the_classes_with_enough_live_items(world, concepts):
    assert {concept.name for concept in concepts} == {*NAMES, "background"}
    assert [concept.text for concept in concepts] == [concept.name != "background" for concept in concepts]
    assert sum(len(concept.items) for concept in concepts) == world.n == 1498
    assert find_concepts(world.catalog, world.embedder.knows, columns=("label",), fewest=1500) == []


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


def test_a_page_without_right_items_is_skipped_and_counted(world, concepts):
    nothing = type(concepts[0])("kangaroo", True, np.array([1]))
    assert world.draw(nothing, 8, 0) is None
    evaluation = evaluate(world, [nothing, concepts[1]], models={"all": everything}, positives=(8,), seeds=2)
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
    refined, _ = evaluation.mean("refine (default)", "f1", 8)
    assert refined > evaluation.mean("text query, first 100", "f1", 8)[0]
    assert refined > 0.9
    assert evaluation.mean("two-stage prototype", "f1", 8)[0] > 0.9
    for model, values in evaluation.values.items():
        oracle, own = values["oracle"], values["f1"]
        if not np.isnan(own).any() and not np.isnan(oracle).any():
            assert (oracle >= own - 1e-9).all(), model
    assert evaluation.paired("refine (default)", "refine (default)", "f1", 8) == (0, 0, 0.5)
    assert evaluation.table().count("\n") >= len(MODELS)
    assert "two-stage prototype" in evaluation.paired_table("refine (default)")
    saved = json.loads(json.dumps(evaluation.to_json(), allow_nan=False))
    assert saved["values"]["decision branches"]["oracle"] == [[[None]] * 4]


def test_first_pages_are_those_of_the_full_embeddings(world, concepts):
    pages = first_pages(world, concepts, [100, world.n])
    assert [page["concepts"] for page in pages] == [len(NAMES)] * 2
    for page in pages:
        assert page["exact"] > 0.9
        assert abs(page["exact"] - page["found"]) < 0.01


# The scripts


def run(*arguments, **variables):
    return subprocess.run(
        [sys.executable, "-m", *map(str, arguments)],
        check=False,
        cwd=ROOT,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_the_speed_table_is_printed_and_written(tmp_path):
    sizes = ["--rows", "30000", "--embedded-rows", "4000", "--fast-scan-rows", "3000", "--repeats", "1"]
    done = run("benchmarks.speed", *sizes, "--out", tmp_path / "speed")
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "speed.json").read_text())["rows"]
    assert len(rows) >= 9
    assert all(f"| {row['name']} |" in (tmp_path / "speed.md").read_text() for row in rows)


def test_quality_needs_its_data(tmp_path):
    done = run("benchmarks.quality", GPUBRANCHES_EVAL_DATA="")
    assert done.returncode == 2
    assert "GPUBRANCHES_EVAL_DATA" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(not os.environ.get("GPUBRANCHES_EVAL_DATA"), reason="GPUBRANCHES_EVAL_DATA is not set")
def test_quality_on_real_embeddings(tmp_path):
    done = run("benchmarks.quality", "--concepts", 6, "--seeds", 1, "--out", tmp_path / "quality")
    assert done.returncode == 0, done.stderr
    values = json.loads((tmp_path / "quality.json").read_text())["evaluation"]["values"]
    refined, first = (np.mean(values[name]["f1"]) for name in ("refine (default)", "text query, first 100"))
    assert refined > first + 0.1
    assert "Paired differences" in (tmp_path / "quality.md").read_text()
