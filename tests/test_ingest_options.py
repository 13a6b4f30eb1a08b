"""The options of an ingest are checked before anything is read, and are one object from each door to the work."""

import dataclasses

import numpy as np
import pytest
from test_ingest import Pixels, same, vectors

from gpubranches import Catalog
from gpubranches.errors import UsageError
from gpubranches.ingestion import IngestOptions, append, build_catalog, ingest
from gpubranches.ingestion.inputs import KINDS


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("d", 0, "d: expected a whole number from 1, got 0"),
        ("d", "32", "d: expected a whole number from 1, got '32'"),
        ("batch_size", 0, "batch_size: expected a whole number from 1, got 0"),
        ("batch_size", 2.5, "batch_size: expected a whole number from 1, got 2.5"),
        ("batch_size", True, "batch_size: expected a whole number from 1, got True"),
        ("strict", "no", "strict: expected True or False, got 'no'"),
        ("keep_embeddings", None, "keep_embeddings: expected True or False, got None"),
        ("head", 3, "head: expected a text or None, got int"),
        ("quantizer", b"uniform", "quantizer: expected a text or None, got bytes"),
        ("quantizer", "even", "quantizer: expected one of uniform, quantile, got 'even'"),
        ("frames_at", "cuts", "frames_at: expected times or scenes, got 'cuts'"),
        ("frames_every", 0, "frames_every: expected seconds from 0.01 to 86,400, got 0"),
        ("frames_every", float("nan"), "frames_every: expected seconds from 0.01 to 86,400, got nan"),
        ("pictures", 3, "pictures: expected a path or None, got int"),
    ],
)
def test_a_value_that_is_none_is_refused_before_the_input_is_read(tmp_path, name, value, says):
    with pytest.raises(UsageError, match=f"^{says}$"):
        ingest(tmp_path / "nowhere", tmp_path / "c", **{name: value})


def test_a_name_that_is_no_option_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"options: expected some of embedder, head, .*, got 'embeder'"):
        ingest(tmp_path / "nowhere", tmp_path / "c", embeder="demo")


def test_numbers_of_numpy_are_numbers():
    options = IngestOptions(d=np.int64(16), batch_size=np.uint8(4))
    assert options.validate() is options


def test_an_object_and_names_say_the_same_and_names_go_before(tmp_path):
    np.save(tmp_path / "x.npy", vectors(300))
    ingest(tmp_path / "x.npy", tmp_path / "named", head="pca", d=8)
    build_catalog([tmp_path / "x.npy"], tmp_path / "object", IngestOptions(head="pca", d=8))
    ingest(tmp_path / "x.npy", tmp_path / "both", IngestOptions(head="pca", d=4), d=8)
    for name in ("object", "both"):
        same(Catalog.open(tmp_path / "named"), Catalog.open(tmp_path / name))


def test_the_command_line_passes_every_option(run, tmp_path, monkeypatch):
    passed = []
    monkeypatch.setattr(
        "gpubranches.ingestion.build_catalog", lambda inputs, out, options, progress: passed.append(options) or 1 / 0
    )
    flags = "--embedder demo --head pca --dims 8 --quantizer uniform --no-embeddings --strict --batch-size 5"
    flags += " --frames-every 2 --frames-at scenes --fit-only"
    for more in ([*flags.split(), "--pictures", tmp_path], ["--shard", "2/3", "--codec-from", tmp_path]):
        with pytest.raises(ZeroDivisionError):
            run("ingest", "x", "--out", tmp_path / "c", *more)
    one, other = passed
    assert one == IngestOptions(
        "demo", "pca", 8, "uniform", False, 2.0, str(tmp_path), True, 5, fit_only=True, frames_at="scenes"
    )
    assert other == IngestOptions(shard="2/3", codec_from=tmp_path)
    default = IngestOptions()
    for field in dataclasses.fields(default):
        assert any(getattr(options, field.name) != getattr(default, field.name) for options in passed)


@pytest.mark.parametrize(
    ("changed", "option"),
    [({"head": "pca"}, "--head"), ({"d": 8}, "--dims"), ({"keep_embeddings": False}, "--no-embeddings")],
)
def test_append_refuses_what_the_catalog_has_decided(tmp_path, changed, option):
    with pytest.raises(UsageError, match=f"append: expected none of --head, .*, got {option}$"):
        append(tmp_path / "c", [tmp_path / "x.npy"], IngestOptions(embedder=Pixels(), **changed))


def test_the_help_lists_every_kind_of_input(run):
    code, out, _ = run("ingest", "--help")
    assert code == 0
    assert len(KINDS) >= 6
    for kind in KINDS:
        assert f"{kind.title}: {kind.given}." in " ".join(out.split())
