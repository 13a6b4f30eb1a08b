"""The benchmark: the synthetic rows are the same everywhere, engines agree, and a run writes what it says."""

import json
from functools import partial

import numpy as np
import pytest
from cudasim import SimulatedDevice

from gpubranches.core.boxes import Box, Boxes
from gpubranches.encoders.quantizers import SignQuantizer
from gpubranches.engines.cpu.backend import CpuBackend
from gpubranches.engines.gpu import GpuBackend
from gpubranches.errors import BackendUnavailableError, UsageError
from gpubranches.learning.branches import feature_subsets
from gpubranches.research.speed.own_engines import refine
from gpubranches.research.speed.plots import draw
from gpubranches.research.speed.questions import ask, widened
from gpubranches.research.speed.run import Measure, Plan, line, run, table
from gpubranches.research.speed.synthetic import SyntheticCatalog, SyntheticResidence, write_stand_in
from gpubranches.research.speed.timing import timed, together


@pytest.fixture(scope="module")
def catalog(tmp_path_factory):
    path = tmp_path_factory.mktemp("stand-in") / "embeddings.f16"
    write_stand_in(path, 1 << 20, 128, 60)
    return SyntheticCatalog(60_000, D=128, clusters=60, stand_in=path)


def test_rows_on_the_device_are_those_on_the_host(catalog):
    asked = ask(catalog, users=3)
    with GpuBackend(catalog, SimulatedDevice, make_residence=SyntheticResidence) as gpu, CpuBackend(catalog) as cpu:
        for boxes in (asked.branch, *asked.ensembles):
            found, expected = gpu.apply(boxes, limit=500), cpu.apply(boxes, limit=500)
            assert (found.total, found.ids.tolist()) == (expected.total, expected.ids.tolist())
        for weights, tier in ((asked.direction, "bits"), (asked.weights, "codes")):
            found, expected = (backend.score(weights, tier=tier, limit=100) for backend in (gpu, cpu))
            assert found.ids.tolist() == expected.ids.tolist()
        near = [backend.search(asked.query, 50, tier="codes").ids.tolist() for backend in (gpu, cpu)]
        assert near[0] == near[1]


def test_the_marked_cluster_is_found_on_the_device(catalog):
    """The whole refine, with embeddings gathered from a file, equals the cpu backend's."""
    asked = ask(catalog, users=1)
    with GpuBackend(catalog, SimulatedDevice, make_residence=SyntheticResidence) as gpu, CpuBackend(catalog) as cpu:
        assert refine(gpu, catalog, asked) == refine(cpu, catalog, asked) > 100


def test_boxes_without_a_learner_have_the_shape_of_learnt_ones(catalog, monkeypatch):
    learnt = ask(catalog, users=8)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    drawn, again = ask(catalog, users=8), ask(catalog, users=8)
    assert (learnt.models, drawn.models) == ("learnt", "drawn around the marks")
    sizes = [np.diff(boxes.offsets) for boxes in drawn.ensembles]
    assert all(45 <= len(own) <= 75 for own in sizes)
    assert 4.5 < np.concatenate(sizes).mean() < 4.9
    codes = catalog.codes(np.arange(20_000))
    for own, boxes, same in zip(drawn.marks, drawn.ensembles, again.ensembles, strict=True):
        assert boxes.to_json() == same.to_json()
        assert set(boxes.estimator.tolist()) == set(range(25))
        majority = boxes.votes(catalog.codes(own.positives)) > 12
        assert majority.mean() > 0.8
        assert (boxes.votes(codes) > 12).mean() < 0.2
    assert len(drawn.branch) == 2
    assert drawn.branch.votes(codes).any()


def test_boxes_of_the_pool_can_be_indexed_without_a_learner_too(catalog, monkeypatch):
    learnt = ask(catalog, users=1)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    drawn, again = ask(catalog, users=1), ask(catalog, users=1)
    assert list(drawn.pooled) == list(learnt.pooled) == list(again.pooled)
    codes, pool = catalog.codes(np.arange(0, 60_000, 3)), feature_subsets(catalog.d)
    for what, boxes in drawn.pooled.items():
        assert boxes.to_json() == again.pooled[what].to_json()
        assert boxes.n_estimators == learnt.pooled[what].n_estimators
        assert all(tuple(box.features.tolist()) in pool for box in boxes)
        share = (boxes.votes(codes) > boxes.n_estimators // 2).mean()
        least, most = {"narrow": (0, 0.1), "medium": (0.005, 0.1), "wide": (0.08, 0.3)}[what.split(", ")[1]]
        assert least <= share <= most


def test_the_bits_are_the_signs_of_the_embeddings(catalog):
    rows = np.array([0, 5, 511, 512, 40_000])
    segment = catalog.segments[0]
    vectors = catalog.embeddings(rows)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-2)
    fitted = SignQuantizer()
    fitted.mean_, fitted.rotation_ = catalog.signs.mean_, catalog.signs.rotation_
    bits, scales = fitted.encode(vectors)
    assert np.array_equal(bits, segment.bits[rows])
    assert np.allclose(scales, segment.scales[rows], rtol=1e-3)


@pytest.mark.parametrize("D", [32, 64, 160])
def test_signs_of_any_whole_number_of_words_are_scored(D):
    small = SyntheticCatalog(8192, d=8, D=D, clusters=20)
    weights = np.random.default_rng(D).standard_normal(D).astype(np.float32)
    with GpuBackend(small, SimulatedDevice, make_residence=SyntheticResidence) as gpu, CpuBackend(small) as cpu:
        found, expected = (backend.score(weights, tier="bits", limit=50) for backend in (gpu, cpu))
    assert (found.ids.tolist(), found.scores.tolist()) == (expected.ids.tolist(), expected.scores.tolist())


@pytest.mark.parametrize(("d", "D"), [(7, 64), (0, 64), (1028, 64), (8, 48), (8, 0), (8, 2080)])
def test_dims_that_no_catalog_has_are_refused(d, D):
    with pytest.raises(UsageError, match=f"expected code dims .* got {d} and {D}"):
        SyntheticCatalog(4096, d=d, D=D)


def test_uniform_codes_are_uniform():
    codes = SyntheticCatalog(8192, d=8, clusters=0).codes(np.arange(8192))
    assert np.bincount(codes.reshape(-1), minlength=256).min() > 150


def test_a_run_writes_lines_a_table_and_plots(tmp_path):
    shown = []
    plan = Plan(
        ["cpu", "kdtree", "numpy", "sklearn-forest", "gpu"], [4096, 8192], D=64, clusters=8, budget_s=0, users=1
    )
    measures = run(plan, tmp_path, show=shown.append)
    lines = [json.loads(text) for text in (tmp_path / "bench.jsonl").read_text().splitlines()]
    assert len(lines) == len(measures) > 8
    assert {one["rows"] for one in lines} == {4096, 8192}
    assert {"commit", "date", "machine"} <= set(lines[0])
    assert lines[0]["models"] == "learnt"
    assert all(one.p50_ms <= one.p95_ms <= one.p99_ms for one in measures)
    assert table(measures).count("\n") == len(measures) + 2
    pictures = draw(measures, tmp_path)
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in pictures)
    assert len(pictures) == len({one.what.split(" (")[0] for one in measures})
    assert not (tmp_path / "kdtree").exists()


def test_engines_find_as_many_of_the_same_boxes(tmp_path):
    shown = []
    plan = Plan(["cpu", "kdtree", "numpy"], [20_000], D=64, clusters=40, budget_s=0, users=1)
    measures = run(plan, tmp_path, show=shown.append)
    pooled = {one.what for one in measures if "of the pool" in one.what}
    assert len(pooled) == 6
    for what in pooled:
        assert len({one.found for one in measures if one.what == what}) == 1
    assert any("bytes a row" in text for text in shown)
    stopped = [one for one in measures if "leaves)" in one.what]
    assert all(one.recall == 1 for one in stopped if "3,000" in one.what)


def test_widened_boxes_hold_the_share_asked_for():
    rng = np.random.default_rng(0)
    sample = rng.integers(0, 256, (5000, 8)).astype(np.uint8)
    box = Box(np.array([1, 3], np.int16), np.array([0, 250], np.uint8), np.array([9, 255], np.uint8))
    for share in (0, 0.01, 0.5, 1):
        wider = widened(Boxes([box]), sample, share)
        assert (wider.votes(sample) > 0).mean() >= share
        assert (wider.low <= box.low).all()
        assert (wider.high >= box.high).all()


def test_a_missing_engine_is_named(tmp_path, monkeypatch):
    def missing(self):
        raise BackendUnavailableError("there is none")

    monkeypatch.setattr("gpubranches.engines.gpu.cupy_device.CupyDevice._import", missing)
    shown = []
    assert run(Plan(["gpu"], [4096], D=64, clusters=4, users=1), tmp_path, show=shown.append) == []
    assert "left out" in shown[0]
    assert "there is none" in shown[0]


def test_times_have_percentiles_and_a_cold_call():
    calls = []
    times = timed(lambda: calls.append(1), budget_s=0)
    assert len(calls) == times.repeats + 1
    with pytest.raises(ZeroDivisionError):
        together([lambda: None, lambda: 1 / 0])()


def test_a_measure_is_one_line():
    one = Measure("gpu", 10, 4, "ensemble", 9.0, 2.0, 3.0, 4.0, 5, 1.0, 320, 1.0, 0.5)
    assert line(one).endswith("0.50 of the roofline, recall 0.50")


def test_the_command_refuses_what_it_does_not_know(tmp_path):
    from click.testing import CliRunner

    from gpubranches.research.commands.bench import bench

    runner = partial(CliRunner().invoke, bench)
    for options in (["--backends", "abacus"], ["--rows", "many"], ["--rows", "0"], ["--dims", "7"]):
        done = runner([*options, "--out", str(tmp_path)])
        assert done.exit_code != 0
        assert "expected" in str(done.exception)
