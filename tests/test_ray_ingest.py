"""Ingest on two nodes in this machine: the shards of `ingest --shard`, deaths, and what a cluster may lack."""

import os
import re
import signal
import socket
import sys
from pathlib import Path
from unittest import mock

import numpy as np
import pytest

pytest.importorskip("ray", reason="Ray is not installed")

import ray
import rays
from ray import cloudpickle
from test_ingest import same, vectors, write_pictures

from gpubranches import Catalog
from gpubranches.catalog import catalog as catalog_module
from gpubranches.engines.sharded.ray_cluster import connected
from gpubranches.ingestion import build_catalog, on_cluster
from gpubranches.ingestion.on_cluster import ingest_on_cluster, shard_folder
from gpubranches.service.merging import merge
from gpubranches.service.soundness import problems

real_make = on_cluster._make
pytestmark = pytest.mark.filterwarnings("ignore")  # Ray's own


@pytest.fixture(scope="module")
def cluster():
    with rays.cluster() as started, connected(ray, started.address, "test") as disconnect:
        yield started
        disconnect()


def parts_of(folder):
    """Return what the files of a catalog hold, without the random names of segments."""
    catalog = Catalog.open(folder)
    return catalog.source, [segment.files for segment in catalog.segments], catalog.snapshot.manifest["files"]


@pytest.fixture
def pictures(tmp_path):
    write_pictures(tmp_path / "pictures", 24)
    (tmp_path / "pictures/1/00004.png").write_bytes(b"no picture")
    return tmp_path / "pictures"


def test_shards_are_those_of_ingest_one_by_one(cluster, pictures, tmp_path, run):
    counts = []
    report = ingest_on_cluster(
        [pictures],
        tmp_path / "out",
        cluster.address,
        shards=2,
        embedder="demo",
        progress=lambda stage, done, total: counts.append((stage, done, total)),
    )
    assert (report.n, report.errors, report.added) == (23, 1, 23)
    assert ("encoding", 24, 24) in counts
    build_catalog([pictures], tmp_path / "fitted", fit_only=True, embedder="demo")
    for number in (1, 2):
        alone = tmp_path / f"alone-{number}"
        build_catalog([pictures], alone, codec_from=tmp_path / "fitted", embedder="demo", shard=f"{number}/2")
        assert parts_of(shard_folder(tmp_path / "out", number, 2)) == parts_of(alone)
    again = ["ingest", pictures, "--out", tmp_path / "out", "--cluster", cluster.address]
    code, out, _ = run(*again, "--embedder", "demo")
    assert (code, "23 items" in out, "nothing was new" in out) == (0, True, True)
    assert f"gpubranches merge CATALOG {tmp_path}/out/shard-*" in out
    code, _, told = run(*again, "--head", "pca")
    assert (code, "expected the options of the run that is there" in told) == (2, True)


def test_codes_are_taken_as_they_are(cluster, tmp_path):
    np.save(tmp_path / "codes.npy", np.random.default_rng(0).integers(0, 256, (500, 8)).astype(np.uint8))
    assert ingest_on_cluster([tmp_path / "codes.npy"], tmp_path / "out", cluster.address).n == 500
    assert sorted(os.listdir(tmp_path / "out")) == ["run.json", "shard-1-of-2", "shard-2-of-2"]


def dying_make(name, inputs, folder, options, board):
    """Do as `_make`, but end without a word after the first and the second segment of the first shard."""
    commit, deaths = Catalog.append, Path(folder).parent / "deaths"

    def append(catalog, *arguments, **named):
        commit(catalog, *arguments, **named)
        if name == "shard 1/2" and len(catalog.segments) <= 2:
            with deaths.open("a") as file:
                file.write(f"{len(catalog.segments)}\n")
            os.kill(os.getpid(), signal.SIGKILL)

    with mock.patch.object(Catalog, "append", append), mock.patch.object(catalog_module, "SEGMENT_ROWS", 100):
        return real_make(name, inputs, folder, options, board)


def test_a_task_that_is_killed_goes_on(cluster, tmp_path, monkeypatch):
    np.save(tmp_path / "x.npy", vectors(700))
    cloudpickle.register_pickle_by_value(sys.modules[__name__])  # no node has this module
    monkeypatch.setattr(on_cluster, "_make", dying_make)
    report = ingest_on_cluster([tmp_path / "x.npy"], tmp_path / "out", cluster.address, shards=2, d=8)
    assert (report.n, (tmp_path / "out/deaths").read_text()) == (700, "1\n2\n")
    merge(tmp_path / "merged", [shard_folder(tmp_path / "out", number, 2) for number in (1, 2)])
    build_catalog([tmp_path / "x.npy"], tmp_path / "whole", d=8)
    same(Catalog.open(tmp_path / "merged"), Catalog.open(tmp_path / "whole"))
    assert problems(tmp_path / "merged") == []


def test_what_a_cluster_lacks_is_told_in_one_sentence(cluster, pictures, tmp_path, run, monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        closed = f"127.0.0.1:{free.getsockname()[1]}"
    out, here = tmp_path / "out", ["--cluster", cluster.address]
    handle = os.open(pictures, os.O_DIRECTORY)
    os.dup2(handle, 999)  # a path that only this process has
    os.close(handle)
    cases = [
        (["/proc/self/fd/999", *here, "--embedder", "demo"], 4, r"on [\d.]+: expected the files under the same path"),
        ([pictures, *here], 2, "pictures need a model"),
        ([pictures, *here, "--gpus", "all"], 4, "expected a cluster with 1 cards or more, got 0"),
        ([pictures, *here, "--shards", "25"], 2, "expected 1 to 24 shards, as many as rows at most, got 25"),
        ([pictures, *here, "--shard", "1/2", "--codec-from", "x"], 2, "expected no --shard, no --fit-only"),
        ([pictures, "--shards", "2"], 2, "expected --shards and --gpus only with --cluster"),
        ([pictures, "--cluster", "nowhere"], 2, "expected HOST:PORT as"),
    ]
    for options, expected, says in cases:
        code, _, told = run("ingest", *options, "--out", out)
        told = told[told.find("Error: ") :]
        assert (code, told.count("\n")) == (expected, 1), told
        assert re.search(says, told), told
        assert not list(out.glob("*/manifest.json"))
    os.close(999)
    with monkeypatch.context() as other:
        other.setattr("ray.is_initialized", lambda: False)
        code, _, told = run("ingest", pictures, "--out", out, "--cluster", closed)
        assert code == 4
        assert f"expected a Ray cluster at {closed}, none answers" in told
        other.setattr("ray.__version__", "2.9.3")
        code, _, told = run("ingest", pictures, "--out", out, *here)
        assert code == 4
        assert "ingest --cluster: expected Ray 2.30 or newer, got 2.9.3" in told
