"""The index of the kdtree backend: exact on any boxes, bound to the catalog's codes, whole or not there."""

import json
import signal
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("hypothesis")

from hypothesis import given
from hypothesis import strategies as st

from gpubranches import Box, Boxes, Catalog
from gpubranches.core.bitmaps import pack_bitmap
from gpubranches.core.embedding_space import EmbeddingSpace
from gpubranches.core.tie_order import splitmix64
from gpubranches.engines.kdtree.backend import KdtreeBackend
from gpubranches.engines.kdtree.build import build_index
from gpubranches.engines.kdtree.files import FOLDER, LEAF, KdIndex, problems
from gpubranches.errors import CatalogIndexError, DataError, UsageError
from gpubranches.learning.branches import BranchEnsemble, feature_subsets

D = 12


def made(path, sizes, d=D, levels=256, seed=0):
    """Write a catalog of skewed codes with an index; return it and its codes by id."""
    rng = np.random.default_rng(seed)
    catalog = Catalog.create(path, space=EmbeddingSpace(), d=d)
    parts = []
    for n in sizes:
        centres = rng.integers(0, levels, (7, d))
        codes = np.clip(centres[rng.integers(0, 7, n)] + rng.normal(0, levels / 8, (n, d)), 0, levels - 1)
        parts.append(codes.astype(np.uint8))
        catalog.append(parts[-1], ids=catalog.next_id + np.arange(n))
    build_index(catalog, threads=1)
    return catalog, np.concatenate(parts)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    catalog, codes = made(tmp_path_factory.mktemp("kdtree") / "c", [9000, 300, 4097])
    gone = np.random.default_rng(1).choice(len(codes), 700, replace=False)
    catalog.delete(np.sort(gone))
    alive = np.ones(len(codes), bool)
    alive[gone] = False
    with KdtreeBackend(catalog, threads=2, index_only=True) as backend:
        yield SimpleNamespace(catalog=catalog, codes=codes, alive=alive, backend=backend)


def random_boxes(rng, count, estimators, pooled):
    """Return boxes over subsets of the pool, or over any dims, around random points."""
    pool, members = feature_subsets(D), []
    for _ in range(count):
        dims = pool[rng.integers(len(pool))] if pooled else rng.choice(D, rng.integers(0, D + 1), replace=False)
        centre, reach = rng.integers(0, 256, len(dims)), rng.integers(0, 120, len(dims))
        low, high = np.maximum(centre - reach, 0), np.minimum(centre + reach, 255)
        members.append(Box(np.array(dims, np.int16), low.astype(np.uint8), high.astype(np.uint8)))
    return Boxes(members, rng.integers(0, estimators, count).tolist(), estimators)


def check(world, boxes, min_votes, limit, share, rng):
    inside, where = world.alive.copy(), None
    if share is not None:
        chosen = rng.random(len(world.codes)) < share
        flags = np.zeros(world.catalog.n_positions, bool)
        flags[world.catalog.positions(np.flatnonzero(chosen & world.alive))] = True
        where, inside = pack_bitmap(flags), inside & chosen
    votes = boxes.votes(world.codes)
    ids = np.flatnonzero((votes >= min_votes) & inside)
    best = ids[np.lexsort((splitmix64(ids), -votes[ids].astype(int)))][:limit]
    found = world.backend.apply(boxes, min_votes=min_votes, limit=limit, where=where)
    assert (found.total, found.ids.tolist()) == (len(ids), best.tolist())
    assert found.votes.tolist() == votes[best].tolist()


@given(
    st.integers(0, 2**32),
    st.integers(0, 9),
    st.integers(1, 5),
    st.booleans(),
    st.integers(1, 3),
    st.none() | st.integers(0, 400),
    st.none() | st.floats(0, 1),
)
def test_answers_equal_the_definition(world, seed, count, estimators, pooled, min_votes, limit, share):
    rng = np.random.default_rng(seed)
    check(world, random_boxes(rng, count, estimators, pooled), min_votes, limit, share, rng)


@given(st.integers(0, 2**32), st.booleans())
def test_every_way_of_answering_gives_the_same(world, seed, mixed):
    """By trees and dims verified on the codes, on two threads; and with some boxes scanned beside others."""
    rng = np.random.default_rng(seed)
    boxes = random_boxes(rng, 6, 3, False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gpubranches.engines.kdtree.backend.scan_cost_ns", lambda n, count: np.inf)
        patch.setattr("gpubranches.engines.kdtree.backend._WORTH_THREADS_NS", 0)
        patch.setattr(world.backend, "index_only", not mixed)
        if not mixed:
            steps = world.backend.plan(boxes)
            assert all(step.tree is not None for step, box in zip(steps, boxes, strict=True) if len(box.features))
        check(world, boxes, 1, None, None, rng)
        check(world, Boxes(boxes[:4]), 1, 50, 0.5, rng)


def test_boxes_of_the_pool_are_answered_by_their_tree(world):
    centre = world.codes[5].astype(int)
    for subset in feature_subsets(D)[::20]:
        dims = np.array(subset, np.int16)
        low, high = np.maximum(centre[dims] - 4, 0), np.minimum(centre[dims] + 4, 255)
        boxes = Boxes([Box(dims, low.astype(np.uint8), high.astype(np.uint8))])
        (step,) = world.backend.plan(boxes)
        assert set(subset) <= set(step.tree.features.tolist())
        assert len(step.rest.features) == 0
        assert step.cut_rows + step.whole_rows < len(world.codes) / 2
        check(world, boxes, 1, None, None, None)


def test_a_count_alone_names_no_rows(tmp_path, monkeypatch):
    catalog, codes = made(tmp_path / "c", [5000])
    dims = np.array(feature_subsets(D)[3], np.int16)
    low, high = codes[:, dims].min(axis=0), np.quantile(codes[:, dims], 0.8, axis=0).astype(np.uint8)
    box = Boxes([Box(dims, low, high)])
    with KdtreeBackend(catalog, index_only=True) as backend:
        expected = backend.apply(box).total
        assert expected == box.votes(codes).sum() > 0
        filtered = pack_bitmap(np.arange(catalog.n_positions) % 3 == 0)
        some = backend.apply(box, where=filtered).total
        assert backend.apply(box, limit=0, where=filtered).total == some < expected
        monkeypatch.setattr(backend, "_borrow", None)
        assert backend.apply(box, limit=0).total == expected
        assert backend.apply(box, limit=0).ids.tolist() == []


def test_info_tells_how_boxes_were_answered(world):
    with KdtreeBackend(world.catalog, index_only=True) as backend:
        nothing = Boxes([Box(np.zeros(0, np.int16), np.zeros(0, np.uint8), np.zeros(0, np.uint8))])
        backend.apply(nothing)
        assert backend.info()["boxes"] == {"by index": 0, "by scan": 1}
        dims = np.array(feature_subsets(D)[0], np.int16)
        codes = world.codes[5, dims]
        backend.apply(Boxes([Box(dims, codes, codes)]))
        told = backend.info()
        assert told["boxes"] == {"by index": 1, "by scan": 1}
        backend.index_only = False
        backend.apply(Boxes([Box(dims, codes, codes)]))  # so few rows are scanned sooner than a tree is asked
        assert backend.info()["boxes"] == {"by index": 1, "by scan": 2}
        assert told["trees"] == len(feature_subsets(D))


def test_trees_hold_every_row_once_in_full_leaves_within_their_bounds(world):
    index = KdIndex.open(world.catalog.path / FOLDER, world.catalog, "")
    every = np.concatenate([segment.start + np.arange(segment.n) for segment in world.catalog.segments])
    by_position = {
        int(p): code
        for p, code in zip(world.catalog.positions(np.flatnonzero(world.alive)), world.codes[world.alive], strict=True)
    }
    for tree, start in list(zip(index.trees, index.starts, strict=True))[::17]:
        f, n = len(tree.features), tree.n
        leaves = -(-n // LEAF)
        blocks = tree.blocks.reshape(leaves, (f + 4) * LEAF)
        codes = blocks[:, : f * LEAF].reshape(leaves, f, LEAF)
        positions = np.ascontiguousarray(blocks[:, f * LEAF :]).view(np.uint32).reshape(-1)[:n]
        assert np.array_equal(np.sort(positions), every)
        assert (np.diff(positions.astype(int))[np.arange(n - 1) % LEAF != LEAF - 1] > 0).all()
        rows = codes.transpose(0, 2, 1).reshape(-1, f)[:n]
        alive = np.isin(positions, list(by_position))
        expected = np.array([by_position[int(p)] for p in positions[alive]])[:, tree.features]
        assert np.array_equal(rows[alive], expected)
        padded = -(-leaves // 64) * 64
        low, high = index.bounds[start : start + 2 * f * padded].reshape(2, f, padded)[:, :, :leaves]
        owner = np.arange(n) // LEAF
        assert np.array_equal(low.T, np.minimum.reduceat(rows, np.flatnonzero(np.diff(owner, prepend=-1))))
        assert np.array_equal(high.T, np.maximum.reduceat(rows, np.flatnonzero(np.diff(owner, prepend=-1))))


@pytest.mark.parametrize("sizes", [[], [0], [1], [256], [257], [64 * 256 + 1]])
def test_catalogs_of_every_size(tmp_path, sizes):
    catalog, codes = made(tmp_path / "c", sizes or [0], d=4)
    everything = Boxes([Box(np.array([1], np.int16), np.array([0], np.uint8), np.array([200], np.uint8))])
    with KdtreeBackend(catalog, index_only=True) as backend:
        assert backend.apply(everything).total == (codes[:, 1] <= 200).sum()


def test_identical_rows_are_split_by_rank(tmp_path):
    catalog, _ = made(tmp_path / "c", [3000], levels=1)
    with KdtreeBackend(catalog, index_only=True) as backend:
        dims = np.array(feature_subsets(D)[0], np.int16)
        point = np.zeros(len(dims), np.uint8)
        assert backend.apply(Boxes([Box(dims, point, point)]), limit=5).total == 3000


def test_bytes_a_row_are_kept(tmp_path):
    """All 104 trees, at a size where leaves and their bounds are whole, cost 932 bytes a row."""
    n = 64 * 256
    catalog, _ = made(tmp_path / "c", [n], d=32)
    manifest = json.loads((catalog.path / FOLDER / "manifest.json").read_text())
    assert len(manifest["trees"]) == 104
    sizes = [entry["bytes"] for name, entry in manifest["files"].items() if name != "marginals.i64"]
    assert sum(sizes) == 932 * n


# Missing, stale, damaged


def test_a_missing_index_names_the_command(tmp_path):
    catalog = Catalog.create(tmp_path / "c", space=EmbeddingSpace(), d=4)
    with pytest.raises(CatalogIndexError, match=r"found none.*gpubranches index .*c`"):
        KdtreeBackend(catalog)


def test_an_index_is_stale_after_append_and_compact_but_not_after_delete(tmp_path):
    catalog, codes = made(tmp_path / "c", [600])
    with KdtreeBackend(catalog) as backend:
        catalog.delete([3])
        dims = np.array(feature_subsets(D)[0], np.int16)
        everything = Boxes([Box(dims, np.zeros(4, np.uint8), np.full(4, 255, np.uint8))])
        assert backend.apply(everything).total == 599
        catalog.compact()
        with pytest.raises(CatalogIndexError, match=r"stale: .*gpubranches index"):
            backend.apply(everything)
        build_index(catalog)
        assert backend.apply(everything).total == 599
        catalog.append(codes[:5], ids=catalog.next_id + np.arange(5))
        with pytest.raises(CatalogIndexError, match="stale"):
            KdtreeBackend(catalog)


def flip(path, at):
    content = bytearray(path.read_bytes())
    content[at] ^= 255
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("manifest.json", lambda path: path.write_text("{")),
        ("manifest.json", lambda path: path.write_text(path.read_text().replace('"trees"', '"woods"'))),
        ("manifest.json", lambda path: path.write_text(path.read_text().replace('"version": 1', '"version": 2'))),
        ("manifest.json", lambda path: path.unlink()),
        ("tree-000.u8", lambda path: path.unlink()),
        ("tree-000.u8", lambda path: path.write_bytes(path.read_bytes()[:-1])),
        ("bounds.u8", lambda path: flip(path, 7)),
        ("marginals.i64", lambda path: flip(path, 7)),
    ],
)
def test_a_damaged_index_is_refused(tmp_path, name, damage):
    catalog, _ = made(tmp_path / "c", [600], d=4)
    assert problems(catalog.path / FOLDER) == []
    damage(catalog.path / FOLDER / name)
    with pytest.raises(CatalogIndexError, match="gpubranches index"):
        KdtreeBackend(catalog)
    assert problems(catalog.path / FOLDER)


def test_a_damaged_position_is_refused_and_verify_names_the_file(tmp_path):
    catalog, _ = made(tmp_path / "c", [600], d=4)
    tree = catalog.path / FOLDER / "tree-000.u8"
    content = np.fromfile(tree, np.uint8)
    content[4 * LEAF + 3 : 8 * LEAF : 4] = 255
    content.tofile(tree)
    box = Box(np.arange(4, dtype=np.int16), np.zeros(4, np.uint8), np.full(4, 254, np.uint8))
    with KdtreeBackend(catalog, index_only=True) as backend, pytest.raises(CatalogIndexError, match="does not exist"):
        backend.apply(Boxes([box]))
    assert "tree-000.u8" in problems(catalog.path / FOLDER)[0]


# Building


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_two_builds_are_byte_equal(tmp_path):
    catalog, _ = made(tmp_path / "c", [2000, 70])
    first = contents(catalog.path / FOLDER)
    build_index(catalog, threads=2)
    assert contents(catalog.path / FOLDER) == first


def test_a_killed_build_leaves_the_index_that_was_there(tmp_path):
    catalog, _ = made(tmp_path / "c", [3000])
    before = contents(catalog.path / FOLDER)
    script = (
        "import sys, time; from gpubranches import Catalog; from gpubranches.engines.kdtree import build as k\n"
        "slow = lambda stage, done, total: (print(done, flush=True), time.sleep(60))\n"
        "k.build_index(Catalog.open(sys.argv[1]), threads=1, report=slow)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script, str(catalog.path)], stdout=subprocess.PIPE) as child:
        assert child.stdout.readline().strip() == b"1"
        with pytest.raises(DataError, match="another process"):
            build_index(catalog)
        child.send_signal(signal.SIGKILL)
    assert (catalog.path / "kdtree.building").exists()
    assert contents(catalog.path / FOLDER) == before
    KdtreeBackend(catalog).close()
    build_index(catalog)
    assert sorted(path.name for path in catalog.path.glob("kdtree*")) == ["kdtree"]


def test_a_build_that_fails_leaves_nothing(tmp_path, monkeypatch):
    catalog, _ = made(tmp_path / "c", [600])
    before = contents(catalog.path / FOLDER)

    def stop(stage, done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_index(catalog, report=stop)
    monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=1000))
    with pytest.raises(DataError, match="free space"):
        build_index(catalog)
    assert contents(catalog.path / FOLDER) == before
    assert not (catalog.path / "kdtree.building").exists()


def test_the_catalog_keeps_the_index_when_it_writes(tmp_path):
    catalog, _ = made(tmp_path / "c", [600])
    catalog.delete([1])
    catalog.set_source({"made": "again"})
    KdtreeBackend(catalog).close()
    assert catalog.verify() == []


# Searches over codes


def test_stop_leaves_is_approximate_and_says_so(world):
    query = world.codes[world.alive][:1]
    with KdtreeBackend(world.catalog, stop_leaves=1) as quick, KdtreeBackend(world.catalog) as exact:
        near, true = quick.search(query, 100, tier="codes"), exact.search(query, 100, tier="codes")
        assert (near.source, true.source) == ("kdtree/codes, 1 leaves", "kdtree/codes")
        assert near.distances[0, 0] == 0
        assert (near.distances[0] >= true.distances[0]).all()
    with KdtreeBackend(world.catalog, stop_leaves=10_000) as all_leaves:
        assert all_leaves.search(query, 100, tier="codes").ids.tolist() == true.ids.tolist()
    with pytest.raises(UsageError, match="stop_leaves"):
        KdtreeBackend(world.catalog, stop_leaves=0)


def test_an_ensemble_of_the_pool_votes_as_on_the_cpu(world):
    from gpubranches.engines.cpu.backend import CpuBackend

    y = np.arange(400) < 20
    boxes = BranchEnsemble(subsets="pool").fit(world.codes[:400], y).boxes_
    with CpuBackend(world.catalog) as cpu:
        for min_votes in (1, 13):
            found, expected = (own.apply(boxes, min_votes=min_votes) for own in (world.backend, cpu))
            assert (found.total, found.ids.tolist()) == (expected.total, expected.ids.tolist())


# The command


def test_the_command_builds_and_the_backend_is_chosen_by_name(tmp_path, capsys, monkeypatch):
    from gpubranches import cli

    catalog, codes = made(tmp_path / "c", [600])
    catalog.append(codes[:5], ids=catalog.next_id + np.arange(5))

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["gpubranches", *map(str, arguments)])
        try:
            cli.main()
        except SystemExit as stop:
            return stop.code or 0, capsys.readouterr()
        return 0, capsys.readouterr()

    search = ("search", catalog.path, "--like", 3, "--backend", "kdtree", "--json")
    code, said = run(*search)
    assert (code, "gpubranches index" in said.err) == (3, True)
    code, said = run("index", catalog.path, "--threads", 1, "--json")
    assert (code, json.loads(said.out)["n"]) == (0, 605)
    assert json.loads(run(*search)[1].out)["backend"] == "kdtree"
    assert run("verify", catalog.path)[0] == 0
    flip(catalog.path / FOLDER / "tree-001.u8", 0)
    code, said = run("verify", catalog.path)
    assert (code, "tree-001.u8" in said.out) == (3, True)
