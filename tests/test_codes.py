"""What codes are worth: each measure against a plain reference, the codecs, and the command."""

import json
import sys
from dataclasses import replace

import faiss
import numpy as np
import pytest
from clusters import NAMES, write_world
from hypothesis import given
from hypothesis import strategies as st

from gpubranches import Catalog
from gpubranches.core.tie_order import splitmix64
from gpubranches.encoders import VocabularyEmbedder
from gpubranches.encoders.heads import IdentityHead, PCAHead, TrainedHead
from gpubranches.encoders.heads.towers import Tower
from gpubranches.errors import BackendUnavailableError, UsageError
from gpubranches.ingestion import ingest
from gpubranches.research.codes import CodesReport, choose_methods, faiss_codecs, make_search_task, measure
from gpubranches.research.codes.codecs import (
    CatalogBits,
    FullEmbeddings,
    HeadMethod,
    SignsMethod,
    stored,
    vectors_of,
)
from gpubranches.research.codes.faiss_codecs import RECIPES, FaissMethod
from gpubranches.research.codes.measures import (
    best_rows,
    code_entropy,
    nearest_distances,
    place_of_nearest,
    share_found,
    values_used,
)
from gpubranches.research.codes.measuring import Found
from gpubranches.research.codes.search_task import image_rows, text_rows
from gpubranches.research.quality import average_precision, find_concepts
from gpubranches.research.quality.measures import mean_and_error

ROWS = 700
FORMS = ("float", "uint8", "uint8 quantile")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The small world as a catalog, some items deleted."""
    folder = tmp_path_factory.mktemp("codes")
    write_world(folder, ROWS)
    vocabulary = VocabularyEmbedder.load(folder / "text/emb.npy", folder / "text/names.json")
    ingest([folder / "images"], folder / "catalog", embedder=vocabulary)
    catalog = Catalog.open(folder / "catalog")
    catalog.delete([3, 500])
    return catalog, vocabulary


@pytest.fixture(scope="module")
def task(made):
    """Its classes hold some items that are not like their name, so that no ranking is perfect."""
    catalog, vocabulary = made
    found = find_concepts(catalog, vocabulary.knows, columns=("label",), fewest=5)
    strays = np.setdiff1d(np.arange(0, ROWS, 9), [500, 3])
    found = [replace(concept, items=np.union1d(concept.items, strays)) for concept in found]
    return make_search_task(catalog, vocabulary, found)


def rows_of(n, dims, seed=0, texts=False):
    """Rows about means that are not zero."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, dims)) * np.linspace(2, 0.3, dims) + 0.5
    x = (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)
    mean = x.mean(axis=0)
    return text_rows(x, mean, -mean) if texts else image_rows(x, mean)


# Measures

small = st.integers(0, 2**32 - 1)


@given(small, st.integers(1, 30), st.integers(1, 40))
def test_the_best_rows_are_those_of_a_full_sort_with_fair_ties(seed, n, k):
    rng = np.random.default_rng(seed)
    keys = rng.integers(0, 4, (3, n)).astype(np.float32)
    ids = rng.permutation(1000)[:n].astype(np.int64)
    mixed = splitmix64(ids)
    expected = [sorted(range(n), key=lambda i: (-row[i], int(mixed[i])))[:k] for row in keys]
    assert best_rows(lambda part: keys[part], 3, ids, k).tolist() == expected


@given(small, st.integers(1, 12))
def test_places_shares_and_recall_are_counted(seed, k):
    rng = np.random.default_rng(seed)
    found, true = (np.stack([rng.permutation(20)[:k] for _ in range(9)]) for _ in range(2))
    places = [list(a).index(b[0]) if b[0] in a else k for a, b in zip(found, true, strict=True)]
    assert place_of_nearest(found, true).tolist() == places
    shares = [len(set(a) & set(b)) / k for a, b in zip(found.tolist(), true.tolist(), strict=True)]
    assert share_found(found, true).tolist() == pytest.approx(shares)
    result = Found(place_of_nearest(found, true), share_found(found, true), k)
    for first in range(1, k + 1):
        recall = np.mean([b[0] in a[:first] for a, b in zip(found, true, strict=True)])
        assert result.recall(first)[0] == pytest.approx(recall)
        assert result.curve()[first - 1] == pytest.approx(recall)
    assert result.share() == pytest.approx((np.mean(shares), np.std(shares, ddof=1) / 3))


@given(st.lists(st.floats(-5, 5), max_size=9))
def test_a_mean_comes_with_its_standard_error(values):
    mean, error = mean_and_error(np.array(values))
    assert np.isnan(mean) == (len(values) == 0)
    assert np.isnan(error) == (len(values) < 2)
    if len(values) > 1:
        assert error == pytest.approx(np.std(values, ddof=1) / len(values) ** 0.5)


@given(small, st.integers(1, 300))
def test_entropy_and_used_values_are_those_of_the_counts(seed, n):
    rng = np.random.default_rng(seed)
    codes = np.stack([rng.integers(0, top, n) for top in (1, 2, 256)], axis=1).astype(np.uint8)
    for column, entropy, used in zip(codes.T.tolist(), code_entropy(codes), values_used(codes), strict=True):
        shares = [column.count(value) / n for value in set(column)]
        assert entropy == pytest.approx(-sum(p * np.log2(p) for p in shares), abs=1e-9)
        assert 0 <= entropy <= min(8, np.log2(n) + 1e-9)
        assert used == len(set(column)) / 256


def test_evenly_used_codes_have_eight_bits():
    codes = np.repeat(np.arange(256, dtype=np.uint8), 3)[:, None]
    assert (code_entropy(codes)[0], values_used(codes)[0]) == (pytest.approx(8), 1)


@given(small)
def test_the_nearest_distance_is_the_least_of_all(seed):
    queries, base = rows_of(70, 6, seed).centred, rows_of(20, 6, seed + 1).centred
    expected = np.linalg.norm(queries[:, None] - base, axis=2).min(axis=1)
    assert np.allclose(nearest_distances(queries, base), expected, atol=2e-3)


# The task


def test_the_ground_is_centred_by_kind_and_never_fitted_to_what_it_asks(made, task):
    catalog, vocabulary = made
    assert len(task.ids) == ROWS - 2
    assert not {3, 500} & set(task.ids)
    assert not set(task.test) & (set(task.fit) | set(task.base))
    assert set(task.base) | set(task.test) == set(range(len(task.ids)))
    assert set(task.unseen) <= set(task.base) - set(task.fit)
    raw = catalog.embeddings(task.ids)
    centred = raw - catalog.signs.mean_
    centred /= np.linalg.norm(centred, axis=1, keepdims=True)
    assert np.allclose(task.items.centred, centred, atol=2e-3)
    texts = vocabulary.texts(list(task.names))
    centred = texts - catalog.text_mean
    assert np.allclose(task.texts.moved, centred + catalog.signs.mean_, atol=1e-6)
    centred /= np.linalg.norm(centred, axis=1, keepdims=True)
    assert np.allclose(task.texts.centred, centred, atol=1e-5)
    assert task.names == tuple(NAMES)
    assert sorted(concept.name for concept in task.concepts) == sorted(NAMES)


def test_names_that_a_head_was_trained_on_are_not_asked_for(made):
    catalog, vocabulary = made
    concepts = find_concepts(catalog, vocabulary.knows, columns=("label",), fewest=5)
    some = make_search_task(catalog, vocabulary, concepts, trained_on=["Grand_Piano", "sunset"], most_texts=4)
    assert len(some.names) == len(some.texts) == 4
    assert not {"grand piano", "sunset"} & {*some.names, *(concept.name for concept in some.concepts)}
    assert len(some.class_texts) == len(some.concepts) == 6
    with pytest.raises(UsageError, match="without-texts"):
        make_search_task(catalog, vocabulary, concepts, trained_on=NAMES)


def test_another_embedder_asks_for_the_classes(made):
    catalog, vocabulary = made

    class Other:
        text_mean = vocabulary.text_mean
        texts = staticmethod(vocabulary.texts)

    concepts = find_concepts(catalog, vocabulary.knows, columns=("label",), fewest=5)
    assert set(make_search_task(catalog, Other(), concepts).names) == set(NAMES)


# Codecs


def heads():
    return PCAHead(8).fit(rows_of(300, 40).raw), IdentityHead().fit(rows_of(300, 40).raw)


@pytest.mark.parametrize("head", heads(), ids=lambda head: head.kind)
@pytest.mark.parametrize("texts", [False, True])
def test_a_head_is_searched_by_its_codes_and_by_its_vectors(head, texts):
    items, queries = rows_of(300, 40), rows_of(9, 40, 1, texts)
    ids = np.arange(300)[::-1].copy()
    method = HeadMethod("some", head).fit(items)
    coded, spread, vectors = method.codecs()
    assert [codec.name for codec in method.codecs()] == ["some uint8", "some uint8 quantile", "some float"]
    assert (coded.bytes, spread.bytes, vectors.bytes) == (head.d, head.d, 4 * head.d)
    asked = head.transform(queries.moved)
    a, b = stored(coded, items).astype(int), method.quantizers_["uint8"].encode(asked).astype(int)
    mixed = splitmix64(ids)
    found = coded.search(stored(coded, items), ids, queries, 20)
    for row, query in zip(found.tolist(), b, strict=True):
        squared = ((a - query) ** 2).sum(axis=1)
        assert row == sorted(range(300), key=lambda i: (squared[i], int(mixed[i])))[:20]
    distances = ((head.transform(items.raw)[:, None] - asked) ** 2).sum(axis=2)
    found = vectors.search(stored(vectors, items), ids, queries, 300)
    for at, row in enumerate(found):
        assert (np.diff(distances[row, at]) > -1e-5).all()


def test_a_head_with_a_tower_for_texts_is_given_texts_as_they_are():
    class TwoTowers(PCAHead):
        has_text_tower = True

        def transform_texts(self, embeddings):
            return self.transform(-embeddings)

    images, texts = rows_of(50, 40), rows_of(5, 40, 1, texts=True)
    head = TwoTowers(8).fit(images.raw)
    assert np.array_equal(vectors_of(head, texts), head.transform(-texts.raw))
    assert np.array_equal(vectors_of(head, images), head.transform(images.raw))


def test_signs_are_256_bits_ranked_by_the_exact_dots():
    items, queries = rows_of(400, 288), rows_of(4, 288, 1)
    method = SignsMethod().fit(items)
    (codec,) = method.codecs()
    bits = stored(codec, items)
    assert bits.shape == (400, 32)
    signs = np.unpackbits(bits, axis=1, bitorder="little").astype(int) * 2 - 1
    turned = (items.centred @ method.components_.T - method.signs_.mean_) @ method.signs_.rotation_.T
    assert (np.sign(turned) == signs).mean() > 0.999
    ids = np.arange(400)
    for row, query in zip(codec.search(bits, ids, queries, 400), queries.centred, strict=True):
        planes = method.signs_.planes(method.components_ @ query)
        u = np.unpackbits(planes.planes, axis=1, bitorder="little").astype(int)
        dots = signs @ (2 * (u * [[1], [2], [4], [8]]).sum(axis=0) - 15)
        assert (np.diff(dots[row]) <= 0).all()


def test_the_catalogs_own_bits_are_those_on_disk(made, task):
    catalog, _ = made
    (codec,) = CatalogBits(catalog.signs).codecs()
    codes = stored(codec, task.items)
    assert codes.shape == (len(task.ids), catalog.n_bits // 8 + 2)
    bits, scales = catalog.signs.encode(catalog.embeddings(task.ids))
    assert (codes[:, :-2] == bits).mean() > 0.999
    found = codec.search(codes, task.ids, task.texts, 50)
    for row, query in zip(found, task.texts.centred, strict=True):
        scores = catalog.signs.planes(query).scores(bits, scales)
        assert len(set(row) & set(np.argsort(-scores)[:50])) >= 49


def test_a_codec_of_other_bytes_than_it_states_is_refused():
    (codec,) = FullEmbeddings(40).codecs()
    assert stored(codec, rows_of(3, 40)).shape == (3, 40)
    with pytest.raises(UsageError, match="expected 32 bytes an item, got 160"):
        stored(replace(codec, bytes=32), rows_of(3, 40))


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)
def test_every_codec_of_faiss_is_32_bytes_and_finds_what_is_near(recipe, monkeypatch):
    for name, less in (("LOCAL_ROUNDS", (1, 1, 1)), ("LOCAL_PARTS", 16), ("OPQ_ROUNDS", 2)):
        monkeypatch.setattr(faiss_codecs, name, less)
    threads = faiss.omp_get_max_threads()
    items = rows_of(300, recipe.dims if recipe.dims > 64 else 64)
    assert not recipe.lacks(items.raw.shape[1], 300)
    codecs = FaissMethod(recipe).fit(items).codecs()
    assert [codec.name for codec in codecs] == [recipe.name, f"{recipe.name} ip"]
    for codec in codecs:
        codes = stored(codec, items)
        assert (codes.dtype, codes.shape) == (np.uint8, (300, 32))
        queries = items.take(np.arange(20))
        found = codec.search(codes, np.arange(300), queries, 300)
        assert all(sorted(row) == list(range(300)) for row in found.tolist())
        assert np.mean([at in row[:10] for at, row in enumerate(found)]) > 0.9
        assert codec.search(codes[:50], np.arange(50), queries, 300).shape == (20, 50)
    assert faiss.omp_get_max_threads() == threads


@pytest.mark.parametrize("inner_product", [False, True])
def test_a_search_over_decoded_vectors_is_what_faiss_itself_finds(inner_product):
    items, queries = rows_of(300, 32), rows_of(5, 32, 1)
    method = FaissMethod(next(recipe for recipe in RECIPES if recipe.decoded)).fit(items)
    codec = method.codecs()[inner_product]
    codes = stored(codec, items)
    index = method.index(faiss, inner_product)
    index.add_sa_codes(codes)
    reference, _ = index.search(queries.centred, 10)
    found = codec.search(codes, np.arange(300), queries, 10)
    decoded = index.sa_decode(codes)
    for values, row, query in zip(reference, found, queries.centred, strict=True):
        own = decoded[row] @ query if inner_product else ((decoded[row] - query) ** 2).sum(axis=1)
        assert np.allclose(np.sort(own), np.sort(values), atol=1e-4)


def test_what_a_codec_lacks_is_told(task):
    methods, left_out = choose_methods(task, {}, Catalog, faiss=True)
    assert set(left_out) == {"signs", "RaBitQ"}
    assert "192 embedding dims or more; these have 64" in left_out["RaBitQ"]
    assert [method.name for method in methods][:3] == ["rca", "pca", "PQ32"]
    methods, left_out = choose_methods(task, {}, Catalog, faiss=False)
    assert [method.name for method in methods] == ["rca", "pca", "catalog bits", "embeddings"]
    assert set(left_out) == {"signs", *(recipe.name for recipe in RECIPES)}
    lacks = {recipe.name: recipe.lacks(48, 100) for recipe in RECIPES}
    assert "a multiple of 32" in lacks["PQ32"]
    assert "256 rows" in lacks["RQ32x8"]


# All together


@pytest.fixture(scope="module")
def report(made, task):
    methods, left_out = choose_methods(task, {}, made[0].signs, faiss=False)
    calls = []
    results, spreads = measure(task, methods, lambda *done: calls.append(done))
    assert calls == [("codecs", done, 4) for done in (1, 2, 3, 4)]
    return CodesReport(task, results, spreads, left_out)


def test_the_embeddings_find_the_truth_and_codes_less(report):
    results = {result.name: result for result in report.results}
    assert [name for name in results if not name.startswith("rca")] == [
        "pca uint8",
        "pca uint8 quantile",
        "pca float",
        "catalog bits",
        "embeddings",
    ]
    for found in (*results["embeddings"].found.values(), *results["embeddings"].unseen.values()):
        assert found.recall(1)[0] == found.share()[0] == 1
    for kind in ("images", "texts"):
        assert 0.1 < results["pca uint8"].found[kind].share()[0] < 1
        assert 0 < results["pca uint8"].unseen[kind].share()[0] < 1
    assert all((result.precision > 0).all() and (result.precision < 1).all() for result in results.values())


def test_the_numbers_are_those_of_plain_numpy(report):
    task = report.task
    cosines = task.texts.centred @ task.items.centred.T
    vectors = PCAHead(32).fit(task.items.raw[task.fit])
    codes = np.clip(np.floor(vectors.transform(task.items.raw) * 127.5 + 128), 0, 255).astype(int)
    asked = np.clip(np.floor(vectors.transform(task.texts.moved) * 127.5 + 128), 0, 255).astype(int)
    squared = ((asked[:, None] - codes[None]) ** 2).sum(axis=2)
    result = next(result for result in report.results if result.name == "pca uint8")
    places, shares = [], []
    for at in range(len(task.names)):
        true = task.base[np.argsort(-cosines[at, task.base])[:100]]
        found = task.base[np.lexsort((splitmix64(task.ids[task.base]), squared[at, task.base]))[:100]]
        places.append(list(found).index(true[0]) if true[0] in found else 100)
        shares.append(len(set(found) & set(true)) / 100)
    assert result.found["texts"].places.tolist() == places
    assert result.found["texts"].shares.tolist() == pytest.approx(shares)
    for at, concept in enumerate(task.concepts):
        row = task.names.index(concept.name)
        order = np.lexsort((splitmix64(task.ids), squared[row]))
        expected = average_precision(order, np.isin(task.ids, concept.items))
        assert result.precision[at] == pytest.approx(expected)


def test_spread_is_told_before_and_after_the_head(report):
    spreads = {spread.name: spread for spread in report.spreads}
    assert list(spreads) == ["embeddings", "centred", *(f"{head} {form}" for head in ("rca", "pca") for form in FORMS)]
    assert all(spread.distances.shape == (len(report.task.test),) for spread in spreads.values())
    assert spreads["centred"].distances.mean() > spreads["embeddings"].distances.mean()
    assert spreads["pca float"].entropy is None
    assert spreads["pca uint8"].entropy.shape == spreads["pca uint8"].used.shape == (32,)


# The command


@pytest.fixture
def command(run):
    return lambda *arguments: run("evaluate", *arguments)


def test_the_command_writes_tables_json_and_plots(made, command, tmp_path):
    catalog, _ = made
    head = tmp_path / "own.safetensors"
    head.write_bytes(PCAHead(16).fit(catalog.embeddings(np.arange(100, 400))).to_bytes())
    arguments = ("--columns", "label", "--head", f"own={head}", "--without-faiss", "--out", tmp_path / "a/b")
    code, out, _ = command("codes", catalog.path, *arguments)
    assert code == 0
    text, data = (tmp_path / "a/b/codes.md").read_text(), json.loads((tmp_path / "a/b/codes.json").read_text())
    for heading in ("Queries by images, 34", "Queries by texts, 8", "Names of classes, 8", "entropy of the codes"):
        assert heading in text
        assert heading in out
    assert "Left out: signs" in text
    codecs = {codec["name"]: codec for codec in data["codecs"]}
    forms = (*FORMS[1:], FORMS[0])
    names = [*(f"{head} {form}" for head in ("own", "rca", "pca") for form in forms), "catalog bits", "embeddings"]
    assert list(codecs) == names
    assert [codecs[name]["bytes"] for name in names] == [16, 16, 64, *2 * [32, 32, 128], 10, 256]
    assert codecs["embeddings"]["found"]["texts"]["recall"]["10"] == {"mean": 1.0, "error": 0.0}
    assert len(codecs["own uint8"]["found"]["images"]["curve"]) == 100
    assert len(codecs["own uint8"]["average_precision_by_class"]) == len(data["classes"]) == 8
    assert [len(spread["entropy"] or ()) for spread in data["spread"]] == [0, 0, 0, 16, 16, *2 * [0, 32, 32]]
    for name in ("recall", "found", "distances", "entropy"):
        assert (tmp_path / f"a/b/codes-{name}.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")


def test_without_an_embedder_only_images_are_asked(made, command, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    arguments = ("--embedder", "none", "--without-faiss", "--out", tmp_path)
    code, out, err = command("codes", made[0].path, *arguments)
    assert (code, "no texts, for there is no embedder" in " ".join(out.split())) == (0, True)
    assert "gpubranches[research]" in err
    data = json.loads((tmp_path / "codes.json").read_text())
    assert list(data["queries"]) == ["images"]
    assert data["codecs"][0]["average_precision"] is None
    assert sorted(path.name for path in tmp_path.iterdir()) == ["codes.json", "codes.md"]


def test_columns_may_be_none_and_what_a_head_learned_is_not_asked_for(made, command, tmp_path):
    images = Tower(np.ones((8, 64), np.float32), ())
    head = TrainedHead(images, np.zeros(64, np.float32), config={"names": NAMES[:5]})
    (tmp_path / "head.safetensors").write_bytes(head.to_bytes())
    given = ("--columns", "none", "--head", f"own={tmp_path}/head.safetensors", "--without-faiss", "--json")
    code, out, _ = command("codes", made[0].path, *given)
    data = json.loads(out)
    assert (code, data["queries"]["texts"], data["classes"]) == (0, 3, [])


def test_evaluate_means_models_unless_a_command_is_named(made, command):
    short = ("--columns", "label", "--concepts", 2, "--seeds", 1, "--positives", "4", "--rounds", 0, "--models", "text")
    for spelling in ((made[0].path, *short), ("models", made[0].path, *short), (*short, made[0].path)):
        code, out, _ = command(*spelling)
        assert (code, "p = 4" in out) == (0, True)
    code, out, _ = command("--help")
    assert code == 0
    assert "evaluate models CATALOG" in out
    assert {"models", "codes"} <= {line.split()[0] for line in out.splitlines() if line.strip()}
    assert command()[0] == command("codes")[0] == 2


@pytest.fixture(scope="module")
def bad(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bad")
    rng = np.random.default_rng(0)
    np.save(folder / "codes.npy", rng.integers(0, 256, (300, 32), np.uint8))
    np.save(folder / "few.npy", rng.standard_normal((119, 64)).astype(np.float32))
    for name in ("codes", "few"):
        ingest([folder / f"{name}.npy"], folder / f"{name}.catalog")
    (folder / "damaged").write_bytes(b"nothing of the kind")
    (folder / "good").write_bytes(PCAHead(8).fit(rng.standard_normal((99, 64)).astype(np.float32)).to_bytes())
    (folder / "narrow").write_bytes(PCAHead(8).fit(rng.standard_normal((99, 40)).astype(np.float32)).to_bytes())
    broken = PCAHead(8).fit(rng.standard_normal((99, 64)).astype(np.float32))
    broken.components_ = np.full_like(broken.components_, np.nan)
    (folder / "broken").write_bytes(broken.to_bytes())
    return folder


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["{bad}/codes.catalog"], 2, "codes only"),
        (["{bad}/few.catalog"], 2, "120 items or more"),
        (["{bad}/nowhere"], 3, "nowhere"),
        (["{catalog}"], 2, "dataset"),
        (["{catalog}", "--embedder", "none", "--head", "x"], 2, "NAME=FILE"),
        (["{catalog}", "--embedder", "none", "--head", "x={bad}/damaged"], 3, "damaged"),
        (["{catalog}", "--embedder", "none", "--head", "x={bad}/narrow"], 2, "embeddings of 64 dims"),
        (["{catalog}", "--embedder", "none", "--head", "x={bad}/broken"], 3, "finite numbers"),
        (["{catalog}", "--embedder", "none", "--head", "pca={bad}/good"], 2, "used once"),
        (["{catalog}", "--embedder", "none", "--head", "x={bad}/good", "--head", "x={bad}/good"], 2, "used once"),
        (["{catalog}", "--embedder", "none", "--out", "/dev/null/x"], 3, "/dev/null"),
    ],
)
def test_a_mistake_ends_in_a_message(made, bad, command, arguments, code, says):
    places = {"catalog": made[0].path, "bad": bad}
    got, out, err = command("codes", *[text.format(**places) for text in arguments], "--without-faiss")
    assert (got, out) == (code, "")
    assert says in err
    assert "Traceback" not in err


def test_without_faiss_it_says_how_to_go_on(made, task, command, monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(BackendUnavailableError, match=r"gpubranches\[cpu\].*--without-faiss"):
        choose_methods(task, {}, made[0].signs)
    code, _, err = command("codes", made[0].path, "--embedder", "none")
    assert (code, "--without-faiss" in err) == (4, True)


def test_the_same_marks_are_held_on_every_heads_codes(made, command, tmp_path):
    catalog, _ = made
    head = tmp_path / "half.safetensors"
    head.write_bytes(decoding(catalog.embeddings(np.arange(100, 400)), 4).to_bytes())
    given = (
        "--columns",
        "label",
        "--head",
        f"half={head}",
        "--marked",
        "4",
        "--without-faiss",
        "--out",
        tmp_path / "out",
    )
    before = sorted(path.name for path in catalog.path.rglob("*"))
    code, out, err = command("codes", catalog.path, *given)
    assert code == 0, err
    answers = json.loads((tmp_path / "out/codes.json").read_text())["answers"]
    heads, told = ("half", "rca", "pca"), ("refine", "votes", "candidates")
    expected = [f"{head} {what}" for head in heads for what in told]
    assert list(answers) == [*expected[:3], "half refine-decoded", *expected[3:]]
    assert all(0 < answers[name]["4"]["recall"]["mean"] <= 1 for name in answers)
    assert answers["half votes"]["4"]["f1"]["mean"] < answers["pca votes"]["4"]["f1"]["mean"]
    assert "less pca's" in out
    assert sorted(path.name for path in catalog.path.rglob("*")) == before
    assert not Catalog.open(catalog.path).verify()


def decoding(rows, d):
    """Return a head of principal dims that decodes by the way back."""
    plane = PCAHead(d).fit(rows)
    back = Tower(np.ascontiguousarray(plane.components_.T), ())
    return TrainedHead(Tower(plane.components_, ()), plane.mean_, decoder=back)


def test_decoded_codes_are_ranked_by_the_cosine_with_what_they_stand_for():
    rows = np.random.default_rng(0).standard_normal((400, 24)).astype(np.float32) + 0.5
    items = image_rows(rows, image_rows(rows, np.zeros(24, np.float32)).raw.mean(axis=0))
    head = decoding(items.raw, 8)
    codec = next(codec for codec in HeadMethod("own", head).fit(items).codecs() if codec.name == "own decoded")
    assert codec.bytes == 8
    codes = stored(codec, items)
    found = codec.search(codes, np.arange(400), items.take(np.arange(5)), 10)
    decoded = head.inverse_transform((codes.astype(np.float32) - 127.5) / 127.5) - items.raw.mean(axis=0)
    cosines = items.centred[:5] @ (decoded / np.linalg.norm(decoded, axis=1, keepdims=True)).T
    assert np.allclose(np.take_along_axis(cosines, found, 1), -np.sort(-cosines, axis=1)[:, :10], atol=1e-5)
    assert np.mean(found[:, 0] == np.arange(5)) > 0.5


def test_marks_need_classes(made, command):
    code, _, err = command("codes", made[0].path, "--columns", "none", "--marked", "4", "--without-faiss")
    assert (code, "classes of 34 items" in err) == (2, True)
