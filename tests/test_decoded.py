"""Catalogs that store no embeddings: what is decoded from the codes takes their place."""

import hashlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from clusters import NAMES, D, world, write_world
from cudasim import SimulatedDevice
from worlds import World, decoding_head

from gpubranches import Catalog, Session, open_backend
from gpubranches.catalog.codec import Codec
from gpubranches.cli import cli
from gpubranches.encoders.heads import PCAHead, TrainedHead
from gpubranches.encoders.heads.towers import Tower
from gpubranches.encoders.quantizers import ScalarQuantizer
from gpubranches.engines.gpu import GpuBackend
from gpubranches.errors import UsageError
from gpubranches.ingestion import append, ingest


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("world")
    write_world(path)
    images = world()[0].astype(np.float32)
    images /= np.linalg.norm(images, axis=1, keepdims=True)
    np.save(path / "emb.npy", images)
    plane = PCAHead(16).fit(images).components_
    head = TrainedHead(Tower(plane, ()), images.mean(axis=0), decoder=Tower(np.ascontiguousarray(plane.T), ()))
    (path / "head.safetensors").write_bytes(head.to_bytes())
    return path


@pytest.fixture(scope="module")
def lean(folder):
    ingest(
        [folder / "images"], folder / "lean", embedder=vocabulary(folder), head=head_of(folder), keep_embeddings=False
    )
    return Catalog.open(folder / "lean")


@pytest.fixture
def full(folder, tmp_path):
    ingest([folder / "images"], tmp_path / "full", embedder=vocabulary(folder), head=head_of(folder))
    return Catalog.open(tmp_path / "full")


def vocabulary(path):
    return f"vocabulary:{path}/text/emb.npy,{path}/text/names.json"


def head_of(path):
    return str(path / "head.safetensors")


def files(catalog):
    return {path.name for path in (catalog.path / "segments").glob("*/*")}


def decoded_by(rng, count):
    """Return a decoder, codes and what they are decoded to."""
    scalar = ScalarQuantizer(low=-1.0, high=1.0).fit(np.zeros((1, 32), np.float32))
    decode = Codec(decoding_head(rng, 32, 512), scalar, fitted=True).decode
    codes = rng.integers(0, 256, (count, 32)).astype(np.uint8)
    return decode, codes, decode(codes)


def digest(array):
    return hashlib.sha256(array.tobytes()).hexdigest()


@pytest.mark.parametrize(("kernels", "threads"), [("Haswell", "1"), ("Haswell", "3"), ("Sandybridge", "2")])
def test_a_row_is_decoded_to_the_same_bits_on_every_processor(kernels, threads):
    """As far as OpenBLAS can be told to compute like another one."""
    script = "import test_decoded as t, numpy as np; print(t.digest(t.decoded_by(np.random.default_rng(5), 1000)[2]))"
    chosen = {**os.environ, "OPENBLAS_CORETYPE": kernels, "OPENBLAS_NUM_THREADS": threads}
    folder = Path(__file__).parent
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=folder, env=chosen, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == digest(decoded_by(np.random.default_rng(5), 1000)[2])


def test_a_row_is_decoded_to_the_same_bits_whatever_is_beside_it():
    rng = np.random.default_rng(0)
    decode, codes, every = decoded_by(rng, 2500)
    assert (every.dtype, every.shape) == (np.float16, (len(codes), 512))
    assert np.allclose(np.linalg.norm(every.astype(np.float32), axis=1), 1, atol=2e-3)
    for count in (0, 1, 3, 100, 2049):
        chosen = rng.choice(len(codes), count, replace=False)
        assert np.array_equal(decode(codes[chosen]).view(np.uint16), every[chosen].view(np.uint16))


def test_nothing_but_codes_and_bits_is_stored_and_it_is_told(lean, full):
    assert files(full) - files(lean) == {"embeddings.f16"}
    assert (lean.has_embeddings, lean.stores_embeddings, lean.verify()) == (True, False, [])
    assert (lean.info()["tiers"], lean.info()["embeddings"]) == (["codes", "bits"], "decoded")
    assert (full.info()["tiers"][-1], full.info()["embeddings"]) == ("embeddings", "stored")
    ids = np.arange(lean.n)
    assert np.array_equal(lean.codes(ids), full.codes(ids))
    near = np.einsum("ij,ij->i", lean.embeddings(ids), full.embeddings(ids))
    assert near.mean() > 0.8
    assert np.array_equal(lean.embeddings(ids[::7]), lean.embeddings(ids)[::7])
    assert np.array_equal(lean.embeddings_at(lean.positions(ids)), lean.embeddings(ids).astype(np.float16))


@pytest.mark.parametrize("backend", ["oracle", "cpu", "kdtree"])
def test_marks_find_all_and_words_find_the_first(lean, backend):
    pytest.importorskip("numba")
    if backend == "kdtree":
        from gpubranches.engines.kdtree.build import build_index

        build_index(lean, threads=1)
    _, labels, _ = world()
    of = NAMES.index("teapot")
    right, wrong = np.flatnonzero(labels == of)[:8], np.flatnonzero(labels != of)[:8]
    with open_backend(backend, lean) as opened, open_backend("oracle", lean) as oracle:
        answers = []
        for engine in (opened, oracle):
            session = Session(lean, engine, seed=3)
            session.mark(right, +1)
            session.mark(wrong, -1)
            answers.append(session.refine())
        assert answers[0].source.endswith("/boxes+decoded")
        matched = answers[0].ids[answers[0].matched]
        assert np.mean(labels[matched] == of) > 0.9
        assert len(matched) > 0.8 * (labels == of).sum()
        assert matched.tolist() == answers[1].ids[answers[1].matched].tolist()


def test_dropping_the_embeddings_leaves_what_storing_none_makes(folder, full, lean):
    before = full.info()["bytes"]
    full.delete(np.arange(0, 50))
    full.compact(keep_embeddings=False)
    again = Catalog.open(full.path)
    assert (again.stores_embeddings, again.verify(), files(again)) == (False, [], files(lean))
    assert again.info()["bytes"] < before - 2 * again.n * D
    ids = np.arange(50, lean.n)
    assert np.array_equal(again.embeddings(ids), lean.embeddings(ids))
    rows = np.load(folder / "images/img_emb/img_emb_0.npy")
    np.save(full.path.parent / "more.npy", np.concatenate([rows, rows[:1]]))
    append(full.path, [full.path.parent / "more.npy"])
    more = Catalog.open(full.path)
    assert (more.n, more.stores_embeddings, more.verify()) == (again.n + lean.n + 1, False, [])
    assert np.array_equal(more.embeddings(lean.n + ids), lean.embeddings(ids))


def test_the_choice_lasts_when_there_are_no_rows_and_when_items_are_added(folder, full):
    full.delete(np.arange(full.n))
    full.compact(keep_embeddings=False)
    assert (full.n, full.stores_embeddings, full.has_embeddings) == (0, False, True)
    append(full.path, [folder / "images"])
    again = Catalog.open(full.path)
    assert (again.n, again.stores_embeddings) == (len(world()[0]), False)
    assert "embeddings.f16" not in files(again)
    again.compact()
    assert not Catalog.open(full.path).stores_embeddings


KILLED = """
import os, signal, sys
from gpubranches import Catalog
from gpubranches.catalog import catalog as module
catalog = Catalog.open(sys.argv[1])
commit = module.Catalog._commit
def killed(self, *given, **entries):
    if sys.argv[2] == "after":
        commit(self, *given, **entries)
    os.kill(os.getpid(), signal.SIGKILL)
module.Catalog._commit = killed
catalog.compact(keep_embeddings=False)
"""


@pytest.mark.parametrize("when", ["before", "after"])
def test_dropping_that_is_killed_has_dropped_all_or_nothing(full, when):
    before, everything = files(full), full.embeddings(np.arange(full.n))
    done = subprocess.run([sys.executable, "-c", KILLED, str(full.path), when], check=False)
    assert done.returncode == -signal.SIGKILL
    again = Catalog.open(full.path)
    assert (again.stores_embeddings, again.verify()) == (when == "before", [])
    if when == "before":
        assert np.array_equal(again.embeddings(np.arange(again.n)), everything)
    again.compact(keep_embeddings=False)
    full.refresh()  # holds the old files until then
    again.compact()  # removes what was left behind
    assert (Catalog.open(full.path).verify(), files(again)) == ([], before - {"embeddings.f16"})


ASKED = {
    "search": lambda one, query: one.search(query[None], 5, tier="embeddings").ids[0],
    "score": lambda one, query: one.score(query, tier="embeddings", limit=9).ids,
    "score some": lambda one, query: one.score(query, tier="embeddings", ids=np.arange(0, 3000, 3)).ids,
}


@pytest.mark.parametrize("asked", ASKED)
def test_a_card_answers_from_the_host_what_a_commit_has_dropped(tmp_path, asked):
    ask, stored = ASKED[asked], World(tmp_path / "stored", [3000], d=8, D=48, seed=2, deleted=0.0)
    rng = np.random.default_rng(0)
    head, scalar = decoding_head(rng, 8, 48), ScalarQuantizer(low=-1.0, high=1.0).fit(np.zeros((1, 8), np.float32))
    made = Catalog.create(
        tmp_path / "c", space=stored.catalog.space, d=8, signs=stored.catalog.signs, head=head.to_bytes(), scalar=scalar
    )
    rows = stored.embeddings.astype(np.float16)
    made.append(stored.codes, ids=stored.ids, bits=stored.bits, scales=stored.scales, embeddings=rows.__getitem__)
    query = rng.standard_normal(48).astype(np.float32)
    with GpuBackend(made, SimulatedDevice) as backend:
        before = ask(backend, query).tolist()
        Catalog.open(made.path).compact(keep_embeddings=False)
        made.refresh()
        after = ask(backend, query).tolist()
    with open_backend("oracle", Catalog.open(made.path)) as oracle:
        assert after == ask(oracle, query).tolist() != before


def test_what_needs_stored_embeddings_or_a_decoder_is_refused(folder, lean, tmp_path):
    with pytest.raises(UsageError, match="decoder, got rca"):
        ingest([folder / "emb.npy"], tmp_path / "c", head="rca", keep_embeddings=False)
    with pytest.raises(UsageError, match="decoder, got None"):
        ingest([folder / "emb.npy"], tmp_path / "d", keep_embeddings=False)
    ingest([folder / "emb.npy"], tmp_path / "e", head="pca")
    plain = Catalog.open(tmp_path / "e")
    with pytest.raises(UsageError, match="no head that decodes"):
        plain.compact(keep_embeddings=False)
    assert Catalog.open(tmp_path / "e").stores_embeddings
    with pytest.raises(UsageError, match="stores no embeddings"):
        lean.recode(lambda rows: rows, d=16, space=lean.space, scalar=lean.scalar, head=b"")
    for command in (
        ["encode", str(lean.path)],
        ["evaluate", "codes", str(lean.path), "--without-faiss", "--columns", "label"],
    ):
        told = CliRunner().invoke(cli, command)
        assert isinstance(told.exception, UsageError)
        assert "expected a catalog with embeddings" in str(told.exception)


def test_the_commands_store_none_and_drop_them(folder, tmp_path):
    runner, arguments = CliRunner(), ["--head", head_of(folder), "--no-embeddings"]
    told = runner.invoke(cli, ["ingest", str(folder / "emb.npy"), "--out", str(tmp_path / "c"), *arguments])
    assert told.exit_code == 0, told.output
    assert json.loads(runner.invoke(cli, ["info", str(tmp_path / "c"), "--json"]).stdout)["embeddings"] == "decoded"
    again = runner.invoke(cli, ["ingest", str(folder / "emb.npy"), "--out", str(tmp_path / "c"), *arguments[:2]])
    assert "other input" in str(again.exception)
    runner.invoke(cli, ["ingest", str(folder / "emb.npy"), "--out", str(tmp_path / "d"), *arguments[:2]])
    assert runner.invoke(cli, ["compact", str(tmp_path / "d"), "--no-embeddings"]).exit_code == 0
    assert not Catalog.open(tmp_path / "d").stores_embeddings
