"""What ingest and append take for the same input; what they do with what is new, changed, repaired, gone, copied."""

import os
import shutil
import signal
from contextlib import suppress

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from drawn import EVERY, some
from forking import forked
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from test_ingest import Pixels, same, vectors

from gpubranches import Catalog
from gpubranches.catalog import catalog as catalog_module
from gpubranches.catalog.pictures.image_files import image_file
from gpubranches.core.files import escaped_path
from gpubranches.errors import CatalogFormatError, DataError, SpaceMismatchError, UsageError
from gpubranches.ingestion import append, build_catalog, ingest, relocate, staging


class Counting(Pixels):
    """Counts the pictures that it embeds."""

    def __init__(self):
        self.embedded = 0

    def encode(self, prepared):
        self.embedded += len(prepared)
        return super().encode(prepared)


def draw(path, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (6, 6, 3)).astype(np.uint8)).save(path)


def draw_all(folder, names, seed=0):
    for number, name in enumerate(names):
        draw(folder / name, 1000 * seed + number)
    return folder


def write_partition(folder, number, n, seed=0, caption="row"):
    for name in ("img_emb", "metadata"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    np.save(folder / f"img_emb/img_emb_{number}.npy", vectors(n, seed=seed))
    table = pa.table({"caption": [f"{caption} {number} {row}" for row in range(n)]})
    pq.write_table(table, folder / f"metadata/metadata_{number}.parquet")


def shown(catalog):
    """Return the pictures of all live items by their paths, and assert that each shows what was embedded."""
    ids = catalog.sample_ids(catalog.n, np.random.default_rng(0))
    paths = [image_file(catalog.source, item) for item in catalog.items(ids)]
    for path, embedding in zip(paths, catalog.embeddings(ids), strict=True):
        (now,) = Pixels().encode([Pixels().preprocess(Image.open(path).convert("RGB"))])
        assert now @ embedding > 0.999, path
    return sorted(map(str, paths))


def test_another_folder_of_as_many_pictures_is_refused_before_it_is_embedded(tmp_path):
    one = draw_all(tmp_path / "one", [f"{i}.png" for i in range(8)], 1)
    other = draw_all(tmp_path / "other", [f"{i}.png" for i in range(8)], 2)
    ingest([one], tmp_path / "c", embedder=Pixels())
    counting = Counting()
    with pytest.raises(UsageError, match=r"other input, of .*one.*gpubranches append .*other`"):
        ingest([other], tmp_path / "c", embedder=counting)
    assert counting.embedded == 0
    assert shown(Catalog.open(tmp_path / "c")) == sorted(str(one / f"{i}.png") for i in range(8))
    assert not (tmp_path / "c/staging").exists()


@pytest.mark.parametrize("stopped_at", ["embedding", "encoding"])
def test_after_a_stopped_ingest_another_folder_gets_none_of_its_embeddings(tmp_path, monkeypatch, stopped_at):
    monkeypatch.setattr(staging, "PARTITION", 4)
    one = draw_all(tmp_path / "one", [f"{i}.png" for i in range(10)], 1)
    other = draw_all(tmp_path / "other", [f"{i}.png" for i in range(10)], 2)

    def stop(stage, done, total):
        if (stage, done) == (stopped_at, 8 if stopped_at == "embedding" else 0):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ingest([one], tmp_path / "c", embedder=Pixels(), batch_size=4, progress=stop)
    ingest([other], tmp_path / "c", embedder=Pixels())
    assert shown(Catalog.open(tmp_path / "c")) == sorted(str(other / f"{i}.png") for i in range(10))
    counting = Counting()
    append(tmp_path / "c", [one], embedder=counting)
    assert counting.embedded <= 6
    assert len(shown(Catalog.open(tmp_path / "c"))) == 20
    assert not (tmp_path / "c/staging").exists()


def test_after_a_stopped_append_another_folder_can_be_appended_and_then_the_rest(tmp_path, monkeypatch):
    monkeypatch.setattr("gpubranches.catalog.catalog.SEGMENT_ROWS", 4)
    folders = [draw_all(tmp_path / name, [f"{i}.png" for i in range(10)], seed) for seed, name in enumerate("abc")]
    ingest([folders[0]], tmp_path / "c", embedder=Pixels())

    def stop(stage, done, total):
        if (stage, done) == ("encoding", 8):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        append(tmp_path / "c", [folders[1]], embedder=Pixels(), progress=stop)
    assert append(tmp_path / "c", [folders[2]], embedder=Pixels()).added == 10
    with pytest.raises(UsageError, match="4 of 10 pictures are already in the catalog, 6 pictures are new"):
        append(tmp_path / "c", [folders[1]], embedder=Pixels())
    counting = Counting()
    assert append(tmp_path / "c", [folders[1]], embedder=counting, new=True).added == 6
    assert counting.embedded == 0
    assert len(set(shown(Catalog.open(tmp_path / "c")))) == 30


@pytest.mark.parametrize("kind", ["array", "partitions"])
def test_the_rest_of_embeddings_whose_append_was_stopped_is_taken_when_asked(tmp_path, monkeypatch, kind):
    monkeypatch.setattr("gpubranches.catalog.catalog.SEGMENT_ROWS", 20)
    np.save(tmp_path / "x.npy", vectors(30))
    np.save(tmp_path / "y.npy", vectors(25, seed=1))
    source, expected = tmp_path / "z.npy", np.concatenate([vectors(30, seed=seed) for seed in (2, 3)])
    np.save(source, expected)
    if kind == "partitions":
        source = tmp_path / "z"
        for number in range(2):
            write_partition(source, number, 30, number + 2)
    ingest([tmp_path / "x.npy"], tmp_path / "c")

    def stop(stage, done, total):
        if (stage, done) == ("encoding", 60):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        append(tmp_path / "c", [source], progress=stop)
    append(tmp_path / "c", [tmp_path / "y.npy"])
    assert append(tmp_path / "c", [source], new=True).added == 20
    catalog = Catalog.open(tmp_path / "c")
    unit = expected / np.linalg.norm(expected, axis=1, keepdims=True)
    ids = [*range(30, 70), *range(95, 115)]
    assert np.allclose(catalog.embeddings(ids), unit, atol=1e-3)
    if kind == "partitions":
        captions = [f"row {number} {row}" for number in range(2) for row in range(30)]
        assert [item["caption"] for item in catalog.items(ids)] == captions
    assert append(tmp_path / "c", [source], new=True).added == 0


def test_the_rest_of_a_stopped_append_leaves_its_errors(tmp_path, monkeypatch):
    monkeypatch.setattr("gpubranches.catalog.catalog.SEGMENT_ROWS", 20)
    rows = vectors(30)
    rows[3] = 0
    for name, array in (("x", vectors(30, seed=1)), ("y", vectors(5, seed=2)), ("z", rows)):
        np.save(tmp_path / f"{name}.npy", array)
    ingest([tmp_path / "x.npy"], tmp_path / "c")

    def stop(stage, done, total):
        if (stage, done) == ("encoding", 30):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        append(tmp_path / "c", [tmp_path / "z.npy"], progress=stop)
    append(tmp_path / "c", [tmp_path / "y.npy"])
    report = append(tmp_path / "c", [tmp_path / "z.npy"], new=True)
    assert (report.n, report.added, [error["id"] for error in Catalog.open(tmp_path / "c").errors()]) == (64, 10, [33])


@pytest.mark.parametrize("call", ["fsync", "replace"])
@pytest.mark.parametrize("which", [0, 1, 2, 3])
def test_a_disk_that_fails_ends_in_a_sentence_and_the_next_run_goes_on(tmp_path, monkeypatch, call, which):
    folder = draw_all(tmp_path / "in", [f"{i}.png" for i in range(4)])
    place = os if call == "fsync" else type(tmp_path)
    real, calls = getattr(place, call), []

    def failing(*args):
        calls.append(args)
        if len(calls) == which + 1:
            raise OSError(28, "No space left on device")
        return real(*args)

    with monkeypatch.context() as patched, pytest.raises(DataError, match=r"cannot write: No space left on device"):
        patched.setattr(place, call, failing)
        ingest([folder], tmp_path / "c", embedder=Pixels())
    ingest([folder], tmp_path / "c", embedder=Pixels())
    assert shown(Catalog.open(tmp_path / "c")) == sorted(map(str, folder.iterdir()))


def rewrite_array(path):
    np.save(path, vectors(50, seed=9))


def keep_the_times(path):
    """Write other content of the same size and give the file its times back."""
    stat = path.stat()
    np.save(path, vectors(50, seed=9))
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


@pytest.mark.parametrize("change", [rewrite_array, keep_the_times])
def test_embeddings_made_anew_under_one_name_are_other_input(tmp_path, change):
    np.save(tmp_path / "x.npy", vectors(50))
    ingest([tmp_path / "x.npy"], tmp_path / "c")
    change(tmp_path / "x.npy")
    with pytest.raises(UsageError, match=r"1 file has changed since \(x.npy; ids 0 to 49\)"):
        ingest([tmp_path / "x.npy"], tmp_path / "c")
    with pytest.raises(UsageError, match="1 file has changed since"):
        append(tmp_path / "c", [tmp_path / "x.npy"])
    assert append(tmp_path / "c", [tmp_path / "x.npy"], new=True).added == 0
    Catalog.open(tmp_path / "c").delete(range(50))
    assert append(tmp_path / "c", [tmp_path / "x.npy"], new=True).added == 50


def test_metadata_made_anew_are_other_input_and_so_are_those_that_come_or_go(tmp_path):
    for number in range(3):
        write_partition(tmp_path / "in", number, 20, number)
    ingest([tmp_path / "in"], tmp_path / "c")
    table = tmp_path / "in/metadata/metadata_1.parquet"
    before = table.read_bytes()
    pq.write_table(pa.table({"caption": ["corrected"] * 20}), table)
    with pytest.raises(UsageError, match=r"1 file has changed since \(metadata_1.parquet; ids 20 to 39\)"):
        ingest([tmp_path / "in"], tmp_path / "c")
    table.unlink()
    with pytest.raises(UsageError, match="1 file has changed since"):
        ingest([tmp_path / "in"], tmp_path / "c")
    table.write_bytes(before)
    assert build_catalog([tmp_path / "in"], tmp_path / "c").added == 0


def test_files_that_were_touched_or_copied_back_are_the_same(tmp_path):
    folder = draw_all(tmp_path / "in", [f"{i}.png" for i in range(5)])
    write_partition(tmp_path / "rows", 0, 20)
    ingest([folder, tmp_path / "rows"], tmp_path / "c", embedder=Pixels())
    for path in [*folder.iterdir(), *(tmp_path / "rows").rglob("*.*")]:
        content = path.read_bytes()
        path.unlink()
        path.write_bytes(content)
    counting = Counting()
    assert build_catalog([folder, tmp_path / "rows"], tmp_path / "c", embedder=counting).added == 0
    assert counting.embedded == 0


def test_a_repaired_picture_is_taken_in_by_the_same_command(tmp_path):
    folder = draw_all(tmp_path / "in", [f"{i}.png" for i in range(6)])
    whole = (folder / "3.png").read_bytes()
    (folder / "3.png").write_bytes(whole[:50])
    (folder / "4.png").write_bytes(b"")
    with pytest.raises(DataError, match="2 inputs could not be read"):
        ingest([folder], tmp_path / "c", embedder=Pixels(), strict=True)
    assert build_catalog([folder], tmp_path / "c", embedder=Pixels()).added == 0
    draw(folder / "3.png", 3)
    report = build_catalog([folder], tmp_path / "c", embedder=Pixels())
    assert (report.n, report.added, report.errors) == (5, 1, 1)
    draw(folder / "4.png", 4)
    assert append(tmp_path / "c", [folder], embedder=Pixels(), new=True, strict=True).n == 6
    catalog = Catalog.open(tmp_path / "c")
    assert shown(catalog) == sorted(map(str, folder.iterdir()))
    assert catalog.errors() == []
    catalog.compact()
    assert (catalog.errors(), catalog.n_errors, catalog.verify()) == ([], 0, [])
    assert build_catalog([folder], tmp_path / "c", embedder=Pixels()).added == 0


def test_a_picture_that_could_not_be_opened_is_looked_at_again(tmp_path, monkeypatch):
    folder = draw_all(tmp_path / "in", ["0.png", "1.png"])
    real = open

    def failing(path, *args, **keywords):
        if str(path).endswith("1.png"):
            raise OSError(5, "Input/output error")
        return real(path, *args, **keywords)

    with monkeypatch.context() as patched:
        patched.setattr("builtins.open", failing)
        report = build_catalog([folder], tmp_path / "c", embedder=Pixels())
    assert report.errors == 1
    assert "Input/output error" in Catalog.open(tmp_path / "c").errors()[0]["reason"]
    report = build_catalog([folder], tmp_path / "c", embedder=Pixels())
    assert (report.n, report.errors) == (2, 0)


def test_new_pictures_of_a_folder_are_taken_when_asked_and_named(tmp_path):
    folder = draw_all(tmp_path / "in", [f"{i}.png" for i in range(5)])
    ingest([folder], tmp_path / "c", embedder=Pixels())
    shutil.copy(folder / "4.png", folder / "new1.png")
    draw(folder / "sub/new2.png", 7)
    draw(folder / "0.png", 8)
    with pytest.raises(UsageError, match=r"2 pictures are not in it \(new1.png, sub/new2.png\).*--new`"):
        ingest([folder], tmp_path / "c", embedder=Pixels())
    with pytest.raises(
        UsageError, match=r"5 of 7 pictures are already in.*new1.png.*1 picture has changed.*pass --new"
    ):
        append(tmp_path / "c", [folder], embedder=Pixels())
    counting = Counting()
    report = append(tmp_path / "c", [folder], embedder=counting, new=True)
    assert (report.n, report.added, counting.embedded) == (7, 2, 2)
    assert any("2 pictures are new: new1.png, sub/new2.png" in note for note in report.notes)
    assert any("1 picture has changed since (0.png; ids 0)" in note for note in report.notes)
    report = append(tmp_path / "c", [folder], embedder=counting, new=True)
    assert (report.added, counting.embedded) == (0, 2)
    Catalog.open(tmp_path / "c").delete([0])
    assert append(tmp_path / "c", [folder], embedder=Pixels(), new=True).added == 1
    assert shown(Catalog.open(tmp_path / "c")) == sorted(str(path) for path in folder.rglob("*.png"))


def test_deleted_items_are_not_taken_in_again(tmp_path):
    folder = draw_all(tmp_path / "in", [f"{i}.png" for i in range(5)])
    ingest([folder], tmp_path / "c", embedder=Pixels())
    Catalog.open(tmp_path / "c").delete([2])
    draw(folder / "9.png", 9)
    assert append(tmp_path / "c", [folder], embedder=Pixels(), new=True).added == 1
    (folder / "2.png").unlink()
    (folder / "9.png").unlink()
    with pytest.raises(UsageError, match="nothing was added"):
        append(tmp_path / "c", [folder], embedder=Pixels())
    assert build_catalog([folder], tmp_path / "c", embedder=Pixels()).added == 0
    (folder / "1.png").unlink()
    with pytest.raises(UsageError, match=r"1 is in it and not in the input \(1.png\)"):
        ingest([folder], tmp_path / "c", embedder=Pixels())


def test_what_was_deleted_to_the_last_item_can_be_appended_again(tmp_path):
    folder = draw_all(tmp_path / "in", [f"{i}.png" for i in range(4)])
    (folder / "3.png").write_bytes(b"broken")
    ingest([folder], tmp_path / "c", embedder=Pixels())
    Catalog.open(tmp_path / "c").delete([0, 1, 2])
    with pytest.raises(UsageError, match="already in the catalog"):
        append(tmp_path / "c", [folder], embedder=Pixels())
    draw(folder / "3.png", 3)
    assert append(tmp_path / "c", [folder], embedder=Pixels(), new=True).added == 1
    Catalog.open(tmp_path / "c").delete([4])
    assert append(tmp_path / "c", [folder], embedder=Pixels(), new=True).added == 0
    report = append(tmp_path / "c", [folder], embedder=Pixels())
    assert (report.added, report.errors) == (4, 0)
    assert len(shown(Catalog.open(tmp_path / "c"))) == 4


def test_a_catalog_of_which_is_not_recorded_what_was_ingested_is_appended_to(tmp_path):
    """Such as one of an older version."""
    np.save(tmp_path / "first.npy", vectors(50))
    np.save(tmp_path / "x.npy", vectors(20, seed=1))
    ingest([tmp_path / "first.npy"], tmp_path / "c")
    Catalog.open(tmp_path / "c").set_source({"fingerprint": "x", "appends": [{"fingerprint": "y"}]})
    Catalog.open(tmp_path / "c").compact()
    assert not (tmp_path / "c/inputs-0.parquet").exists()
    with pytest.raises(UsageError, match="without a record of its inputs"):
        ingest([tmp_path / "x.npy"], tmp_path / "c")
    assert append(tmp_path / "c", [tmp_path / "x.npy"]).added == 20
    with pytest.raises(UsageError, match="already in the catalog"):
        append(tmp_path / "c", [tmp_path / "x.npy"])
    assert Catalog.open(tmp_path / "c").verify() == []


def test_new_partitions_are_taken_when_asked(tmp_path):
    for number in range(2):
        write_partition(tmp_path / "in", number, 20, number)
    ingest([tmp_path / "in"], tmp_path / "c")
    write_partition(tmp_path / "in", 2, 15, 2)
    with pytest.raises(UsageError, match=r"img_emb_2\.npy"):
        ingest([tmp_path / "in"], tmp_path / "c")
    assert append(tmp_path / "c", [tmp_path / "in"], new=True).added == 15
    catalog = Catalog.open(tmp_path / "c")
    assert [item["caption"] for item in catalog.items([39, 40, 54])] == ["row 1 19", "row 2 0", "row 2 14"]
    with pytest.raises(UsageError, match="nothing was added"):
        append(tmp_path / "c", [tmp_path / "in/img_emb/img_emb_0.npy"])


def test_the_same_input_under_other_names_is_known(tmp_path):
    """As a copy, through a link, as a part of it, as what it is a part of, and twice in one command."""
    folder = draw_all(tmp_path / "in", ["a.png", "sub/b.png", "sub/c.png"])
    np.save(tmp_path / "x.npy", vectors(30))
    shutil.copy(tmp_path / "x.npy", tmp_path / "y.npy")
    shutil.copytree(folder, tmp_path / "copy")
    (tmp_path / "link").symlink_to(folder)
    ingest([folder, tmp_path / "x.npy"], tmp_path / "c", embedder=Pixels())
    for name in ("in", "link", "in/sub", "copy", "y.npy", "x.npy"):
        with pytest.raises(UsageError, match="already in the catalog"):
            append(tmp_path / "c", [tmp_path / name], embedder=Pixels())
        assert append(tmp_path / "c", [tmp_path / name], embedder=Pixels(), new=True).added == 0
    draw(tmp_path / "d.png", 5)
    draw(tmp_path / "copy/e.png", 6)
    with pytest.raises(UsageError, match="expected each file once"):
        append(tmp_path / "c", [tmp_path / "in", tmp_path / "in/sub"], embedder=Pixels(), new=True)
    with pytest.raises(UsageError, match="expected each file once"):
        ingest([tmp_path / "x.npy", tmp_path / "x.npy"], tmp_path / "other")


def test_a_moved_folder_is_told_from_another_and_the_catalog_can_be_told(tmp_path):
    folder = draw_all(tmp_path / "from", [f"{i}.png" for i in range(4)])
    ingest([folder], tmp_path / "c", embedder=Pixels())
    folder.rename(tmp_path / "to")
    catalog = Catalog.open(tmp_path / "c")
    assert image_file(catalog.source, catalog.items([0])[0]) is None
    with pytest.raises(UsageError, match=r"if it was moved, run `gpubranches relocate"):
        ingest([tmp_path / "to"], tmp_path / "c", embedder=Pixels())
    with pytest.raises(UsageError, match="found none"):
        relocate(tmp_path / "c", folder, tmp_path / "c")
    with pytest.raises(UsageError, match="expected the folder"):
        relocate(tmp_path / "c", folder, tmp_path / "nowhere")
    report = relocate(tmp_path / "c", folder, tmp_path / "to")
    assert (report.looked_at, report.before, report.there) == (4, 0, 4)
    catalog.refresh()
    assert shown(catalog) == sorted(map(str, (tmp_path / "to").iterdir()))
    assert build_catalog([tmp_path / "to"], tmp_path / "c", embedder=Pixels()).added == 0
    draw(tmp_path / "to/new.png", 9)
    assert append(tmp_path / "c", [tmp_path / "to"], embedder=Pixels(), new=True).added == 1
    draw_all(folder, ["0.png"], 5)
    with pytest.raises(UsageError, match="before they moved"):
        append(tmp_path / "c", [folder], embedder=Pixels())
    shutil.rmtree(folder)
    (tmp_path / "to").rename(folder)
    relocate(tmp_path / "c", tmp_path / "to", folder)
    catalog.refresh()
    assert len(shown(catalog)) == 5
    assert append(tmp_path / "c", [folder], embedder=Pixels(), new=True).added == 0


def test_a_folder_that_moved_into_itself_is_known(tmp_path):
    folder = draw_all(tmp_path / "photos", [f"{i}.png" for i in range(4)])
    ingest([folder], tmp_path / "c", embedder=Pixels())
    folder.rename(tmp_path / "aside")
    folder.mkdir()
    inner = (tmp_path / "aside").rename(folder / "2023")
    relocate(tmp_path / "c", folder, inner)
    for name, added in (("new.png", 1), ("newer.png", 1)):
        draw(inner / name, len(name))
        assert append(tmp_path / "c", [inner], embedder=Pixels(), new=True).added == added
    assert shown(Catalog.open(tmp_path / "c")) == sorted(map(str, inner.iterdir()))


def test_a_picture_that_was_unreadable_when_a_run_was_stopped_is_read_when_it_goes_on(tmp_path, monkeypatch):
    folder = draw_all(tmp_path / "in", ["0.png", "1.png"])
    monkeypatch.setattr("gpubranches.catalog.catalog.SEGMENT_ROWS", 1)
    real = open

    def failing(path, *args, **keywords):
        if str(path).endswith("1.png"):
            raise OSError(5, "Input/output error")
        return real(path, *args, **keywords)

    def stop(stage, done, total):
        if (stage, done) == ("encoding", 2):
            raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr("builtins.open", failing)
        ingest([folder], tmp_path / "c", embedder=Pixels(), progress=stop)
    assert build_catalog([folder], tmp_path / "c", embedder=Pixels()).errors == 0
    assert build_catalog([folder], tmp_path / "c", embedder=Pixels()).added == 0
    assert shown(Catalog.open(tmp_path / "c")) == sorted(map(str, folder.iterdir()))
    assert Catalog.open(tmp_path / "c").verify() == []


def test_other_options_are_not_taken_for_the_same_catalog(tmp_path):
    np.save(tmp_path / "x.npy", vectors(50))
    ingest([tmp_path / "x.npy"], tmp_path / "c")
    for options, named in (({"d": 16}, "--dims"), ({"head": "pca"}, "--head"), ({"quantizer": "quantile"}, "--quan")):
        with pytest.raises(UsageError, match=f"made with another {named}"):
            ingest([tmp_path / "x.npy"], tmp_path / "c", **options)


def test_the_record_of_what_is_in_survives_new_codes_and_compaction_and_its_damage_is_told(tmp_path):
    folder = draw_all(tmp_path / "in", [f"{i}.png" for i in range(40)])
    ingest([folder], tmp_path / "c", embedder=Pixels())
    from gpubranches.ingestion.encode import encode

    encode(tmp_path / "c", head="pca", d=8)
    Catalog.open(tmp_path / "c").compact()
    draw(folder / "new.png", 99)
    assert append(tmp_path / "c", [folder], embedder=Pixels(), new=True).added == 1
    assert Catalog.open(tmp_path / "c").verify() == []
    record = tmp_path / "c/inputs-0.parquet"
    record.write_bytes(bytes(record.stat().st_size))
    assert any("inputs-0.parquet" in problem for problem in Catalog.open(tmp_path / "c").verify())
    with pytest.raises(CatalogFormatError, match=r"inputs-0\.parquet: the record of ingested files is damaged"):
        append(tmp_path / "c", [folder], embedder=Pixels(), new=True)


def test_pictures_are_appended_by_a_named_model_where_the_catalog_names_none(tmp_path):
    np.save(tmp_path / "x.npy", vectors(50))
    ingest([tmp_path / "x.npy"], tmp_path / "c")
    folder = draw_all(tmp_path / "in", ["0.png"])
    with pytest.raises(UsageError, match="pass --embedder"):
        append(tmp_path / "c", [folder])
    assert append(tmp_path / "c", [folder], embedder=Pixels()).added == 1
    ingest([folder], tmp_path / "other", embedder=Pixels())

    class Other(Pixels):
        identity = "other"

    with pytest.raises(SpaceMismatchError, match="embedder"):
        append(tmp_path / "other", [tmp_path / "x.npy"], embedder=Other())


def take_in(command, folder, place, point, count):
    """Take pictures in, and be killed at a call of the system; write how many calls there were to `count`."""
    calls = 0

    def watched(real):
        def call(*args, **keywords):
            nonlocal calls
            if calls == point:
                os.kill(os.getpid(), signal.SIGKILL)
            calls += 1
            return real(*args, **keywords)

        return call

    catalog_module.SEGMENT_ROWS, staging.PARTITION = 4, 4
    for name in ("replace", "rename", "unlink", "rmdir", "mkdir", "fsync"):
        setattr(os, name, watched(getattr(os, name)))
    with suppress(DataError):
        if command == "append":
            append(place, [folder], embedder=Pixels(), strict=True)
        else:
            ingest([folder], place, embedder=Pixels(), strict=True)
    count.write_text(str(calls))


@pytest.mark.parametrize("command", ["ingest", "append"])
def test_killed_at_any_call_the_same_command_takes_in_each_picture_once(tmp_path, command):
    """At calls of the system that rename, remove or sync, the last commit and what comes after it among them."""
    first, folder = draw_all(tmp_path / "first", ["z.png"]), draw_all(tmp_path / "in", [f"{i}.png" for i in range(10)])
    (folder / "5.png").write_bytes(b"broken")
    expected = sorted(str(folder / f"{i}.png") for i in range(10) if i != 5)
    if command == "append":
        ingest([first], tmp_path / "start", embedder=Pixels())
        expected = sorted([*expected, str(first / "z.png")])

    def run(point):
        place = tmp_path / f"c{point}"
        if command == "append":
            shutil.copytree(tmp_path / "start", place)
        return place, forked(take_in, command, folder, place, point, tmp_path / "count")

    assert run(10**6)[1] == 0
    total = int((tmp_path / "count").read_text())
    for point in sorted({*some(range(total), 5), *range(total - 12, total, 2), total - 11}):
        place, ended = run(point)
        assert ended == -signal.SIGKILL
        if command == "append":
            append(place, [folder], embedder=Pixels())
        else:
            ingest([folder], place, embedder=Pixels())
        catalog = Catalog.open(place)
        assert shown(catalog) == expected, point
        assert (catalog.verify(), len(catalog.errors())) == ([], 1)
        assert not (place / "staging").exists()


def test_torn_or_odd_staging_is_done_again(tmp_path, monkeypatch):
    monkeypatch.setattr(staging, "PARTITION", 4)
    folder = draw_all(tmp_path / "in", [f"{i}.png" for i in range(10)])

    def stop(stage, done, total):
        if (stage, done) == ("encoding", 0):
            raise KeyboardInterrupt

    for damage in ("cut", "empty", "gone", "table"):
        out = tmp_path / damage
        with pytest.raises(KeyboardInterrupt):
            ingest([folder], out, embedder=Pixels(), progress=stop)
        (kept,) = (path for path in (out / "staging").iterdir() if path.is_dir())
        part = kept / "000001.npy"
        table = part.with_suffix(".parquet")
        if damage == "cut":
            part.write_bytes(part.read_bytes()[:-9])
        elif damage == "empty":
            part.write_bytes(b"")
        elif damage == "gone":
            table.unlink()
        else:
            table.write_bytes(table.read_bytes()[:20])
        (kept / ".000002.npy.1.partial").write_bytes(b"x")
        (out / "staging.removed").mkdir()
        counting = Counting()
        ingest([folder], out, embedder=counting)
        assert counting.embedded == 4
        assert len(shown(Catalog.open(out))) == 10
        assert not list(out.glob("staging*"))


def test_a_folder_that_changes_while_an_ingest_is_stopped_keeps_what_was_embedded(tmp_path, monkeypatch):
    monkeypatch.setattr(staging, "PARTITION", 4)
    folder = draw_all(tmp_path / "in", [f"{i}.png" for i in range(10)])

    def stop(stage, done, total):
        if (stage, done) == ("embedding", 10):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ingest([folder], tmp_path / "c", embedder=Pixels(), batch_size=4, progress=stop)
    draw(folder / "00.png", 77)
    (folder / "3.png").unlink()
    draw(folder / "5.png", 78)
    counting = Counting()
    ingest([folder], tmp_path / "c", embedder=counting)
    assert counting.embedded == 10 - 6
    ingest([folder], tmp_path / "whole", embedder=Pixels())
    same(Catalog.open(tmp_path / "whole"), Catalog.open(tmp_path / "c"))


CHANGES = st.lists(
    st.tuples(st.sampled_from(["add", "change", "touch", "remove", "break", "rename", "delete"]), st.integers(0, 9)),
    min_size=1,
    max_size=6,
)


@settings(max_examples=25 if EVERY else 12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(CHANGES, st.binary(min_size=1, max_size=4))
def test_whatever_happens_to_a_folder_each_picture_is_in_once_and_shows_what_was_embedded(
    tmp_path_factory, changes, letters
):
    root = tmp_path_factory.mktemp("drawn")
    folder = root / os.fsdecode(b"f" + letters.replace(b"/", b"").replace(b"\0", b""))
    draw_all(folder, [f"{i}.png" for i in range(5)])
    ingest([folder], root / "c", embedder=Pixels())
    unlike = set()
    for number, (change, at) in enumerate(changes):
        path = folder / f"{at}.png"
        there = path.exists()
        if change == "add":
            draw(folder / f"{at + 10}.png", 100 + number)
            unlike.add(at + 10)
        elif change == "rename" and there:
            path.rename(folder / f"{at + 20 + 10 * number}.png")
        elif change == "change" and there:
            draw(path, 200 + number)
            unlike.add(at)
        elif change == "break" and there:
            path.write_bytes(b"broken")
            unlike.add(at)
        elif change == "touch" and there:
            os.utime(path)
        elif change == "remove" and there:
            path.unlink()
        elif change == "delete" and (catalog := Catalog.open(root / "c")).alive(np.array([at % 5]))[0]:
            catalog.delete([at % 5])
        append(root / "c", [folder], embedder=Pixels(), new=True)
    catalog = Catalog.open(root / "c")
    items = catalog.items(catalog.sample_ids(catalog.n, np.random.default_rng(0)))
    names = [item["image_path"] for item in items]
    assert len(set(names)) == len(names)
    stale = 0
    for item in items:
        path = image_file(catalog.source, item)
        if path is None or int(path.stem) in unlike:
            stale += 1
            continue
        (now,) = Pixels().encode([Pixels().preprocess(Image.open(path).convert("RGB"))])
        assert now @ catalog.embeddings([item["id"]])[0] > 0.999
    assert append(root / "c", [folder], embedder=Pixels(), new=True).added == 0
    assert escaped_path(str(folder)) in catalog.source["inputs"][0]["paths"]
