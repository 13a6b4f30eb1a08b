import random
import shutil
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from forking import started
from hypothesis import given, settings
from hypothesis import strategies as st
from test_catalog import GOLDEN
from worlds import World, check_bits, check_nearest_codes, check_votes

from gpubranches import Catalog, Session, open_backend
from gpubranches.catalog import reader as reader_module
from gpubranches.encoders.heads import IdentityHead, PCAHead, TrainedHead, load_head
from gpubranches.encoders.heads.towers import Tower
from gpubranches.encoders.quantizers import ScalarQuantizer
from gpubranches.errors import CatalogFormatError, CatalogIndexError, DataError, UsageError
from gpubranches.ingestion import append, ingest
from gpubranches.ingestion.encode import encode
from gpubranches.service.labels import Labels


def vectors(n, dims=48, seed=0):
    """Return embeddings of more spread in some dims than in others."""
    rng = np.random.default_rng(seed)
    return (rng.standard_normal((n, dims)) * np.linspace(2, 0.2, dims) + 0.3).astype(np.float32)


@pytest.fixture
def small_segments(monkeypatch):
    """Let an ingest write several segments of few rows, and rows be encoded in several parts."""
    monkeypatch.setattr("gpubranches.catalog.catalog.SEGMENT_ROWS", 700)
    monkeypatch.setattr("gpubranches.catalog.segment_rows.ENCODED_ROWS", 300)


def write_input(folder, n=1500, broken=(3, 900)):
    """Write a clip-retrieval folder with captions and rows that are no embeddings."""
    x = vectors(n)
    x[list(broken)] = np.nan
    for name in ("img_emb", "metadata"):
        (folder / name).mkdir(parents=True)
    np.save(folder / "img_emb/img_emb_0.npy", x)
    pq.write_table(pa.table({"caption": [f"row {i}" for i in range(n)]}), folder / "metadata/metadata_0.parquet")
    return x


def write_head(path, d=8, dims=48, seed=5):
    head = PCAHead(d).fit(vectors(400, dims, seed))
    path.write_bytes(head.to_bytes())
    return head


def everything(catalog):
    """Return all but the codes of a catalog, by id."""
    ids = catalog.sample_ids(catalog.n, np.random.default_rng(0))
    bits = np.zeros((len(ids), catalog.n_bits // 8), np.uint8)
    scales = np.zeros(len(ids), np.float16)
    for segment, rows, at in catalog.snapshot.by_segment(ids):
        bits[at], scales[at] = segment.bits[rows], segment.scales[rows]
    stored = catalog.embeddings_at(catalog.positions(ids))
    arrays = [ids, bits, scales, stored, catalog.signs.mean_, catalog.signs.rotation_]
    words = [catalog.n, catalog.n_deleted, catalog.next_id, catalog.source, catalog.embedder, catalog.errors()]
    return [array.tobytes() for array in arrays], [*words, catalog.items(ids)]


def codes_of(catalog):
    return catalog.codes(catalog.sample_ids(catalog.n, np.random.default_rng(0)))


@pytest.fixture
def made(tmp_path, small_segments):
    """A catalog of three segments with metadata, deleted and broken rows, and its folder's path."""
    write_input(tmp_path / "in")
    ingest([tmp_path / "in"], tmp_path / "c")
    Catalog.open(tmp_path / "c").delete([0, 5, 701, 1499])
    return tmp_path / "c"


def test_the_codes_are_those_of_an_ingest_with_that_head_and_all_else_stays(made, tmp_path):
    write_head(tmp_path / "head.safetensors")
    before = everything(Catalog.open(made))
    report = encode(made, head=str(tmp_path / "head.safetensors"), quantizer="quantile")
    catalog = Catalog.open(made)
    assert (report.changed, report.n, report.d, catalog.d) == (True, 1494, 8, 8)
    assert (report.head, report.quantizer) == (catalog.space.head, catalog.space.quantizer)
    assert everything(catalog) == before
    assert catalog.verify() == []
    assert len(catalog.segments) == 3
    spec = {"head": str(tmp_path / "head.safetensors"), "quantizer": "quantile"}
    ingest([tmp_path / "in"], tmp_path / "whole", **spec)
    whole = Catalog.open(tmp_path / "whole")
    whole.delete([0, 5, 701, 1499])
    assert catalog.space.head == whole.space.head
    assert np.abs(codes_of(catalog).astype(int) - codes_of(whole)).max() <= 1  # fitted without the deleted rows


def test_the_same_head_on_the_same_items_gives_the_files_of_an_ingest(tmp_path, small_segments):
    np.save(tmp_path / "in.npy", vectors(1500))
    ingest([tmp_path / "in.npy"], tmp_path / "one", d=8)
    ingest([tmp_path / "in.npy"], tmp_path / "other", head="none")
    encode(tmp_path / "other", head="rca", d=8)
    one, other = Catalog.open(tmp_path / "one"), Catalog.open(tmp_path / "other")
    assert one.space == other.space
    assert [segment.files for segment in one.segments] == [segment.files for segment in other.segments]


@pytest.mark.parametrize("head", ["rca", "pca", "none", None])
def test_the_same_head_and_quantizer_again_change_nothing(made, head):
    first = encode(made, head=head, quantizer="quantile", d=12)
    files = sorted(path.name for path in made.rglob("*"))
    again = encode(made, head=head, quantizer="quantile", d=12)
    assert (first.changed, again.changed) == (True, False)
    assert (first.head, first.quantizer, first.d) == (again.head, again.quantizer, again.d)
    assert sorted(path.name for path in made.rglob("*")) == files
    assert encode(made, head=head, quantizer="uniform", d=12).changed


def test_without_a_head_the_catalogs_own_is_kept(made):
    before = Catalog.open(made)
    encode(made, quantizer="quantile")
    after = Catalog.open(made)
    assert after.space.head == before.space.head
    assert after.space.quantizer != before.space.quantizer
    assert (after.scalar.low_ > -1).all()


def test_zones_stay_tight(tmp_path):
    np.save(tmp_path / "in.npy", vectors(9000))
    ingest([tmp_path / "in.npy"], tmp_path / "c", head="none")

    def width():
        zones = Catalog.open(tmp_path / "c").segments[0].zones[:2].astype(int)
        return (zones[:, 1] - zones[:, 0]).mean()

    encode(tmp_path / "c", head="pca", d=4)
    tight = width()
    codes = codes_of(Catalog.open(tmp_path / "c"))
    assert tight < 0.5 * np.ptp(codes.astype(int), axis=0).mean()


def test_append_and_compact_after_it_go_on_with_the_new_codes(made, tmp_path):
    head = write_head(tmp_path / "head.safetensors")
    encode(made, head=str(tmp_path / "head.safetensors"))
    (tmp_path / "head.safetensors").unlink()
    np.save(tmp_path / "more.npy", vectors(40, seed=9))
    append(made, [tmp_path / "more.npy"])
    catalog = Catalog.open(made)
    ids = np.arange(1500, 1540)
    assert np.array_equal(catalog.codes(ids), catalog.scalar.encode(head.transform(catalog.embeddings(ids))))
    codes = codes_of(catalog)
    catalog.compact()
    assert np.array_equal(codes_of(catalog), codes)
    assert catalog.verify() == []


def test_an_unfinished_ingest_goes_on_with_the_new_head(tmp_path, small_segments):
    np.save(tmp_path / "in.npy", vectors(1500))

    def stop(stage, done, total):
        if done > 800:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ingest([tmp_path / "in.npy"], tmp_path / "c", progress=stop)
    encode(tmp_path / "c", head="pca", d=8)
    ingest([tmp_path / "in.npy"], tmp_path / "c")
    catalog = Catalog.open(tmp_path / "c")
    assert (catalog.n, catalog.d) == (1500, 8)
    assert catalog.verify() == []


def test_the_golden_catalog_can_be_encoded(tmp_path):
    shutil.copytree(GOLDEN, tmp_path / "c")
    before = Catalog.open(tmp_path / "c")
    kept = everything(before)
    with pytest.raises(UsageError, match="has no head"):
        encode(tmp_path / "c")
    encode(tmp_path / "c", head="pca", d=12)
    after = Catalog.open(tmp_path / "c")
    assert (after.d, after.n_deleted, after.generation) == (12, 1, before.generation + 1)
    assert everything(after) == kept
    assert np.array_equal(after.text_mean, before.text_mean)
    assert after.space.embedder == "golden"
    assert (tmp_path / "c/head-4.safetensors").exists()
    assert not (tmp_path / "c/head.safetensors").exists()
    assert after.verify() == []
    assert after.errors() == [{"id": 150, "path": "broken.jpg", "reason": "the file is empty"}]


@given(
    st.lists(st.sampled_from([0, 1, 127, 130, 4097]), min_size=1, max_size=3),
    st.floats(0, 0.9),
    st.sampled_from(["uniform", "quantile"]),
    st.sampled_from([4, 12, 48]),
    st.integers(0, 9),
)
@settings(max_examples=10)
def test_only_the_codes_change(tmp_path_factory, sizes, gone, quantizer, d, seed):
    path = tmp_path_factory.mktemp("c") / "c"
    world = World(path, sizes, deleted=gone, seed=seed)
    if not world.catalog.n:
        return
    kept = everything(world.catalog)
    report = encode(path, head="pca", d=d, quantizer=quantizer)
    world.catalog.refresh()
    assert everything(world.catalog) == kept
    assert world.catalog.verify() == []
    head = load_head(world.catalog.head_path)
    assert (report.d, report.head) == (head.d, head.identity) == (d, world.catalog.space.head)
    exact = world.catalog.scalar.encode(head.transform(world.embeddings))
    if world.catalog.n > d:  # else some dims hold nothing but the rounding of sums
        assert np.abs(exact.astype(int) - world.catalog.codes(world.ids)).max() <= 1  # rows in other batches
    assert [s.n for s in world.catalog.segments] == sizes


def test_empty_segments_and_deleted_ones_are_kept_as_they_are(tmp_path):
    world = World(tmp_path / "c", [0, 300, 0, 200], deleted=0)
    world.catalog.delete(world.ids[:300])
    encode(tmp_path / "c", head="pca", d=4)
    after = Catalog.open(tmp_path / "c")
    assert [segment.n for segment in after.segments] == [0, 300, 0, 200]
    assert (after.n, after.n_deleted) == (200, 300)
    assert np.array_equal(after.alive(world.ids), np.arange(500) >= 300)
    assert after.verify() == []


# Readers


def test_a_reader_keeps_the_old_codes_and_all_its_files_until_it_refreshes(made, tmp_path):
    write_head(tmp_path / "head.safetensors")
    reader = Catalog.open(made)  # nothing of it is mapped yet
    fresh = Catalog.open(made)
    kept, codes = everything(fresh), codes_of(fresh)
    del fresh
    encode(made, head=str(tmp_path / "head.safetensors"))
    assert reader.changed()
    assert everything(reader) == kept
    assert np.array_equal(codes_of(reader), codes)
    assert reader.where("caption = 'row 77'").sum() > 0
    assert reader.head_path.exists()
    assert reader.verify() == []
    assert reader.refresh()
    assert not reader.changed()
    assert reader.d == 8
    assert everything(reader) == kept


def files_of(folder):
    return {path.name for path in folder.glob("*.safetensors")} | {path.name for path in folder.glob("segments/*")}


def test_what_no_reader_holds_is_removed_and_the_rest_by_the_next_writer(made, tmp_path):
    write_head(tmp_path / "head.safetensors")
    old = files_of(made)
    reader = Catalog.open(made)
    encode(made, head=str(tmp_path / "head.safetensors"))
    assert files_of(made) >= old
    reader.refresh()
    encode(made, head="none")
    catalog = Catalog.open(made)
    named = {"head-6.safetensors", "constants-6.safetensors", *(segment.folder.name for segment in catalog.segments)}
    assert files_of(made) >= named
    del reader
    catalog.delete([1])
    assert files_of(made) == named


def test_a_commit_between_manifest_and_files_is_noticed(made, monkeypatch):
    """A reader that read the manifest just before a writer removed its files reads it again."""
    read, raced = reader_module.read_manifest, []

    def late(folder):
        manifest = read(folder)
        if not raced:
            raced.append(True)
            encode(made, head="none")
        return manifest

    monkeypatch.setattr(reader_module, "read_manifest", late)
    catalog = Catalog.open(made)
    assert catalog.d == 48
    assert catalog.verify() == []


# Errors


def test_what_cannot_be_encoded_is_refused_before_any_work(made, tmp_path, monkeypatch):
    bare = tmp_path / "bare"
    np.save(tmp_path / "codes.npy", np.zeros((30, 8), np.uint8))
    ingest([tmp_path / "codes.npy"], bare)
    empty = World(tmp_path / "empty", []).catalog.path
    write_head(tmp_path / "narrow", dims=40)
    (tmp_path / "damaged").write_bytes(write_head(tmp_path / "whole").to_bytes()[:-9])
    (tmp_path / "wide").write_bytes(IdentityHead().fit(vectors(3, 1024)).to_bytes())
    odd = PCAHead(8).fit(vectors(400))
    odd.components_ = odd.components_[:6]
    (tmp_path / "odd").write_bytes(odd.to_bytes())
    numberless = PCAHead(8).fit(vectors(400))
    numberless.mean_[3] = np.nan
    (tmp_path / "nan").write_bytes(numberless.to_bytes())
    mixed = PCAHead(8).fit(vectors(400))
    mixed.components_ = np.ones((8, 40), np.float32)
    (tmp_path / "mixed").write_bytes(mixed.to_bytes())
    ingest_narrow = tmp_path / "in40.npy"
    np.save(ingest_narrow, vectors(50, 40))
    wide = World(tmp_path / "wide-catalog", [50], D=1032).catalog.path
    before = sorted(path.name for path in made.rglob("*"))
    monkeypatch.setattr(Catalog, "recode", None)
    for folder, options, error, says in [
        (bare, {"head": "pca"}, UsageError, "expected a catalog with embeddings"),
        (empty, {"head": "pca"}, UsageError, "at least one item"),
        (made, {"head": str(tmp_path / "nowhere")}, UsageError, "pca, none or a head's file"),
        (made, {"head": str(tmp_path / "narrow")}, UsageError, "embeddings of 48 dims, got one for 40"),
        (made, {"head": str(tmp_path / "wide")}, UsageError, "embeddings of 48 dims, got one for 1024"),
        (made, {"head": str(tmp_path / "damaged")}, CatalogFormatError, "damaged"),
        (made, {"head": str(tmp_path / "nan")}, CatalogFormatError, "NaN"),
        (made, {"head": str(tmp_path / "mixed")}, CatalogFormatError, "components"),
        (made, {"head": str(tmp_path / "odd")}, UsageError, "multiple of 4 from 4 to 1,024, got 6"),
        (made, {"head": "pca", "d": 30}, UsageError, "multiple of 4 from 4 to 1,024, got 30"),
        (made, {"head": "pca", "d": 1028}, UsageError, "got 1028"),
        (made, {"head": "pca", "quantizer": "cubic"}, UsageError, "uniform, quantile"),
        (wide, {"head": "none"}, UsageError, "1032"),
    ]:
        with pytest.raises(error, match=says):
            encode(folder, **options)
    assert sorted(path.name for path in made.rglob("*")) == before
    with pytest.raises(UsageError, match="embeddings of 40 dims, got one for 48"):
        ingest([ingest_narrow], tmp_path / "new", head=str(tmp_path / "whole"))
    with pytest.raises(UsageError, match="--quantizer"):
        ingest([tmp_path / "codes.npy"], tmp_path / "new", quantizer="quantile")


def test_codes_alone_cannot_be_made_anew_and_other_quantizers_are_other_input(made, tmp_path):
    np.save(tmp_path / "codes.npy", np.zeros((30, 8), np.uint8))
    ingest([tmp_path / "codes.npy"], tmp_path / "bare")
    bare = Catalog.open(tmp_path / "bare")
    scalar = ScalarQuantizer(low=-1, high=1)
    with pytest.raises(UsageError, match="no embeddings"):
        bare.recode(lambda x: x, d=8, space=bare.space, scalar=scalar, head=b"")
    with pytest.raises(UsageError, match="other input"):
        ingest([tmp_path / "in"], made, quantizer="quantile")
    assert ingest([tmp_path / "in"], made).n == 1494


def test_a_head_that_gives_no_numbers_leaves_the_old_codes_and_nothing_else(made, monkeypatch):
    before = sorted(path.name for path in made.rglob("*"))
    codes, calls = codes_of(Catalog.open(made)), []

    def transform(self, embeddings):
        calls.append(len(embeddings))
        out = np.ones((len(embeddings), 8), np.float32)
        out[5, 2] = np.inf if len(calls) > 4 else 1
        return out

    monkeypatch.setattr(PCAHead, "transform", transform)
    with pytest.raises(DataError, match="got NaN or infinity for 1 of 300 embeddings"):
        encode(made, head="pca", d=8)
    assert len(calls) == 5
    assert sorted(path.name for path in made.rglob("*")) == before
    assert np.array_equal(codes_of(Catalog.open(made)), codes)


def test_too_small_a_disk_is_told_before_anything_is_written(made, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=1000))
    with pytest.raises(DataError, match=r"bytes of free space for the new codes, got 1,000"):
        encode(made, head="none")


def test_a_second_writer_is_refused(made):
    with Catalog.open(made).writing(), pytest.raises(DataError, match="another process is writing"):
        encode(made, head="none")


def encode_slowly(tell, path):
    """Make the codes anew, and tell of every step."""

    def progress(stage, done, total):
        tell(done)
        time.sleep(0.01)

    encode(path, head="none", d=8, progress=progress)


def test_a_kill_at_any_moment_leaves_the_old_codes_or_the_new(made):
    catalog = Catalog.open(made)
    kept, old = everything(catalog), codes_of(catalog)
    del catalog
    chance = random.Random(0)
    outcomes, left = set(), 0
    for attempt in range(6):
        child, lines = started(encode_slowly, made)
        with lines:
            for _ in range(attempt + 1):
                lines.readline()
            child.join(chance.uniform(0.0, 0.03) if attempt else 0)
            child.kill()
            child.join()
        catalog = Catalog.open(made)
        assert catalog.verify() == []
        assert everything(catalog) == kept
        outcomes.add(catalog.d)
        left = max(left, len(list(made.glob("segments/*"))))
        if catalog.d == 32:
            assert np.array_equal(codes_of(catalog), old)
        del catalog
    assert 32 in outcomes
    assert left > 3
    encode(made, head="none")
    catalog = Catalog.open(made)
    catalog.set_source(catalog.source)
    assert {path.name for path in (made / "segments").iterdir()} == {s.folder.name for s in catalog.segments}
    assert len(list(made.glob("*.safetensors*"))) == 2


# What stands above


def residual_head(D=48, d=16, seed=0):
    """Return a trained head as it comes of training: a linear way, two hidden layers, and no texts."""
    rng = np.random.default_rng(seed)
    shapes = [(40, D), (30, 40), (d, 30)]
    layers = [
        (rng.standard_normal(s).astype(np.float32) / 6, rng.standard_normal(s[0]).astype(np.float32) / 6)
        for s in shapes
    ]
    skip = rng.standard_normal((d, D)).astype(np.float32)
    return TrainedHead(Tower(skip, tuple(layers)), rng.standard_normal(D).astype(np.float32) / 10)


@pytest.fixture(scope="module", params=["pca", "none", "trained"])
def encoded(request, tmp_path_factory):
    """A world whose codes were made anew, with the plain codes of its live items beside it."""
    folder = tmp_path_factory.mktemp("encoded")
    world = World(folder / "c", [4097, 1, 300], seed=5)
    head = {"pca": PCAHead(12), "none": IdentityHead(), "trained": residual_head()}[request.param]
    (folder / "head.safetensors").write_bytes(residual_head().to_bytes())
    chosen = str(folder / "head.safetensors") if request.param == "trained" else request.param
    encode(world.catalog.path, head=chosen, d=12)
    world.catalog.refresh()
    assert world.catalog.d == {"pca": 12, "none": 48, "trained": 16}[request.param]
    codes = world.catalog.codes(world.ids)
    exact = world.catalog.embeddings(world.ids)
    assert np.array_equal(exact, world.embeddings)
    vectors = head.fit(exact).transform(exact)
    decoded = world.catalog.scalar.decode(codes)
    assert np.abs(decoded - vectors).max() < np.max(world.catalog.scalar.high_ - world.catalog.scalar.low_) / 250
    world.codes = codes
    return world


@pytest.mark.parametrize("name", ["oracle", "cpu", "kdtree", "gpu"])
def test_backends_answer_over_the_new_codes(name, encoded):
    from test_backends import opened

    nobody = np.ones(len(encoded.ids), bool)
    with opened(name, encoded.catalog) as backend:
        check_votes(encoded, backend, encoded.boxes(), 1, None, None)
        check_votes(encoded, backend, encoded.boxes(), 2, 7, 0.5)
        check_nearest_codes(encoded, backend, encoded.codes[3], 10, None, nobody)
        check_bits(encoded, backend, encoded.embeddings[0], 40, None, 0.5)


@pytest.mark.parametrize("name", ["oracle", "cpu", "kdtree", "gpu"])
@pytest.mark.parametrize("d", [4, 24])
def test_an_open_backend_answers_over_the_new_codes_after_a_refresh(name, d, tmp_path):
    from test_backends import index, opened

    world = World(tmp_path / "c", [4097, 300], seed=6)
    nobody = np.ones(len(world.ids), bool)
    with opened(name, world.catalog) as backend:
        check_votes(world, backend, world.boxes(), 1, None, None)
        encode(tmp_path / "c", head="pca", d=d)
        check_votes(world, backend, world.boxes(), 1, None, 0.5)  # not refreshed yet: the old codes answer
        check_nearest_codes(world, backend, world.codes[3], 10, None, nobody)
        world.catalog.refresh()
        world.codes = world.catalog.codes(world.ids)
        assert world.codes.shape[1] == d
        if name == "kdtree":
            with pytest.raises(CatalogIndexError, match="stale"):
                backend.apply(world.boxes())
            index(world.catalog)
        check_votes(world, backend, world.boxes(), 1, None, None)
        check_votes(world, backend, world.boxes(), 2, 7, 0.5)
        check_nearest_codes(world, backend, world.codes[3], 10, None, nobody)
        check_bits(world, backend, world.embeddings[0], 40, None, 0.5)


def test_marks_survive_and_give_the_same_second_stage(made):
    with open_backend("oracle", Catalog.open(made)) as backend:
        session = Session(backend.catalog, backend, labels=Labels.open(made / "labels.sqlite", "a"))
        session.mark([10, 11, 12, 800], +1)
        session.mark([13, 14], -1)
        before = session.refine("linear")
        session.labels.close()
    encode(made, head="none", quantizer="quantile")
    with open_backend("oracle", Catalog.open(made)) as backend:
        session = Session(backend.catalog, backend, labels=Labels.open(made / "labels.sqlite", "a"))
        assert (session.positives.tolist(), session.negatives.tolist()) == ([10, 11, 12, 800], [13, 14])
        after = session.refine("linear")
        assert after.ids.tolist() == before.ids.tolist()
        assert after.scores.tolist() == pytest.approx(before.scores.tolist(), abs=1e-5)
        assert session.refine("ensemble").total >= 4
        session.labels.close()


MEASURED = """
import sys, threading, time
import gpubranches.ingestion.encode
peak = 0
def watch():
    global peak
    while True:
        with open("/proc/self/status") as file:
            peak = max(peak, next(int(line.split()[1]) for line in file if "RssAnon" in line))
        time.sleep(0.005)
threading.Thread(target=watch, daemon=True).start()
gpubranches.ingestion.encode.FIT_ROWS = 10_000
gpubranches.ingestion.encode.encode(sys.argv[1], head="pca", d=16)
print(peak)
"""


def test_memory_does_not_grow_with_the_rows(tmp_path, monkeypatch):
    monkeypatch.setattr("gpubranches.catalog.catalog.SEGMENT_ROWS", 20_000)
    peaks = []
    for n in (40_000, 160_000):
        path = tmp_path / f"{n}.npy"
        np.save(path, np.tile(vectors(20_000, 128).astype(np.float16), (n // 20_000, 1)))
        ingest([path], tmp_path / f"c{n}")
        command = [sys.executable, "-c", MEASURED, str(tmp_path / f"c{n}")]
        runs = [subprocess.run(command, capture_output=True, text=True, check=True) for _ in range(2)]
        peaks.append([int(done.stdout.split()[-1]) * 1024 for done in runs])
    # Four times the rows, the same bound: 120 thousand more rows would be 31 MB of embeddings alone. On a busy machine
    # the samples of a run can miss its peak, so the rows would have to show in both runs.
    assert min(peaks[1]) < max(peaks[0]) + 10_000_000
