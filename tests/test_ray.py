"""The ray backend on two nodes in this machine: the contract of all backends, deaths, and what a cluster may lack."""

import os
import re
import signal
import socket
import sys
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("ray", reason="Ray is not installed")

import rays
from test_backends import (  # noqa: F401
    parts,
    test_a_missing_tier_is_refused,
    test_bit_scores_at_every_width,
    test_code_scores_are_exact,
    test_commits_are_seen_on_the_next_call,
    test_directions_are_found_by_cosine,
    test_embedding_scores_are_dots_of_centred_rows,
    test_items_in_boxes_are_told_as_a_bitmap,
    test_many_models_are_each_answered,
    test_more_estimators_than_a_byte_counts,
    test_nearest_codes_prune_nothing_that_belongs,
    test_scores_of_items_in_boxes_equal_those_of_all,
    test_scores_of_some_ids_equal_those_of_all,
    test_ties_are_broken_by_the_mixed_id,
    test_votes_of_boxes_of_no_dim_and_of_many,
    test_wrong_requests_are_refused,
)
from test_sharded import asked
from worlds import World

from gpubranches import Box, Boxes, Session
from gpubranches.engines.cpu.backend import CpuBackend
from gpubranches.engines.sharded import ray_shards
from gpubranches.engines.sharded.ray_cluster import Cluster
from gpubranches.engines.sharded.ray_shards import open_ray
from gpubranches.errors import BackendUnavailableError, CatalogFormatError, ShardError, UsageError

pytestmark = pytest.mark.filterwarnings("ignore")  # Ray's own
EVERYTHING = Boxes([Box(np.zeros(0, np.int16), *np.zeros((2, 0), np.uint8))])


@pytest.fixture(scope="module")
def world_of_parts(tmp_path_factory):
    return World(tmp_path_factory.mktemp("ray") / "c", [4097, 1, 300, 4096], seed=5)


@pytest.fixture(scope="module")
def cluster():
    with rays.cluster() as started:
        yield started


@pytest.fixture(scope="module", autouse=True)
def actors(cluster, world_of_parts):
    with rays.actors(world_of_parts.catalog, cluster.address):
        yield


@pytest.fixture
def name():
    return "ray"


@pytest.fixture
def backend(cluster, world_of_parts):
    """A backend with actors of its own, which a test may kill."""
    with open_ray(world_of_parts.catalog, Cluster(cluster.address, shards=2), engine="oracle") as opened:
        yield opened


def problem(told):
    """Return the message of an error, without what a command printed before."""
    return told[told.index("Error: ") :]


def kill(shard):
    os.kill(shard._process, signal.SIGKILL)


def test_answers_are_those_of_one_process(world_of_parts):
    with rays.over_actors(world_of_parts.catalog) as parted, CpuBackend(world_of_parts.catalog) as whole:
        for seed in range(5):
            assert asked(world_of_parts, parted, seed) == asked(world_of_parts, whole, seed)


def test_a_session_is_that_of_one_process(world_of_parts):
    """Search, marks and find all: the page, the API and the evaluation use nothing else."""
    found = []
    for opened in (rays.over_actors(world_of_parts.catalog), CpuBackend(world_of_parts.catalog)):
        with opened, Session(world_of_parts.catalog, opened, embedder=None, seed=1) as session:
            session.mark(world_of_parts.ids[:6], +1)
            session.mark(world_of_parts.ids[50:60], -1)
            hits, answer = session.search(int(world_of_parts.ids[0]), 20), session.find_all()
            found.append((hits.ids.tolist(), answer.current.ids.tolist(), answer.current.scores.tolist()))
    assert found[0] == found[1]


def test_actors_that_are_killed_give_no_wrong_answer(backend, world_of_parts):
    """One after the other is killed amid questions of several users."""
    with CpuBackend(world_of_parts.catalog) as whole:
        right = whole.apply(EVERYTHING)
        query = world_of_parts.codes[:1]
        near = whole.search(query, 50, tier="codes").ids.tolist()
    wrong, asked_, over = [], SimpleNamespace(count=0), threading.Event()

    def ask():
        while not over.is_set():
            found = backend.apply(EVERYTHING)
            if (found.ids.tolist(), found.total) != (right.ids.tolist(), right.total):
                wrong.append(found)
            if backend.search(query, 50, tier="codes").ids.tolist() != near:
                wrong.append("near")
            asked_.count += 1

    users = [threading.Thread(target=ask) for _ in range(3)]
    for user in users:
        user.start()
    for number in (0, 1):
        before = asked_.count
        while asked_.count < before + 6:
            time.sleep(0.01)
        kill(backend.shards[number])
        while not backend.shards[number].restarts:
            time.sleep(0.01)
    over.set()
    for user in users:
        user.join()
    assert wrong == []
    assert [state["restarts"] for state in backend.shard_states()] == [1, 1]
    assert backend.apply(EVERYTHING).total == right.total


def test_a_shard_that_stays_away_is_told(backend, monkeypatch):
    monkeypatch.setattr(ray_shards, "_ANSWER_S", 1.0)
    backend.shards[1].close()
    with pytest.raises(ShardError, match=r"shard 2/2 on [\d.]+: expected an answer, .*; try again"):
        backend.apply(EVERYTHING)


def test_an_error_of_a_shard_is_as_in_one_process(cluster, tmp_path):
    world = World(tmp_path / "c", [300, 300], deleted=0)
    with open_ray(world.catalog, Cluster(cluster.address, shards=2), engine="oracle") as backend:
        path = world.catalog.segments[1].folder / "embeddings.f16"
        content = bytearray(path.read_bytes())
        content[99] ^= 1
        path.write_bytes(content)
        with pytest.raises(CatalogFormatError, match=r"embeddings.f16: damaged"):
            backend.score(np.ones(48, np.float32), tier="embeddings")
        assert backend.apply(EVERYTHING).total == 600


def test_a_node_without_the_files_is_told(cluster, tmp_path, monkeypatch):
    world = World(tmp_path / "c", [300, 300])
    real = ray_shards.ShardState.of

    def elsewhere(snapshot, segments):
        from dataclasses import replace

        return replace(real(snapshot, segments), path=tmp_path / "elsewhere")

    monkeypatch.setattr(ray_shards.ShardState, "of", elsewhere)
    with pytest.raises(ShardError, match=r"shard 1/2 on [\d.]+: expected the files of .*elsewhere under the same path"):
        open_ray(world.catalog, Cluster(cluster.address, shards=2), engine="oracle")


def test_what_a_cluster_lacks_is_told_in_one_sentence(cluster, world_of_parts, run, monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        closed = f"127.0.0.1:{free.getsockname()[1]}"
    folder = str(world_of_parts.catalog.path)
    monkeypatch.setattr(ray_shards, "_PLACE_S", 2.0)
    no_cluster = ["--cluster", closed]
    here = ["--cluster", cluster.address]
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    cases = [
        (no_cluster, 4, "expected a Ray cluster at 127.0.0.1:.*, none answers: .*; start one by `ray start --head`"),
        (["--cluster", "nowhere"], 2, "expected HOST:PORT as `ray start --head` prints it, got 'nowhere'"),
        ([*here, "--gpus", "none"], 2, "gpus: expected a number of cards or all, got 'none'"),
        ([*here, "--gpus", "1", "--shards", "2"], 2, "shards: expected a number from 1, and no gpus"),
    ]
    for options, expected, says in cases:
        code, _, told = run("serve", folder, "--backend", "ray", *options)
        assert (code, problem(told).count("\n")) == (expected, 1), told
        assert re.search(says, told), told
    monkeypatch.undo()
    code, _, told = run("serve", folder, "--backend", "ray", *here, "--gpus", "all")
    assert (code, problem(told)) == (4, "Error: gpus: expected a cluster with 1 cards or more, got 0\n")
    code, _, told = run("serve", folder, "--cluster", "h:1")
    assert (code, problem(told)) == (2, "Error: --cluster: expected --backend ray with it, got --backend auto\n")
    code, _, told = run("serve", folder, folder, "--backend", "ray")
    assert code == 2
    assert "expected one catalog, got 2; join them by `gpubranches merge OUT " in told


def test_a_cluster_without_room_is_told(cluster, world_of_parts, monkeypatch):
    monkeypatch.setattr(ray_shards, "_PLACE_S", 1.0)
    monkeypatch.setattr(ray_shards, "room", lambda nodes, wanted: (2, {"num_cpus": 50, "num_gpus": 0}))
    with pytest.raises(ShardError, match=r"expected room for 2 shards of 50 CPUs .*, 0 have started"):
        open_ray(world_of_parts.catalog, Cluster(cluster.address))


def test_another_version_is_told(world_of_parts, monkeypatch):
    monkeypatch.setattr("ray.__version__", "2.9.3")
    with pytest.raises(ShardError, match=r"expected Ray 2.30 or newer, got 2.9.3; upgrade it on all nodes"):
        open_ray(world_of_parts.catalog, Cluster())
    monkeypatch.undo()
    monkeypatch.setattr("ray.is_initialized", lambda: False)

    def refuse(**options):
        raise RuntimeError("Version mismatch: The cluster was started with:\n    Ray: 2.1\n    Python: 3.9")

    monkeypatch.setattr("ray.init", refuse)
    with pytest.raises(ShardError, match=r"expected to join a cluster in this machine: Version mismatch.*Ray: 2.1"):
        open_ray(world_of_parts.catalog, Cluster())


def test_a_missing_ray_is_told(world_of_parts, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(BackendUnavailableError, match=r"backend ray needs ray .*gpubranches\[cluster\]"):
        open_ray(world_of_parts.catalog, Cluster())


@pytest.mark.parametrize("options", [{"gpus": 0}, {"gpus": "two"}, {"shards": 0}, {"address": "http://x"}])
def test_a_cluster_that_is_none_is_refused(options):
    with pytest.raises(UsageError):
        Cluster(**options)


@pytest.mark.parametrize(
    ("nodes", "cluster_", "expected"),
    [
        ([{"CPU": 8}, {"CPU": 16}], Cluster(), (2, 8)),
        ([{"CPU": 8}, {"CPU": 8}], Cluster(shards=3), (3, 4)),
        ([{"CPU": 1}], Cluster(shards=4), (4, 1)),
        ([{"CPU": 8, "GPU": 2}, {"CPU": 4, "GPU": 1}], Cluster(gpus="all"), (3, 1)),
        ([{"CPU": 8, "GPU": 2}], Cluster(gpus=1), (1, 1)),
    ],
)
def test_shards_fit_into_the_nodes(nodes, cluster_, expected):
    count, needs = rays.real_room(nodes, cluster_)
    assert (count, needs["num_cpus"]) == expected
    assert needs["num_gpus"] == (cluster_.gpus is not None)


def test_the_server_shows_its_shards(world_of_parts):
    from gpubranches.app import create_app

    with rays.over_actors(world_of_parts.catalog) as backend:
        app = create_app(world_of_parts.catalog, backend)
        try:
            client = app.test_client()
            client.get("/readyz")
            shards = client.get("/healthz").json["shards"]
            assert [shard["rows"] for shard in shards] == [segment_rows for segment_rows in (4397, 4097)] or len(
                shards
            ) == 2
            metrics = client.get("/metrics").text
            assert 'gpubranches_shard_rows{shard="2"}' in metrics
            assert 'gpubranches_shard_answer_seconds{shard="1"}' in metrics
        finally:
            app.extensions["gpubranches"].service.close()
