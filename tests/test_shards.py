"""Shards of one input: each alone, restartable, and joined by merge into what one ingest would have made."""

import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
from contextlib import closing

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_ingest import Pixels, same, vectors, write_pictures

from gpubranches import Catalog
from gpubranches.catalog import ENCODED_ROWS, merging, storage
from gpubranches.errors import CatalogFormatError, ShardError, UsageError
from gpubranches.ingestion import append, build_catalog
from gpubranches.ingestion.shards import Shard
from gpubranches.service.labels import Labels
from gpubranches.service.merging import merge
from gpubranches.service.session_store import SessionStore
from gpubranches.service.soundness import problems


def shards(inputs, folder, of, **options):
    """Fit a codec to the inputs and make each shard alone, the last one first; return their folders in order."""
    if not any(str(path).endswith(".u8bin") or "codes" in str(path) for path in inputs):
        build_catalog(inputs, folder / "fitted", fit_only=True, **options)
        options = {"codec_from": folder / "fitted", **{k: v for k, v in options.items() if k == "embedder"}}
    parts = [folder / f"part-{number}" for number in range(1, of + 1)]
    for number in range(of, 0, -1):
        build_catalog(inputs, parts[number - 1], shard=f"{number}/{of}", **options)
    return parts


def write_clip(folder, parts):
    for number, part in enumerate(parts):
        for kind in ("img_emb", "metadata"):
            (folder / kind).mkdir(parents=True, exist_ok=True)
        np.save(folder / f"img_emb/img_emb_{number}.npy", part)
        table = {"caption": [f"{number} {row}" for row in range(len(part))], "year": list(range(len(part)))}
        pq.write_table(pa.table(table), folder / f"metadata/metadata_{number}.parquet")


@pytest.fixture
def input_of(tmp_path):
    """Write inputs of a kind; return their paths and the options that they need."""

    def write(kind):
        if kind == "pictures":
            write_pictures(tmp_path / "pictures", 23)
            (tmp_path / "pictures/1/00004.png").write_bytes(b"no picture")
            return [tmp_path / "pictures"], {"embedder": Pixels()}
        if kind == "tars":
            write_pictures(tmp_path / "loose", 23)
            names = sorted((tmp_path / "loose").rglob("*.png"))
            (tmp_path / "tars").mkdir()
            for number, own in enumerate((names[:15], names[15:])):
                with tarfile.open(tmp_path / f"tars/{number:05d}.tar", "w") as tar:
                    for name in own:
                        tar.add(name, name.name)
            return [tmp_path / "tars"], {"embedder": Pixels()}
        if kind == "codes":
            np.save(tmp_path / "codes.npy", np.random.default_rng(0).integers(0, 256, (500, 8)).astype(np.uint8))
            return [tmp_path / "codes.npy"], {}
        rows = vectors(700)
        rows[350] = np.nan
        write_clip(tmp_path / "clip", [rows[:150], rows[150:151], rows[151:]])
        if kind == "one":
            return [tmp_path / "clip"], {}
        np.save(tmp_path / "more.npy", vectors(90, seed=1))
        return [tmp_path / "more.npy", tmp_path / "clip"], {}

    return write


@pytest.mark.parametrize("of", [1, 2, 5])
@pytest.mark.parametrize("kind", ["one", "several", "codes", "pictures", "tars"])
def test_merged_shards_are_what_one_ingest_makes(input_of, tmp_path, kind, of):
    inputs, options = input_of(kind)
    parts = shards(inputs, tmp_path, of, **options)
    report = merge(tmp_path / "merged", parts)
    build_catalog(inputs, tmp_path / "whole", **options)
    merged, whole = Catalog.open(tmp_path / "merged"), Catalog.open(tmp_path / "whole")
    same(merged, whole)
    assert (report.n, report.parts, report.copied_bytes) == (whole.n, of, 0)
    assert merged.space == whole.space
    assert merged.source["roots"] == whole.source["roots"]
    assert problems(tmp_path / "merged") == []
    (record,), (expected,) = merged.source["inputs"], whole.source["inputs"]
    assert record == expected
    assert listed(merged, record["listing"]) == listed(whole, record["listing"])
    ids = [Catalog.open(part).sample_ids(1000, np.random.default_rng(0)) for part in parts]
    assert np.concatenate(ids).tolist() == whole.sample_ids(1000, np.random.default_rng(0)).tolist()


def listed(catalog, name):
    """Return the rows of a listing, without the digests, which files that several shards share do not have."""
    return catalog.listing(name).drop_columns(["digest"]).to_pylist()


def test_a_file_that_changes_between_shards_is_told(tmp_path, input_of):
    inputs, _ = input_of("one")
    build_catalog(inputs, tmp_path / "fitted", fit_only=True)
    again = {"codec_from": tmp_path / "fitted"}
    build_catalog(inputs, tmp_path / "one", shard="1/2", **again)
    table = next((inputs[0] / "metadata").glob("metadata_2.parquet"))
    os.utime(table, ns=(1, 1))
    build_catalog(inputs, tmp_path / "two", shard="2/2", **again)
    with pytest.raises(ShardError, match=r"two: expected .*img_emb_2.npy as the shard before had it"):
        merge(tmp_path / "merged", [tmp_path / "one", tmp_path / "two"])
    shutil.copytree(inputs[0], tmp_path / "copy")
    build_catalog([tmp_path / "copy"], tmp_path / "other", shard="2/2", **again)
    with pytest.raises(ShardError, match=r"expected a shard of .*clip, got one of .*copy"):
        merge(tmp_path / "merged", [tmp_path / "one", tmp_path / "other"])


@given(n=st.integers(1, 10**9), of=st.integers(1, 64))
def test_shards_cover_the_rows_once(n, of):
    spans = [Shard(number, of).rows(n) for number in range(1, of + 1)]
    assert [start for start, _ in spans] == [0, *(stop for _, stop in spans[:-1])]
    assert spans[-1][1] == n
    sizes = [stop - start for start, stop in spans]
    assert max(sizes) - min(sizes) <= (1 if n < of * ENCODED_ROWS else 2 * ENCODED_ROWS)
    assert n < of or min(sizes) > 0
    if n >= of * ENCODED_ROWS:
        assert all(start % ENCODED_ROWS == 0 for start, _ in spans)


@pytest.mark.parametrize("text", ["0/4", "5/4", "1", "a/b", "1/0", "-1/2", "1/2/3", ""])
def test_what_is_no_shard_is_refused(tmp_path, text):
    np.save(tmp_path / "x.npy", vectors(20))
    with pytest.raises(UsageError, match=r"shard: expected i/n with i from 1 to n, such as 2/4"):
        build_catalog([tmp_path / "x.npy"], tmp_path / "c", shard=text)
    assert not (tmp_path / "c").exists()


def test_options_that_do_not_fit_are_refused(tmp_path, input_of):
    codes, _ = input_of("codes")
    inputs, _ = input_of("one")
    build_catalog(inputs, tmp_path / "fitted", fit_only=True, d=8)
    build_catalog(codes, tmp_path / "plain")
    np.save(tmp_path / "narrow.npy", vectors(20, dims=8))
    cases = [
        (inputs, {"shard": "1/2"}, "--codec-from too"),
        (inputs, {"codec_from": tmp_path / "fitted", "d": 8}, "without --dims"),
        (inputs, {"codec_from": tmp_path / "fitted", "head": "pca", "quantizer": "uniform"}, "--head, --quantizer"),
        (inputs, {"codec_from": tmp_path / "plain"}, "a catalog with a head"),
        (inputs, {"codec_from": 3}, "codec_from: expected a path"),
        (inputs, {"fit_only": True, "shard": "1/2"}, "without --shard"),
        (inputs, {"fit_only": 1}, "fit_only: expected True or False"),
        (codes, {"fit_only": True}, "got codes, which are stored unchanged"),
        (codes, {"codec_from": tmp_path / "fitted", "shard": "1/2"}, "got codes"),
        ([tmp_path / "narrow.npy"], {"codec_from": tmp_path / "fitted"}, "of 48 dims as in .*, got 8"),
        (inputs, {"codec_from": tmp_path / "fitted", "shard": "1/999"}, "as many shards as rows, 700, got 999"),
    ]
    for paths, options, says in cases:
        with pytest.raises(UsageError, match=says):
            build_catalog(paths, tmp_path / "c", **options)
        assert not (tmp_path / "c").exists(), says
    with pytest.raises(UsageError, match="there is a catalog already"):
        build_catalog(inputs, tmp_path / "fitted", fit_only=True)


def test_a_codec_is_fitted_to_evenly_spaced_rows_of_all_inputs(tmp_path, input_of, monkeypatch):
    for module in ("gpubranches.catalog.catalog", "gpubranches.ingestion.shards"):
        monkeypatch.setattr(f"{module}.FIT_ROWS", 100)
    write_pictures(tmp_path / "pictures", 150)
    np.save(tmp_path / "x.npy", vectors(150))
    embedded = []

    class Watched(Pixels):
        def encode(self, prepared):
            embedded.extend(prepared)
            return super().encode(prepared)

    inputs = [tmp_path / "x.npy", tmp_path / "pictures"]
    build_catalog(inputs, tmp_path / "fitted", fit_only=True, embedder=Watched())
    assert len(embedded) == 50
    build_catalog(inputs, tmp_path / "whole", embedder=Pixels())
    fitted = Catalog.open(tmp_path / "fitted")
    assert fitted.space == Catalog.open(tmp_path / "whole").space
    assert (fitted.n, sorted(os.listdir(tmp_path / "fitted"))) == (
        0,
        ["constants.safetensors", "head.safetensors", "manifest.json"],
    )


def test_a_catalog_can_take_the_codec_of_any_other(tmp_path):
    np.save(tmp_path / "x.npy", vectors(300))
    np.save(tmp_path / "y.npy", vectors(200, seed=5))
    build_catalog([tmp_path / "x.npy"], tmp_path / "one", d=8)
    build_catalog([tmp_path / "y.npy"], tmp_path / "other", codec_from=tmp_path / "one")
    one, other = Catalog.open(tmp_path / "one"), Catalog.open(tmp_path / "other")
    assert one.space == other.space
    append(tmp_path / "one", [tmp_path / "y.npy"])
    assert np.array_equal(Catalog.open(tmp_path / "one").codes(np.arange(300, 500)), other.codes(np.arange(200)))
    with pytest.raises(UsageError, match=r"another .*--codec-from"):
        build_catalog([tmp_path / "y.npy"], tmp_path / "other", d=8)


def test_a_finished_shard_is_left_as_it_is(tmp_path, input_of):
    inputs, options = input_of("pictures")
    parts = shards(inputs, tmp_path, 2, **options)
    before = (parts[0] / "manifest.json").read_bytes()
    write_pictures(tmp_path / "mended", 5)
    shutil.copyfile(tmp_path / "mended/1/00004.png", tmp_path / "pictures/1/00004.png")
    again = {"codec_from": tmp_path / "fitted", "embedder": Pixels()}
    number = next(i for i, part in enumerate(parts) if Catalog.open(part).n_errors)
    report = build_catalog(inputs, parts[number], shard=f"{number + 1}/2", **again)
    assert report.added == 0
    assert "ingest into the merged catalog to add" in " ".join(report.notes)
    assert (parts[0] / "manifest.json").read_bytes() == before
    with pytest.raises(UsageError, match="is shard 2/2"):
        append(parts[1], [tmp_path / "mended"])
    with pytest.raises(UsageError, match="expected shard 2/3, it holds shard 2/2"):
        build_catalog(inputs, parts[1], shard="2/3", **again)
    merge(tmp_path / "merged", parts)
    assert build_catalog(inputs, tmp_path / "merged", **again).added == 1
    write_pictures(tmp_path / "new", 5, seed=9)
    append(tmp_path / "merged", [tmp_path / "new"], embedder=Pixels())
    assert problems(tmp_path / "merged") == []


SEGMENTED = """
import sys
from gpubranches.catalog import catalog
from gpubranches.ingestion import build_catalog
catalog.SEGMENT_ROWS = 40
build_catalog([sys.argv[1]], sys.argv[2], codec_from=sys.argv[3], shard="2/3")
"""


def test_a_shard_that_is_killed_is_resumed(tmp_path, input_of):
    """Killed at drawn times, it ends as if it had not been; benchmarks.crashes kills it at each call."""
    inputs, _ = input_of("one")
    parts = shards(inputs, tmp_path, 3)
    rng = np.random.default_rng()
    command = [sys.executable, "-c", SEGMENTED, inputs[0], tmp_path / "again", tmp_path / "fitted"]
    kills = 0
    for _ in range(4):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        try:
            process.wait(0.8 + 0.4 * rng.random())
            break
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            kills += 1
    subprocess.run(command, check=True)
    same(Catalog.open(tmp_path / "again"), Catalog.open(parts[1]))
    assert problems(tmp_path / "again") == []
    merge(tmp_path / "merged", [parts[2], tmp_path / "again", parts[0]])
    build_catalog(inputs, tmp_path / "whole")
    same(Catalog.open(tmp_path / "merged"), Catalog.open(tmp_path / "whole"))


# Merging


def part(path, ids, d=8, seed=0, deleted=()):
    """Make a catalog of codes with these ids."""
    from gpubranches.core.embedding_space import EmbeddingSpace

    ids = np.asarray(ids)
    catalog = Catalog.create(path, space=EmbeddingSpace(), d=d)
    rng = np.random.default_rng(seed)
    for own in np.array_split(ids, 2):
        items = pa.table({"name": [f"{path.name} {i}" for i in own.tolist()]})
        catalog.append(rng.integers(0, 256, (len(own), d)).astype(np.uint8), ids=own, items=items)
    catalog.delete(np.asarray(deleted, np.int64))
    return catalog


def test_parts_of_any_disjoint_ids_are_joined(tmp_path):
    """Also where the ids of a part lie between those of another, with deletions, whatever the order of the parts."""
    one = part(tmp_path / "one", [*range(100), *range(9000, 9100)], seed=1, deleted=[3, 9050])
    other = part(tmp_path / "other", [*range(200, 5200), *range(20_000, 25_000)], seed=2, deleted=[200, 20_001])
    for names in itertools.permutations(["one", "other"]):
        out = tmp_path / "-".join(names)
        merge(out, [tmp_path / name for name in names])
        merged = Catalog.open(out)
        assert (merged.n, merged.n_deleted, merged.next_id) == (one.n + other.n, 4, 25_000)
        for each in (one, other):
            ids = each.sample_ids(each.n, np.random.default_rng(0))
            assert np.array_equal(merged.codes(ids), each.codes(ids))
            assert merged.items(ids) == each.items(ids)
        assert not merged.alive([3, 9050, 200, 20_001, 150]).any()
        assert problems(out) == []
        merged.compact()
        assert problems(out) == []
    assert problems(tmp_path / "one") == problems(tmp_path / "other") == []


def test_files_are_linked_or_copied(tmp_path, monkeypatch):
    paths = [part(tmp_path / name, ids).path for name, ids in (("a", range(50)), ("b", range(50, 90)))]
    assert merge(tmp_path / "linked", paths).copied_bytes == 0
    name = Catalog.open(paths[0]).segments[0].folder / "codes.u8"
    assert any(os.path.samefile(name, each) for each in (tmp_path / "linked").rglob("codes.u8"))
    monkeypatch.setattr(storage, "link_file", lambda *_: False)
    monkeypatch.setattr(merging, "link_file", lambda *_: False)
    report = merge(tmp_path / "copied", paths)
    assert report.copied_bytes == Catalog.open(tmp_path / "copied").info()["bytes"] > 0
    same(Catalog.open(tmp_path / "copied"), Catalog.open(tmp_path / "linked"))
    content = bytearray(name.read_bytes())
    content[5] ^= 1
    name.write_bytes(content)
    with pytest.raises(CatalogFormatError, match=r"codes.u8: its content is damaged"):
        merge(tmp_path / "damaged", paths)
    assert not (tmp_path / "damaged").exists()


def test_sessions_and_marks_come_along(tmp_path):
    paths = [part(tmp_path / name, ids).path for name, ids in (("a", range(50)), ("b", range(50, 90)))]
    for path, session, item in ((paths[0], "a-session", 3), (paths[1], "b-session", 60)):
        with closing(SessionStore.open(path / "labels.sqlite")) as store:
            store.update(session, name=f"named {session}", seed=7)
        labels = Labels.open(path / "labels.sqlite", session)
        with closing(labels.database):
            labels.mark([item, item + 1], +1)
            labels.mark([item + 2], -1)
            labels.undo()
    assert merge(tmp_path / "merged", paths).sessions == 2
    with closing(SessionStore.open(tmp_path / "merged/labels.sqlite")) as store:
        found = {record.session: (record.name, record.settings["seed"], record.positive) for record in store.records()}
        assert found == {"a-session": ("named a-session", 7, 2), "b-session": ("named b-session", 7, 2)}
        assert Labels(store.database, "b-session").current() == {60: 1, 61: 1}
    shutil.copyfile(paths[0] / "labels.sqlite", paths[1] / "labels.sqlite")
    with pytest.raises(ShardError, match="sessions that no other part has"):
        merge(tmp_path / "twice", paths)
    assert not (tmp_path / "twice").exists()


def test_parts_that_do_not_form_a_catalog_are_refused(tmp_path, input_of, run):
    inputs, _ = input_of("one")
    parts = shards(inputs, tmp_path, 3)
    np.save(tmp_path / "short.npy", vectors(600))
    again = {"codec_from": tmp_path / "fitted"}
    build_catalog([tmp_path / "short.npy"], tmp_path / "short-3", shard="3/3", **again)
    build_catalog(inputs, tmp_path / "of-2", shard="2/2", **again)
    build_catalog(inputs, tmp_path / "pca", head="pca", d=32)
    build_catalog([tmp_path / "short.npy"], tmp_path / "free", **again)
    part(tmp_path / "codes", range(10_000, 10_050))
    shutil.copytree(parts[1], tmp_path / "stopped")
    manifest = (tmp_path / "stopped/manifest.json").read_bytes()
    assert b'"n": 233' in manifest
    from gpubranches.catalog.manifest import read_manifest, write_manifest

    changed = read_manifest(tmp_path / "stopped")
    write_manifest(tmp_path / "stopped", {**changed, "segments": [], "next_id": changed["source"]["inputs"][0]["base"]})
    cases = [
        ([parts[0], parts[2]], "expected 3 shards, got 2: 2/3 is missing"),
        ([parts[1]], "1/3, 3/3 are missing"),
        ([*parts, parts[1]], "expected each shard once"),
        ([parts[0], tmp_path / "of-2"], "expected one of 3 shards"),
        ([parts[0], tmp_path / "stopped", parts[2]], "expected 233 rows of shard 2/3, got 0; finish it"),
        ([parts[0], parts[1], tmp_path / "short-3"], "to begin at id 466, got 400; make all shards of the same input"),
        ([*parts, tmp_path / "free"], "expected ids that .* does not have, got 0 to 599 beside 0 to 232"),
        ([tmp_path / "free", tmp_path / "free"], "expected ids that"),
        ([*parts, tmp_path / "pca"], "got another head; make all parts by ingest --codec-from"),
        (
            [*parts, tmp_path / "codes"],
            "got another head, quantizer, means, d, D, n_bits",
        ),
        ([tmp_path / "pca", tmp_path / "nowhere"], "nowhere: expected a catalog"),
    ]
    for paths, says in cases:
        code, _, told = run("merge", tmp_path / "out", *paths)
        assert code == (3 if "nowhere" in says else 4), (says, told)
        told = told[told.index("Error: ") :]
        assert told.count("\n") == 1
        assert re.search(says, told), told
        assert not (tmp_path / "out").exists()
    assert [entry for entry in os.listdir(tmp_path) if entry.endswith(".partial")] == []
    for path in parts:
        assert problems(path) == []
    code, out, _ = run("ingest", *inputs, "--out", tmp_path / "again", "--fit-only")
    assert (code, "are fitted" in out) == (0, True)
    code, out, _ = run("merge", tmp_path / "out", *parts, "--json")
    assert (code, json.loads(out)["n"]) == (0, 699)
    assert run("merge", tmp_path / "out", *parts)[0] == 2
    assert run("merge", tmp_path / "out")[0] == 2
