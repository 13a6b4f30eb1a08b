import json
import os
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpubranches import Catalog
from gpubranches.catalog import TILE, ZONE, tiles
from gpubranches.core.embedding_space import EmbeddingSpace
from gpubranches.encoders.quantizers import SignQuantizer
from gpubranches.errors import ArrayError, CatalogFormatError, CatalogNotFoundError, DataError, UsageError

SIZES = [0, 1, 127, 128, 129, 4095, 4096, 4097]
GOLDEN = Path(__file__).with_name("golden") / "catalog-1"


def make(path, sizes, d=8, D=40, seed=0, items=True):
    """Return a catalog and its rows as plain arrays by id: codes, embeddings (float16)."""
    rng = np.random.default_rng(seed)
    signs = SignQuantizer().fit(rng.standard_normal((20, D)).astype(np.float32))
    catalog = Catalog.create(path, space=EmbeddingSpace(embedder="e"), d=d, signs=signs)
    rows = {}
    for n in sizes:
        codes = rng.integers(0, 256, (n, d)).astype(np.uint8)
        vectors = rng.standard_normal((n, D)).astype(np.float16)
        bits, scales = signs.encode(vectors.astype(np.float32))
        ids = catalog.next_id + np.arange(n, dtype=np.int64) * 2
        table = pa.table({"name": [f"item {i}" for i in ids]}) if items else None
        catalog.append(codes, ids=ids, bits=bits, scales=scales, embeddings=vectors.__getitem__, items=table)
        rows |= {int(i): (c, v) for i, c, v in zip(ids, codes, vectors)}
    return catalog, rows


def check(catalog, rows):
    ids = np.array(sorted(rows), np.int64)
    assert catalog.n == len(ids)
    assert catalog.verify() == []
    assert np.array_equal(catalog.codes(ids), np.array([rows[i][0] for i in ids.tolist()]).reshape(-1, catalog.d))
    wanted = np.array([rows[i][1] for i in ids.tolist()], np.float32).reshape(-1, catalog.D)
    assert np.array_equal(catalog.embeddings(ids), wanted)
    assert catalog.items(ids[:5]) == [{"id": i, "name": f"item {i}"} for i in ids[:5].tolist()]


@given(st.lists(st.sampled_from(SIZES), max_size=3), st.integers(0, 9), st.floats(0, 1))
@settings(max_examples=15)
def test_rows_come_back_through_append_delete_compact_and_reopen(tmp_path_factory, sizes, seed, share):
    path = tmp_path_factory.mktemp("c") / "catalog"
    catalog, rows = make(path, sizes, seed=seed)
    check(catalog, rows)
    rng = np.random.default_rng(seed)
    gone = [i for i in rows if rng.random() < share]
    assert catalog.delete(gone) == len(gone)
    rows = {i: row for i, row in rows.items() if i not in set(gone)}
    check(Catalog.open(path), rows)
    next_id = catalog.next_id
    catalog.compact()
    check(Catalog.open(path), rows)
    assert catalog.next_id == next_id
    assert catalog.n_deleted == 0


def test_every_bit_and_scale_lies_in_the_row_of_its_id(tmp_path):
    catalog, rows = make(tmp_path / "c", [5000, 300])
    for segment in catalog.segments:
        vectors = np.array([rows[i][1] for i in segment.ids.tolist()], np.float32)
        bits, scales = catalog.signs.encode(vectors)
        assert np.array_equal(segment.bits, bits)
        assert np.array_equal(segment.scales, scales)
        assert segment.start % TILE == 0


@given(st.sampled_from(SIZES[1:]), st.integers(0, 9))
@settings(max_examples=10)
def test_zones_are_the_minima_and_maxima_of_their_rows(n, seed):
    codes = np.random.default_rng(seed).integers(0, 256, (n, 4)).astype(np.uint8)
    rows = tiles.kd_order(codes)
    assert np.array_equal(np.sort(rows), np.arange(n))
    laid = tiles.to_tiles(codes[rows])
    zones = tiles.zones_of(laid, n)
    for zone in range(-(-n // ZONE)):
        part = codes[rows[zone * ZONE : (zone + 1) * ZONE]]
        tile, at = divmod(zone, tiles.ZONES)
        assert np.array_equal(zones[tile, 0, :, at], part.min(axis=0))
        assert np.array_equal(zones[tile, 1, :, at], part.max(axis=0))
    beyond = -(-n // ZONE) % tiles.ZONES
    if beyond:
        assert (zones[-1, 0, :, beyond:] == 255).all()
        assert (zones[-1, 1, :, beyond:] == 0).all()


def test_the_order_makes_zones_tighter_than_chance():
    codes = np.random.default_rng(0).integers(0, 256, (16384, 4)).astype(np.uint8)

    def width(rows):
        zones = tiles.zones_of(tiles.to_tiles(codes[rows]), len(codes)).astype(int)
        return (zones[:, 1] - zones[:, 0]).mean()

    assert width(tiles.kd_order(codes)) < 0.5 * width(np.arange(len(codes)))


def test_ids_are_stable_and_never_used_again(tmp_path):
    catalog, _ = make(tmp_path / "c", [100], items=False)
    catalog.delete([198])
    catalog.compact()
    assert catalog.next_id == 199
    with pytest.raises(UsageError, match="expected 199 and more"):
        make_append(catalog, 1, first=198)
    make_append(catalog, 3, first=199)
    assert catalog.alive([198, 199, 201, 202]).tolist() == [False, True, True, False]


def make_append(catalog, n, first):
    vectors = np.ones((n, catalog.D), np.float16)
    bits, scales = catalog.signs.encode(vectors.astype(np.float32))
    codes, ids = np.zeros((n, catalog.d), np.uint8), first + np.arange(n)
    catalog.append(codes, ids=ids, bits=bits, scales=scales, embeddings=vectors.__getitem__)


def test_unknown_and_deleted_ids_are_refused_by_name(tmp_path):
    catalog, _ = make(tmp_path / "c", [10])
    catalog.delete([4])
    for ids in ([1], [4], [10**12]):
        for read in (catalog.codes, catalog.embeddings, catalog.items, catalog.positions, catalog.delete):
            with pytest.raises(UsageError, match=str(ids[0])):
                read(ids)
    assert catalog.n == 9


def test_a_filter_is_sql_over_the_metadata_and_sees_nothing_else(tmp_path):
    catalog, _ = make(tmp_path / "c", [300, 200])
    bitmap = catalog.where("name = 'item 4' OR id IN (601, 603)")
    flags = np.unpackbits(bitmap, count=catalog.n_positions, bitorder="little")
    assert sorted(np.flatnonzero(flags)) == sorted(catalog.positions([4, 601, 603]))
    (tmp_path / "secret.csv").write_text("a,b\n1,2\n")
    secret = f"id IN (SELECT a FROM read_csv('{tmp_path}/secret.csv'))"
    for bad in ("nonsense = 1", "1; DROP TABLE items", "name = 'a') -- ", secret, ""):
        with pytest.raises(UsageError, match="where"):
            catalog.where(bad)


def test_a_flipped_byte_in_any_file_is_found_and_named(tmp_path):
    catalog, _ = make(tmp_path / "c", [300])
    catalog.delete([0])
    for path in sorted(
        p for p in (tmp_path / "c").rglob("*") if p.is_file() and p.name not in ("lock", "manifest.json")
    ):
        content = path.read_bytes()
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        try:
            problems = Catalog.open(tmp_path / "c").verify()
        except CatalogFormatError as error:
            problems = [str(error)]
        assert any(path.name in problem for problem in problems), path
        path.write_bytes(content)
    assert Catalog.open(tmp_path / "c").verify() == []


def test_a_truncated_or_missing_file_is_refused_at_open(tmp_path):
    make(tmp_path / "c", [300])[0].delete([0])
    for path in sorted(p for p in (tmp_path / "c").rglob("*") if p.is_file() and p.name != "lock"):
        content = path.read_bytes()
        path.write_bytes(content[:-3])
        with pytest.raises(CatalogFormatError, match=path.name):
            Catalog.open(tmp_path / "c")
        path.unlink()
        with pytest.raises((CatalogFormatError, CatalogNotFoundError), match=r"manifest|" + path.name):
            Catalog.open(tmp_path / "c")
        path.write_bytes(content)


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"format": "other", "version": 1}', '{"format": "gpubranches-catalog", "version": 99}']
)
def test_a_manifest_that_is_none_is_refused(tmp_path, content):
    make(tmp_path / "c", [3])
    (tmp_path / "c/manifest.json").write_text(content)
    with pytest.raises(CatalogFormatError, match=r"manifest\.json"):
        Catalog.open(tmp_path / "c")


ENTRIES = ["generation", "d", "D", "n_bits", "next_id", "space", "source", "files", "segments", "embedder"]
WRONG = [(name, 1.5) for name in ENTRIES] + [("segments", [{}]), ("space", {"a": 1}), ("files", {})]


@pytest.mark.parametrize(("entry", "value"), WRONG)
def test_a_manifest_with_a_wrong_entry_is_refused(tmp_path, entry, value):
    make(tmp_path / "c", [3])
    manifest = json.loads((tmp_path / "c/manifest.json").read_text())
    (tmp_path / "c/manifest.json").write_text(json.dumps({**manifest, entry: value}))
    with pytest.raises(CatalogFormatError, match=r"manifest\.json"):
        Catalog.open(tmp_path / "c")


def test_wrong_rows_are_refused_before_anything_is_written(tmp_path):
    catalog, _ = make(tmp_path / "c", [5])
    before = sorted(p.name for p in (tmp_path / "c").rglob("*"))
    codes, ids = np.zeros((2, 8), np.uint8), np.array([100, 101])
    bits, scales = np.zeros((2, 8), np.uint8), np.zeros(2, np.float16)
    for change in (
        {"codes": codes.astype(np.int32)},
        {"codes": codes[:, :4]},
        {"ids": ids[::-1].copy()},
        {"ids": ids[:1]},
        {"bits": bits[:, :4]},
        {"scales": scales.astype(np.float32)},
    ):
        arguments = {"codes": codes, "ids": ids, "bits": bits, "scales": scales, **change}
        with pytest.raises(ArrayError, match="expected"):
            catalog.append(arguments.pop("codes"), **arguments)
    assert sorted(p.name for p in (tmp_path / "c").rglob("*")) == before
    with pytest.raises(UsageError, match="multiple of 4"):
        Catalog.create(tmp_path / "odd", space=EmbeddingSpace(), d=30)
    with pytest.raises(UsageError, match="there is a catalog already"):
        Catalog.create(tmp_path / "c", space=EmbeddingSpace(), d=8)


def test_two_writers_are_one_too_many(tmp_path):
    first, _ = make(tmp_path / "c", [5])
    second = Catalog.open(tmp_path / "c")
    with first.writing(), pytest.raises(DataError, match="another process is writing"):
        second.delete([0])
    second.delete([0])
    assert first.refresh()
    assert first.n == 4


def test_a_writer_starts_from_what_others_committed(tmp_path):
    first, _ = make(tmp_path / "c", [5])
    second = Catalog.open(tmp_path / "c")
    first.delete([0])
    second.delete([2])
    assert second.n == 3
    assert Catalog.open(tmp_path / "c").n == 3


@pytest.mark.parametrize("place", ["segments", "manifest.json.partial"])
def test_what_cannot_be_written_leaves_the_last_commit(tmp_path, place):
    catalog, rows = make(tmp_path / "c", [50])
    blocked = tmp_path / "c" / place
    if place == "segments":
        shutil.move(blocked, tmp_path / "aside")
        blocked.write_text("in the way")
        with pytest.raises(DataError, match="cannot write"):
            make_append(catalog, 3, catalog.next_id)
        blocked.unlink()
        shutil.move(tmp_path / "aside", blocked)
    else:
        blocked.mkdir()
        with pytest.raises(DataError, match="cannot write"):
            make_append(catalog, 3, catalog.next_id)
        blocked.rmdir()
    check(Catalog.open(tmp_path / "c"), rows)


KILLED = """
import sys
sys.path.insert(0, sys.argv[1])
from gpubranches import Catalog
from test_catalog import make_append
catalog = Catalog.open(sys.argv[2])
print("ready", flush=True)
while True:
    make_append(catalog, 500, catalog.next_id)
    catalog.delete([catalog.next_id - 1])
    if len(catalog.segments) > 4:
        catalog.compact()
"""


def test_a_kill_at_any_moment_leaves_a_sound_catalog(tmp_path):
    begun = make(tmp_path / "c", [200], items=False)[0].next_id
    chance = random.Random(0)
    folder = os.path.dirname(__file__)
    for _ in range(5):
        command = [sys.executable, "-c", KILLED, folder, str(tmp_path / "c")]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as child:
            child.stdout.readline()
            try:
                child.wait(chance.uniform(0.02, 0.4))
            except subprocess.TimeoutExpired:
                child.send_signal(signal.SIGKILL)
        catalog = Catalog.open(tmp_path / "c")
        assert catalog.verify() == []
        appends, rest = divmod(catalog.next_id - begun, 500)
        deletes = 200 + 500 * appends - catalog.n
        assert rest == 0
        assert appends - 5 <= deletes <= appends
    make_append(catalog, 1, catalog.next_id)
    kept = {segment.folder.name for segment in catalog.segments}
    assert {p.name for p in (tmp_path / "c/segments").iterdir()} == kept


def test_samples_are_live_distinct_uniform_and_repeatable(tmp_path):
    catalog, rows = make(tmp_path / "c", [3000], items=False)
    catalog.delete(sorted(rows)[::3])
    for count in (0, 10, 1900, 99_999):
        sample = catalog.sample_ids(count, np.random.default_rng(1))
        assert len(np.unique(sample)) == len(sample) == min(count, catalog.n)
        assert catalog.alive(sample).all()
        assert np.array_equal(sample, catalog.sample_ids(count, np.random.default_rng(1)))
    many = np.concatenate([catalog.sample_ids(50, np.random.default_rng(seed)) for seed in range(300)])
    assert abs(many.mean() / 3000 - 1) < 0.03


def test_few_items_of_many_ids_are_sampled_as_soon(tmp_path):
    catalog = Catalog.create(tmp_path / "c", space=EmbeddingSpace(), d=4)
    ids = np.array([5, 2**40, 2**62, 2**63 - 2])
    for item in ids:
        catalog.append(np.zeros((1, 4), np.uint8), ids=np.array([item]))
    assert np.array_equal(catalog.sample_ids(99, np.random.default_rng(0)), ids)
    catalog.delete([5])
    assert set(catalog.sample_ids(2, np.random.default_rng(0))) < set(ids[1:])
    with pytest.raises(ArrayError, match="below 2"):
        catalog.codes([2**63])
    with pytest.raises(ArrayError, match="in parts"):
        catalog.append(np.zeros((2, 4), np.uint8), ids=np.array([0, 2**40]))
    catalog.compact()
    assert (Catalog.open(tmp_path / "c").codes(ids[1:]) == 0).all()


def test_too_many_open_files_are_told_and_the_command_line_allows_more(tmp_path):
    make(tmp_path / "c", [1] * 30, items=False)
    program = """
import resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (120, int(sys.argv[2])))
from gpubranches.cli import main
sys.argv[1:] = ["search", sys.argv[1], "--like", "0", "-k", "1", "--backend", "oracle"]
main()
"""
    for hard, status in (("120", 3), ("4096", 0)):
        done = subprocess.run(
            [sys.executable, "-c", program, str(tmp_path / "c"), hard], capture_output=True, text=True, check=False
        )
        assert done.returncode == status, done.stderr
        assert ("allow more open files" in done.stderr) == (status == 3)
        assert "Traceback" not in done.stderr


def test_the_golden_catalog_is_read_for_ever():
    catalog = Catalog.open(GOLDEN)
    assert catalog.verify() == []
    assert (catalog.n, catalog.n_deleted, catalog.next_id, catalog.d, catalog.D) == (149, 1, 153, 8, 40)
    assert catalog.codes([0, 149]).tolist() == [
        [6, 80, 177, 27, 170, 229, 183, 106],
        [23, 50, 56, 141, 128, 175, 40, 29],
    ]
    assert catalog.items([140]) == [{"id": 140, "name": "item 140", "price": 14.0}]
    assert catalog.errors() == [{"id": 150, "path": "broken.jpg", "reason": "the file is empty"}]
    assert catalog.space == EmbeddingSpace(embedder="golden", head="h", quantizer="q", means="m")
    segment = catalog.segments[0]
    scores = catalog.signs.planes(np.ones(40, np.float32)).scores(segment.bits[:3], segment.scales[:3])
    assert scores.tolist() == [-34.8271484375, -82.4765625, -33.33984375]
