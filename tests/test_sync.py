"""A sync makes a catalog equal to its inputs: moved files keep their ids, and nothing else of the catalog changes."""

import os
import shutil
import tarfile
import threading

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from input_files import hub_table, samples, write_tar
from PIL import Image
from test_identity import Counting, draw, draw_all, write_partition
from test_ingest import Pixels, vectors

from gpubranches import Catalog
from gpubranches.catalog.pictures.image_files import image_file, picture_of
from gpubranches.errors import BackendUnavailableError, CatalogNotFoundError, DataError, UsageError
from gpubranches.ingestion import append, ingest, relocate, sync, watch
from gpubranches.ingestion.pieces import FileState


def shown(path):
    """Return by id the name of the picture that each live item shows, and assert that it is what was embedded."""
    catalog = Catalog.open(path)
    ids = catalog.sample_ids(catalog.n, np.random.default_rng(0))
    found = {}
    for item, row in zip(catalog.items(ids), catalog.embeddings(ids), strict=True):
        file = image_file(catalog.source, item)
        assert file is not None, item
        expected = Pixels().encode([Pixels().preprocess(Image.open(file).convert("RGB"))])[0]
        np.testing.assert_allclose(row.astype(np.float32), expected, atol=2e-3)
        found[item["id"]] = file.name
    return found


@pytest.fixture
def made(tmp_path):
    folder = draw_all(tmp_path / "in", [f"{i}.png" for i in range(8)])
    ingest([folder], tmp_path / "c", embedder=Pixels())
    return folder, tmp_path / "c"


def counts(report):
    return report.added, report.changed, report.moved, report.removed


def test_new_changed_moved_and_missing_files_are_told_apart(made):
    folder, path = made
    draw(folder / "new.png", 50)
    draw(folder / "1.png", 51)
    (folder / "2.png").rename(folder / "renamed.png")
    (folder / "sub").mkdir()
    (folder / "3.png").rename(folder / "sub/3.png")
    (folder / "4.png").unlink()
    os.utime(folder / "5.png")
    embedder = Counting()
    report = sync(path, [folder], embedder=embedder)
    assert (*counts(report), report.n, embedder.embedded) == (1, 1, 2, 1, 8, 2)
    found = shown(path)
    assert {found[2], found[3]} == {"renamed.png", "3.png"}
    assert sorted(found) == [0, 2, 3, 5, 6, 7, 8, 9]
    assert {found[8], found[9]} == {"1.png", "new.png"}
    again = sync(path, [folder], embedder=embedder)
    assert (*counts(again), embedder.embedded) == (0, 0, 0, 0, 2)
    assert not again.did_anything


def test_another_file_under_the_name_of_a_moved_one_is_another_item(made):
    folder, path = made
    for number in range(3):  # each time the first becomes the last, and a new first comes
        (folder / "0.png").rename(folder / f"old-{number}.png")
        draw(folder / "0.png", 70 + number)
        assert counts(sync(path, [folder], embedder=Pixels())) == (1, 0, 1, 0)
        found = shown(path)
        assert (found[0], found[8 + number]) == ("old-0.png", "0.png")


def test_files_that_change_names_with_each_other_keep_their_ids(made):
    folder, path = made
    for names in (("0.png", "1.png"), ("2.png", "3.png", "4.png")):
        contents = [(folder / name).read_bytes() for name in names]
        for name, content in zip(names, contents[1:] + contents[:1], strict=True):
            (folder / name).write_bytes(content)
    draw(folder / "6.png", 77)
    assert counts(sync(path, [folder], embedder=Pixels())) == (0, 1, 5, 0)
    found = shown(path)
    assert [found[id] for id in range(5)] == ["1.png", "0.png", "4.png", "2.png", "3.png"]
    (folder / "1.png").write_bytes((folder / "5.png").read_bytes())
    (folder / "5.png").unlink()
    assert counts(sync(path, [folder], embedder=Pixels())) == (0, 0, 1, 1)
    assert shown(path)[5] == "1.png"


def test_a_folder_that_was_renamed_takes_one_entry(tmp_path):
    folder = tmp_path / "in"
    draw_all(folder / "2023/may", [f"{i}.png" for i in range(20)])
    draw_all(folder / "2024", [f"{i}.png" for i in range(20)], 1)
    ingest([folder], tmp_path / "c", embedder=Pixels())
    (folder / "2023").rename(folder / "holidays")
    assert counts(sync(tmp_path / "c", [folder], embedder=Pixels())) == (0, 0, 20, 0)
    step = Catalog.open(tmp_path / "c").source["moved"][-1]
    assert step == {"below": 40, "paths": {str(folder / "2023/may"): str(folder / "holidays/may")}}
    before = shown(tmp_path / "c")
    (folder / "holidays").rename(folder / "2025")
    draw_all(folder / "2023/may", ["0.png"], 3)
    assert counts(sync(tmp_path / "c", [folder], embedder=Pixels())) == (1, 0, 20, 0)
    assert {id: name for id, name in shown(tmp_path / "c").items() if id < 40} == before


def test_equal_pictures_are_moved_one_by_one(made):
    folder, path = made
    for name in ("a.png", "b.png"):
        shutil.copy(folder / "0.png", folder / name)
    assert counts(sync(path, [folder], embedder=Pixels())) == (2, 0, 0, 0)
    (folder / "sub").mkdir()
    for name in ("0.png", "a.png", "b.png"):
        (folder / name).rename(folder / "sub" / name)
    assert counts(sync(path, [folder], embedder=Pixels())) == (0, 0, 3, 0)
    found = shown(path)
    assert [found[id] for id in (0, 8, 9)] == ["0.png", "a.png", "b.png"]


@pytest.mark.parametrize("change", ["target of a link", "by a link", "of a link", "out of the first folder"])
def test_a_file_that_moved_from_or_to_another_folder_is_shown(tmp_path, change):
    folder, outside = draw_all(tmp_path / "in/sub", [f"{i}.png" for i in range(3)]), tmp_path / "outside"
    outside.mkdir()
    draw(outside / "x.png", 9)
    (folder / "l.png").symlink_to(outside / "x.png")
    ingest([folder], tmp_path / "c", embedder=Pixels())
    before, synced = shown(tmp_path / "c"), folder
    if change == "target of a link":
        (outside / "x.png").rename(outside / "y.png")
        (folder / "l.png").unlink()
        (folder / "l.png").symlink_to(outside / "y.png")
    elif change == "by a link":
        (folder / "0.png").rename(outside / "0.png")
        (folder / "0.png").symlink_to(outside / "0.png")
    elif change == "of a link":
        (outside / "x.png").replace(folder / "l.png")
    else:
        synced = (folder / "0.png").rename(folder.parent / "0.png").parent
    assert counts(sync(tmp_path / "c", [synced], embedder=Pixels())) == (0, 0, 1, 0)
    assert shown(tmp_path / "c").keys() == before.keys()


def test_a_file_that_moved_to_another_input_keeps_its_id(made, tmp_path):
    folder, path = made
    other = draw_all(tmp_path / "other", [f"{i}.png" for i in range(8, 12)], 4)
    append(path, [other], embedder=Pixels())
    before, embedder = shown(path), Counting()
    (folder / "0.png").rename(other / "0.png")
    assert counts(sync(path, [folder, other], embedder=embedder)) == (0, 0, 1, 0)
    assert shown(path) == before | {0: "0.png"}
    assert embedder.embedded == 0
    for inputs in ([folder], [other], [other, folder]):
        assert not sync(path, inputs, embedder=embedder).did_anything


@pytest.mark.parametrize("reason", ["other kind", "package"])
def test_files_that_are_there_and_are_not_read_now_keep_their_items(made, tmp_path, monkeypatch, reason):
    folder, path = made
    if reason == "other kind":
        large = np.random.default_rng(0).integers(0, 256, (700, 700, 3)).astype(np.uint8)
        Image.fromarray(large).save(tmp_path / "large.png")
        with tarfile.open(folder / "large.tar", "w") as tar:
            tar.add(tmp_path / "large.png", "a.png")
    else:
        for name in ("0.png", "1.png"):
            (folder / name).rename(folder / name.replace("png", "jxl"))
        sync(path, [folder], embedder=Pixels())
        monkeypatch.setattr("gpubranches.catalog.pictures.formats.is_decodable", lambda name: name != "JXL")
    for force in (False, True):
        report = sync(path, [folder], embedder=Pixels(), force=force)
        assert (report.changed, report.moved, report.removed) == (0, 0, 0)
        assert any("are still there, but are not read as" in note for note in report.notes)
    assert len(Catalog.open(path).items(range(8))) == 8


def test_many_moved_files_of_equal_size_are_each_read_once(tmp_path, monkeypatch):
    folder = tmp_path / "in"
    folder.mkdir()
    for i in range(40):
        Image.new("RGB", (4, 4), (i, i, i)).save(folder / f"{i}.bmp")
    ingest([folder], tmp_path / "c", embedder=Pixels())
    for i in range(40):
        (folder / f"{i}.bmp").rename(folder / f"new-{i}.bmp")
    read, reads = FileState.read, []
    monkeypatch.setattr(FileState, "read", lambda file: reads.append(file.path) or read(file))
    assert counts(sync(tmp_path / "c", [folder], embedder=Pixels())) == (0, 0, 40, 0)
    assert len(reads) == 40


def test_items_that_a_user_deleted_stay_deleted(made):
    folder, path = made
    Catalog.open(path).delete([1, 2])
    (folder / "2.png").rename(folder / "again.png")
    assert counts(sync(path, [folder], embedder=Pixels()))[1:] == (0, 0, 0)
    assert 1 not in shown(path)


def test_other_inputs_stay_as_they_are(made, tmp_path):
    folder, path = made
    other = draw_all(tmp_path / "other", [f"{i}.png" for i in range(5)], 4)
    append(path, [other], embedder=Pixels())
    (other / "0.png").unlink()
    (folder / "0.png").unlink()
    assert counts(sync(path, [folder], embedder=Pixels())) == (0, 0, 0, 1)
    assert Catalog.open(path).n == 12
    assert counts(sync(path, [folder, other], embedder=Pixels())) == (0, 0, 0, 1)
    assert len(shown(path)) == 11


def test_what_is_out_of_reach_is_not_deleted(made):
    folder, path = made
    generation = Catalog.open(path).generation
    for i in range(5):
        (folder / f"{i}.png").unlink()
    with pytest.raises(UsageError, match=r"5 of the 8 items .* are gone or damaged; .* --force"):
        sync(path, [folder], embedder=Pixels())
    aside = folder.rename(folder.parent / "aside")
    with pytest.raises(CatalogNotFoundError):
        sync(path, [folder], embedder=Pixels(), force=True)
    folder.mkdir()
    with pytest.raises(UsageError, match="found none"):
        sync(path, [folder], embedder=Pixels(), force=True)
    with pytest.raises(UsageError, match="gpubranches relocate"):
        shutil.rmtree(folder)
        draw_all(aside, [f"{i}.png" for i in range(8)])
        sync(path, [aside], embedder=Pixels())
    assert Catalog.open(path).generation == generation
    folder = aside.rename(folder)
    for i in range(5):
        (folder / f"{i}.png").unlink()
    assert counts(sync(path, [folder], embedder=Pixels(), force=True)) == (0, 0, 0, 5)


@pytest.mark.parametrize("content", [b"", bytes(2000), b"<html>", b"version https://git-lfs.github.com/spec/v1"])
def test_damaged_files_count_as_gone_and_are_told(made, content):
    folder, path = made
    for i in range(2):
        (folder / f"{i}.png").write_bytes(content)
    report = sync(path, [folder], embedder=Pixels())
    assert (report.n, report.removed, report.errors) == (6, 2, 2)
    for i in range(2, 6):
        (folder / f"{i}.png").write_bytes(content)
    with pytest.raises(UsageError, match=r"4 of the 6 items .* are gone or damaged"):
        sync(path, [folder], embedder=Pixels())
    assert Catalog.open(path).n == 6
    assert sync(path, [folder], embedder=Pixels(), force=True).removed == 4


def test_an_input_that_is_out_of_reach_is_not_deleted_because_another_is_larger(made, tmp_path):
    folder, path = made
    small = draw_all(tmp_path / "small", ["a.png", "b.png"], 40)
    append(path, [small], embedder=Pixels())
    (small / "a.png").unlink()
    (small / "b.png").rename(tmp_path / "b.png")
    for force in (False, True):
        with pytest.raises(UsageError, match="found none"):
            sync(path, [folder, small], embedder=Pixels(), force=force)
    draw(small / "c.png", 44)
    with pytest.raises(UsageError, match=r"2 of the 2 items of .*small are gone"):
        sync(path, [folder, small], embedder=Pixels())
    assert Catalog.open(path).n == 10
    assert counts(sync(path, [folder, small], embedder=Pixels(), force=True)) == (1, 0, 0, 2)


def test_a_file_of_many_that_lost_most_of_its_rows_is_not_embedded_again_without_a_word(tmp_path):
    whole = write_tar(tmp_path / "in/0.tar", samples(range(8))).read_bytes()
    ingest(tmp_path / "in", tmp_path / "c", embedder=Pixels())
    (tmp_path / "in/0.tar").write_bytes(whole[: len(whole) // 8])
    with pytest.raises(UsageError, match=r"of the 8 items .* are gone or damaged"):
        sync(tmp_path / "c", [tmp_path / "in"], embedder=Pixels())
    assert Catalog.open(tmp_path / "c").n == 8


def test_a_sync_tells_what_it_skips(made):
    folder, path = made
    (folder / "a.doc").write_bytes(b"x")
    assert any("skipped 1 file: 1 .doc" in note for note in sync(path, [folder], embedder=Pixels()).notes)


@pytest.mark.parametrize("dropped", [False, True])
def test_pictures_without_a_record_of_their_files_are_not_added_again(made, tmp_path, dropped):
    folder, path = made
    if dropped:
        catalog = Catalog.open(path)
        catalog.set_source({**catalog.source, "inputs": [{**catalog.source["inputs"][0], "listing": ""}]})
    else:
        path, embedder = tmp_path / "other", Pixels()
        rows = np.random.default_rng(0).normal(size=(8, embedder.D)).astype(np.float32)
        names = {"image_path": [f"{i}.png" for i in range(8)]}
        Catalog.from_embeddings(path, rows, metadata=names, pictures=folder, d=4, embedder=embedder)
    with pytest.raises(UsageError, match="no record of their files"):
        sync(path, [folder], embedder=Pixels())
    assert Catalog.open(path).n == 8


def test_a_model_that_cannot_be_opened_deletes_nothing(made):
    folder, path = made
    draw(folder / "1.png", 51)
    with pytest.raises(UsageError):
        sync(path, [folder], embedder="nothing:of-the-kind")
    assert len(Catalog.open(path).items(range(8))) == 8


def test_partitions_are_made_anew_as_wholes(tmp_path):
    folder = tmp_path / "in"
    for number in range(3):
        write_partition(folder, number, 30, seed=number)
    ingest([folder], tmp_path / "c", d=8)
    write_partition(folder, 1, 40, seed=9, caption="other")
    (folder / "img_emb/img_emb_2.npy").unlink()
    (folder / "metadata/metadata_2.parquet").unlink()
    report = sync(tmp_path / "c", [folder])
    assert (report.n, report.removed) == (70, 30)
    catalog = Catalog.open(tmp_path / "c")
    captions = [item["caption"] for item in catalog.items(catalog.sample_ids(70, np.random.default_rng(0)))]
    assert sorted(captions) == sorted([f"row 0 {i}" for i in range(30)] + [f"other 1 {i}" for i in range(40)])


KINDS_OF_FILES = {
    "tar": ("in/{}.tar", lambda path, k: write_tar(path, list(samples(range(4 * k, 4 * k + 4))))),
    "table of pictures": ("in/{}.parquet", lambda path, k: pq.write_table(hub_table(range(4 * k, 4 * k + 4)), path)),
    "table of embeddings": ("in/{}.parquet", lambda path, k: pq.write_table(embedding_table(4, seed=k), path)),
    "partition": ("in/img_emb/img_emb_{}.npy", lambda path, k: write_partition(path.parent.parent, k, 4, seed=k)),
}


def embedding_table(n, seed):
    captions = [f"{seed} {row}" for row in range(n)]
    return pa.table({"embedding": list(vectors(n, seed=seed)), "caption": captions})


@pytest.mark.parametrize("kind", KINDS_OF_FILES)
def test_a_file_of_any_kind_that_was_renamed_or_swapped_keeps_its_ids(tmp_path, kind):
    name, write = KINDS_OF_FILES[kind]
    (tmp_path / name).parent.mkdir(parents=True)
    for number in range(4):
        write(tmp_path / name.format(number), number)
    embedder = None if kind in ("table of embeddings", "partition") else Pixels()
    ingest([tmp_path / "in"], tmp_path / "c", d=8, embedder=embedder)
    rename = [(0, 9), (1, "aside"), (2, 1), ("aside", 2)]  # a new name, and two that swap theirs
    before = contents_by_id(tmp_path / "c")
    for old, new in rename:
        for path in (name, "in/metadata/metadata_{}.parquet") if kind == "partition" else (name,):
            (tmp_path / path.format(old)).rename(tmp_path / path.format(new))
    assert counts(sync(tmp_path / "c", [tmp_path / "in"], embedder=embedder)) == (0, 0, 12, 0)
    assert contents_by_id(tmp_path / "c") == before
    assert not sync(tmp_path / "c", [tmp_path / "in"], embedder=embedder).did_anything
    if kind == "partition":  # embeddings that move while their metadata change are other items
        (tmp_path / name.format(9)).rename(tmp_path / name.format(0))
        (tmp_path / "in/metadata/metadata_9.parquet").unlink()
        caption = pa.table({"caption": ["other"] * 4})
        pq.write_table(caption, tmp_path / "in/metadata/metadata_0.parquet")
        assert counts(sync(tmp_path / "c", [tmp_path / "in"])) == (4, 0, 0, 4)


def contents_by_id(path):
    """Return what each item shows, or, for embeddings, its caption; without the id and the columns of the place."""
    catalog = Catalog.open(path)
    items = catalog.items(sorted(catalog.sample_ids(catalog.n, np.random.default_rng(0)).tolist()))
    pictures = ((item, picture_of(catalog.source, item)) for item in items)
    return {item["id"]: item["caption"] if picture is None else picture.open().read() for item, picture in pictures}


def test_a_file_that_comes_back_is_added_again_and_broken_ones_are_told_while_they_are_there(made):
    folder, path = made
    (folder / "0.png").rename(folder.parent / "aside.png")
    (folder / "broken.png").write_bytes(b"nothing")
    assert (counts(report := sync(path, [folder], embedder=Pixels())), report.errors) == ((0, 0, 0, 1), 1)
    (folder.parent / "aside.png").rename(folder / "0.png")
    (folder / "broken.png").rename(folder / "other.png")
    assert (counts(report := sync(path, [folder], embedder=Pixels())), report.errors) == ((1, 0, 0, 0), 1)
    assert [error["path"] for error in Catalog.open(path).errors()] == ["other.png"]
    (folder / "other.png").unlink()
    assert (counts(report := sync(path, [folder], embedder=Pixels())), report.errors) == ((0, 0, 0, 0), 0)
    assert shown(path)[9] == "0.png"
    generation = Catalog.open(path).generation
    sync(path, [folder], embedder=Pixels())
    assert Catalog.open(path).generation == generation


def test_moves_of_files_are_recorded_in_one_short_entry(made):
    folder, path = made
    for number in range(6):
        (folder / f"{number}.png").rename(folder / "sub.png")
        draw(folder / f"{number}.png", 80 + number)
        sync(path, [folder], embedder=Pixels())
        (folder / "sub.png").rename(folder / f"old-{number}.png")
        sync(path, [folder], embedder=Pixels())
    steps = Catalog.open(path).source["moved"]
    assert [(step.get("from", 0), len(step["paths"])) for step in steps] == [(0, 6)]
    before = shown(path)
    for number in range(6):
        (folder / f"old-{number}.png").replace(folder / f"{number}.png")
    sync(path, [folder], embedder=Pixels(), force=True)
    assert Catalog.open(path).source["moved"] == []
    assert shown(path) == {id: f"{id}.png" for id in before if id < 8}


def test_an_input_of_one_file_may_be_renamed(tmp_path):
    np.save(tmp_path / "a.npy", vectors(40))
    ingest([tmp_path / "a.npy"], tmp_path / "c", d=8)
    shutil.copy(tmp_path / "a.npy", tmp_path / "b.npy")
    with pytest.raises(UsageError, match="has the same content as"):
        sync(tmp_path / "c", [tmp_path / "b.npy"])
    (tmp_path / "a.npy").unlink()
    assert counts(sync(tmp_path / "c", [tmp_path / "b.npy"])) == (0, 0, 40, 0)
    assert not sync(tmp_path / "c", [tmp_path / "b.npy"]).did_anything


def test_pictures_that_moved_are_shown_after_their_folder_moved_and_got_new_ones(made):
    folder, path = made
    (folder / "sub").mkdir()
    (folder / "0.png").rename(folder / "sub/0.png")
    sync(path, [folder], embedder=Pixels())
    moved = folder.rename(folder.parent / "moved")
    relocate(path, folder, moved)
    draw(moved / "new.png", 50)
    assert counts(sync(path, [moved], embedder=Pixels())) == (1, 0, 0, 0)
    assert shown(path)[0] == "0.png"


def test_a_sync_that_was_stopped_is_completed_by_the_next(made, monkeypatch):
    folder, path = made
    draw(folder / "1.png", 51)
    draw(folder / "new.png", 52)
    (folder / "2.png").rename(folder / "renamed.png")
    (folder / "3.png").unlink()
    for name in ("gpubranches.catalog.Catalog.delete", "gpubranches.ingestion.synchronization.append"):
        with monkeypatch.context() as patch:
            patch.setattr(name, lambda *args, **kwargs: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                sync(path, [folder], embedder=Pixels())
    sync(path, [folder], embedder=Pixels())
    found = shown(path)
    assert sorted(found.values()) == sorted(file.name for file in folder.iterdir())
    assert found[2] == "renamed.png"


def test_a_watch_syncs_after_each_change(made, monkeypatch):
    pytest.importorskip("watchfiles", reason="watchfiles is not installed")
    folder, path = made
    monkeypatch.setattr("gpubranches.ingestion.synchronization._QUIET_MS", 100)
    reports = watch(path, [folder], embedder=Pixels())
    assert counts(next(reports)) == (0, 0, 0, 0)
    draw(folder / "between.png", 60)
    assert counts(next(reports)) == (1, 0, 0, 0)
    timer = threading.Timer(0.3, (folder / "1.png").unlink)
    timer.start()
    assert counts(next(reports)) == (0, 0, 0, 1)
    timer.join()
    reports.close()


def test_a_watch_goes_on_after_a_file_that_vanished_and_ends_if_none_can_be_read(made, monkeypatch):
    pytest.importorskip("watchfiles", reason="watchfiles is not installed")
    folder, path = made
    monkeypatch.setattr("gpubranches.ingestion.synchronization._QUIET_MS", 100)
    reports, state, failing = watch(path, [folder], embedder=Pixels()), FileState.at, []
    next(reports)

    def unreadable(place):
        if place.endswith("0.png") and len(failing) < limit:
            failing.append(place)
            raise DataError(f"{place}: cannot read: No such file or directory")
        return state(place)

    monkeypatch.setattr(FileState, "at", unreadable)
    draw(folder / "new.png", 60)
    limit = 2
    assert counts(next(reports)) == (1, 0, 0, 0)
    limit = 100
    (folder / "new.png").unlink()
    with pytest.raises(DataError, match="cannot read"):
        next(reports)
    assert len(failing) == 2 + 4


def test_a_watch_names_the_package_that_it_needs(made, monkeypatch):
    folder, path = made
    monkeypatch.setitem(__import__("sys").modules, "watchfiles", None)
    with pytest.raises(BackendUnavailableError, match=r"watchfiles.*gpubranches\[watch\]"):
        next(watch(path, [folder], embedder=Pixels()))


def test_the_command_prints_what_it_did(run, tmp_path):
    folder = draw_all(tmp_path / "in", [f"{i}.png" for i in range(6)])
    assert run("ingest", folder, "--out", tmp_path / "c", "--embedder", "demo")[0] == 0
    draw(folder / "new.png", 50)
    (folder / "0.png").unlink()
    code, out, err = run("sync", tmp_path / "c", folder)
    assert code == 0
    assert "1 picture is new: new.png" in err
    assert "6 items; 1 added, 0 changed, 0 moved, 1 removed" in out
    code, _, err = run("sync", tmp_path / "nothing", folder)
    assert code == 3
    assert "Traceback" not in err
