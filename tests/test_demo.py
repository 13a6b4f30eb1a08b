import io
import json
import sys
from dataclasses import replace
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from gpubranches.catalog import Catalog
from gpubranches.catalog.pictures.image_files import image_file
from gpubranches.demo import build_demo
from gpubranches.demo.scenes import BACKGROUNDS, COLOURS, SHAPES, Group, Scene, attributes, draw_scenes, render
from gpubranches.encoders import open_embedder
from gpubranches.encoders.demo import CONFIG, WEIGHTS, WordTokenizer
from gpubranches.errors import UnknownNameError, UsageError
from gpubranches.research.quality.demo_check import check_demo

TWO_RED_TRIANGLES = Group(2, "large", "plain", "red", "triangle")
ONE_GREEN_CIRCLE = Group(1, "small", "striped", "green", "circle")
SCENE = Scene((TWO_RED_TRIANGLES, ONE_GREEN_CIRCLE), "blue", 7)


@pytest.fixture(scope="module")
def embedder():
    return open_embedder("demo")


@pytest.fixture(scope="module")
def catalog(tmp_path_factory):
    return build_demo(tmp_path_factory.mktemp("demo") / "catalog", n=900, seed=5)


@pytest.fixture(scope="module")
def gallery(embedder):
    """Unseen scenes and their embeddings, centred and scaled as a search does."""
    scenes = draw_scenes(1500, 987)
    rows = np.concatenate([embedder.images([render(s) for s in scenes[at : at + 100]]) for at in range(0, 1500, 100)])
    centred = rows - rows.mean(axis=0)
    return scenes, centred / np.linalg.norm(centred, axis=1, keepdims=True)


# Scenes


def test_the_same_seed_draws_the_same_scenes_and_pixels():
    first, again, other = draw_scenes(20, 3), draw_scenes(20, 3), draw_scenes(20, 4)
    assert first == again
    assert first != other
    assert render(first[0]).tobytes() == render(again[0]).tobytes()


def test_a_caption_tells_what_is_in_the_scene():
    assert SCENE.caption == "two large red triangles and a small striped green circle on a blue background"
    assert Group(3, colour="white", shape="cross").phrase() == "three white crosses"
    assert Group(texture="dotted").phrase() == "dotted shapes"
    assert attributes(SCENE)["objects"] == 3


def test_a_query_describes_the_scenes_that_have_exactly_its_count():
    assert Scene((Group(2, colour="red", shape="triangle"),)).describes(SCENE)
    assert Scene((Group(colour="red"), Group(shape="circle")), "blue").describes(SCENE)
    assert not Scene((Group(1, colour="red", shape="triangle"),)).describes(SCENE)
    assert not Scene((Group(colour="green", shape="triangle"),)).describes(SCENE)
    assert not Scene((Group(colour="red"),), "white").describes(SCENE)
    assert Scene((Group(3),)).describes(SCENE)


def test_a_scene_survives_json():
    assert Scene.from_json(json.loads(json.dumps(SCENE.to_json()))) == SCENE


def test_scenes_hold_every_shape_and_colour_and_never_hide_an_object():
    scenes = draw_scenes(600, 1)
    groups = [group for scene in scenes for group in scene.groups]
    assert {group.shape for group in groups} == set(SHAPES)
    assert {group.colour for group in groups} == set(COLOURS)
    assert {scene.background for scene in scenes} == set(BACKGROUNDS)
    assert not any(group.colour == scene.background for scene in scenes for group in scene.groups)
    assert all(len({group.shape for group in scene.groups}) == len(scene.groups) for scene in scenes)


def test_an_object_is_drawn_in_its_colour():
    scene = Scene((replace(TWO_RED_TRIANGLES, count=4),), "grey", 3)
    pixels = np.asarray(render(scene)).astype(int)
    red = (pixels[:, :, 0] - pixels[:, :, 1:].max(axis=2)) > 90
    assert 0.05 < red.mean() < 0.4


# The tokenizer


def tokenizer():
    return WordTokenizer({"red": 1, "triangle": 2, "triangles": 2, "two": 3, "the": None}, context_length=5, end=4)


def test_forms_of_a_word_share_a_token_and_fillers_are_skipped():
    tokens = tokenizer()(["Two red triangles!", "the red triangle"])
    assert tokens.tolist() == [[3, 1, 2, 4, 0], [1, 2, 4, 0, 0]]


@pytest.mark.parametrize(
    ("text", "told"),
    [("two red trangles", "triangle"), ("the", "name a shape"), ("", "name a shape"), ("red " * 5, "at most 4")],
)
def test_texts_the_model_cannot_read_are_refused(text, told):
    with pytest.raises(UsageError, match=told):
        tokenizer()([text])


# The embedder


def test_the_model_is_small():
    assert WEIGHTS.stat().st_size < 8_000_000
    assert CONFIG.stat().st_size < 20_000


def test_rows_have_unit_length_whatever_the_batch(embedder):
    pictures = [render(scene) for scene in draw_scenes(9, 2)] + [Image.new("RGB", (300, 40)), Image.new("L", (5, 5))]
    rows = embedder.images(pictures)
    assert rows.dtype == np.float32
    assert rows.shape == (11, embedder.D)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(embedder.encode([embedder.preprocess(pictures[3])])[0], rows[3], atol=1e-4)
    assert embedder.images([]).shape == (0, embedder.D)
    assert embedder.texts([]).shape == (0, embedder.D)


def test_two_openings_are_the_same_model(embedder):
    again = open_embedder("demo")
    assert again.identity == embedder.identity
    np.testing.assert_array_equal(again.texts(["two red triangles"]), embedder.texts(["two red triangles"]))
    np.testing.assert_array_equal(again.text_mean, embedder.text_mean)


def test_every_caption_can_be_read(embedder):
    assert np.isfinite(embedder.texts([scene.caption for scene in draw_scenes(300, 8)])).all()


def test_an_unknown_word_gets_a_suggestion(embedder):
    with pytest.raises(UnknownNameError, match="triangels; try, for example, two red triangles") as error:
        embedder.texts(["two red triangels"])
    assert error.value.suggestions == ("two red triangles",)
    with pytest.raises(UnknownNameError, match="got umbrella, beach; try") as error:
        embedder.texts(["red umbrella beach"])
    assert len(error.value.suggestions) == len(embedder.texts(list(error.value.suggestions)))


def precision(gallery, embedder, text, query):
    scenes, images = gallery
    right = np.array([query.describes(scene) for scene in scenes])
    order = np.argsort(-(images @ (embedder.texts([text])[0] - embedder.text_mean)))
    return right[order[: min(20, int(right.sum()))]].mean()


def test_texts_find_their_scenes(gallery, embedder):
    counts = [Group(2, colour=colour, shape=shape) for colour in ("red", "blue", "yellow") for shape in SHAPES]
    pairs = [Group(colour=colour, shape=shape) for colour in COLOURS for shape in ("triangle", "ring", "moon")]
    textures = [Group(texture=texture) for texture in ("striped", "dotted", "checked")]

    def mean(groups):
        return np.mean([precision(gallery, embedder, g.phrase(), Scene((g,))) for g in groups])

    assert mean(pairs) > 0.8
    assert mean(counts) > 0.3  # most of these have five scenes or fewer; counting is what the small model is worst at
    assert mean(textures) > 0.9
    assert precision(gallery, embedder, "stripes", Scene((Group(texture="striped"),))) > 0.9
    assert precision(gallery, embedder, "two red triangles", Scene((Group(2, colour="red", shape="triangle"),))) > 0.8


# The catalog


def test_the_catalog_holds_the_scenes_with_captions_and_pictures(catalog):
    opened = Catalog.open(catalog)
    scenes = draw_scenes(900, 5)
    item = opened.items([17])[0]
    assert opened.n == 900
    assert opened.embedder == "demo"
    assert opened.text_mean is not None
    assert item["caption"] == scenes[17].caption
    assert Scene.from_json(json.loads(item["scene"])) == scenes[17]
    path = image_file(opened.source, item)
    drawn = np.asarray(Image.open(io.BytesIO(path.read_bytes()))).astype(int)
    assert np.abs(drawn - np.asarray(render(scenes[17])).astype(int)).mean() < 6
    assert opened.where("colour = 'red' and count = 2").any()
    assert opened.verify() == []


def test_building_again_keeps_the_catalog_and_another_demo_is_refused(catalog):
    before = Catalog.open(catalog).generation
    assert build_demo(catalog, n=900, seed=5) == catalog
    assert Catalog.open(catalog).generation == before
    with pytest.raises(UsageError, match="delete the folder"):
        build_demo(catalog, n=901, seed=5)


def test_a_stopped_build_is_finished(tmp_path, monkeypatch):
    import gpubranches.demo.build as build

    def stop(*args, **options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(build, "ingest", stop)
        with pytest.raises(KeyboardInterrupt):
            build_demo(tmp_path, n=60)
    assert Catalog.open(build_demo(tmp_path, n=60)).n == 60


def test_progress_is_told(tmp_path):
    told = []
    build_demo(tmp_path, n=30, progress=lambda *stage: told.append(stage))
    assert {stage for stage, _, _ in told} == {"rendering", "embedding", "encoding"}
    assert ("embedding", 30, 30) in told


def test_the_simulated_user_gains_by_refining(catalog):
    report = check_demo(catalog, concepts=8, seeds=1)
    assert report.concepts == 8
    assert [row["positives"] for row in report.rows] == [8, 22]
    assert all(row["refined"] > row["first_100"] for row in report.rows)
    assert all(0 <= row["unmarked"] <= 1 for row in report.rows)
    assert "first 100" in report.table()
    assert json.loads(json.dumps(report.to_json()))["n"] == 900


def test_check_refuses_what_is_not_a_demo(tmp_path):
    build_demo(tmp_path / "few", n=30)
    with pytest.raises(UsageError, match="larger demo"):
        check_demo(tmp_path / "few")


@pytest.fixture
def training_script(monkeypatch):
    """The script as a module of this process, where torch is loaded; its settings of torch are taken back."""
    loader = SourceFileLoader("train_demo_model", str(Path(__file__).parents[1] / "scripts" / "train_demo_model"))
    module = module_from_spec(spec_from_loader(loader.name, loader))
    monkeypatch.setitem(sys.modules, loader.name, module)
    threads = torch.get_num_threads()
    loader.exec_module(module)
    yield module
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(False)


@pytest.mark.filterwarnings("ignore")
def test_the_training_script_writes_a_model_that_loads(program, training_script, tmp_path, monkeypatch, caplog):
    caplog.set_level("INFO")
    sizes = ["--scenes", "60", "--held-out", "40", "--steps", "2", "--batch", "30", "--texts", "10", "--threads", "1"]
    assert program(training_script.main, "--out", tmp_path, *sizes)[0] == 0
    assert "precision" in caplog.text
    monkeypatch.setattr("gpubranches.encoders.demo.WEIGHTS", tmp_path / "demo.safetensors")
    monkeypatch.setattr("gpubranches.encoders.demo.CONFIG", tmp_path / "demo.json")
    trained = open_embedder("demo")
    assert trained.texts(["two red triangles"]).shape == (1, trained.D)
