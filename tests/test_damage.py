"""Every file of a catalog damaged: `verify` names it, all else refuses or answers rightly, repair keeps the rest."""

import hashlib
import itertools
import json
import os
import shutil
import subprocess
import sys
from contextlib import closing

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from drawn import EVERY, some
from hypothesis import given, settings
from hypothesis import strategies as st
from test_catalog import GOLDEN
from test_failed_writes import content, write_input

from gpubranches import Box, Boxes, Catalog, Session, open_backend
from gpubranches.catalog import manifest as manifests
from gpubranches.catalog import problems_at, repair
from gpubranches.catalog.blocks import SUMS
from gpubranches.catalog.pictures.image_files import image_file
from gpubranches.cli import cli
from gpubranches.core.files import BLOCK_BYTES
from gpubranches.engines.kdtree.build import build_index
from gpubranches.errors import CatalogFormatError, CatalogNotFoundError, GpuBranchesError, UsageError
from gpubranches.ingestion import append, ingest
from gpubranches.ingestion.encode import encode
from gpubranches.ingestion.records import IngestHistory
from gpubranches.service import database
from gpubranches.service.labels import Labels

MODEL = Boxes([Box(np.array([1, 5], np.int16), np.array([60, 60], np.uint8), np.array([200, 200], np.uint8))])
ROWS = 700


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A catalog of two segments with metadata, deleted and broken rows, beside an input to append."""
    folder = tmp_path_factory.mktemp("made")
    write_input(folder / "in", 2 * ROWS)
    write_input(folder / "more", 200, seed=1)
    notes = [np.random.default_rng(i).bytes(100).hex() for i in range(2 * ROWS)]
    table = pq.read_table(folder / "in/metadata/metadata_0.parquet").append_column("note", pa.array(notes))
    pq.write_table(table, folder / "in/metadata/metadata_0.parquet")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gpubranches.catalog.catalog.SEGMENT_ROWS", ROWS)
        patch.setattr("gpubranches.catalog.segment.ITEM_GROUP", 100)
        ingest([folder / "in"], folder / "c", d=8)
    Catalog.open(folder / "c").delete([0, 5, 170])
    return folder


@pytest.fixture
def damaged(made, tmp_path):
    shutil.copytree(made / "c", tmp_path / "c")
    return tmp_path / "c"


def files(path):
    """Return the files of a catalog by their names in messages, one segment's alone."""
    first = sorted((path / "segments").iterdir())[0]
    every = [
        *path.glob("*.safetensors"),
        *path.glob("*.bitmap"),
        *path.glob("inputs-*"),
        path / "manifest.json",
        *first.iterdir(),
    ]
    return sorted(file.relative_to(path) for file in every)


def flip(path, at):
    with path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)
        file.seek(at)
        file.write(bytes([byte[0] ^ 0x10]))


DAMAGES = {
    "flip the first": lambda path: flip(path, 0),
    "flip the middle": lambda path: flip(path, path.stat().st_size // 2),
    "flip the last": lambda path: flip(path, path.stat().st_size - 1),
    "truncate": lambda path: os.truncate(path, path.stat().st_size // 2),
    "empty": lambda path: os.truncate(path, 0),
    "lengthen": lambda path: path.write_bytes(path.read_bytes() + b"\0"),
    "remove": lambda path: path.unlink(),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
    "a pipe": lambda path: (path.unlink(), os.mkfifo(path)),
    "zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
}


def answers(path, backend="oracle"):
    """Ask all that can be asked; yield (what, answer) or (what, the error that refused it)."""
    asked = {
        "take": lambda c, b: c.codes(c.sample_ids(c.n, np.random.default_rng(0))).tolist(),
        "embeddings": lambda c, b: c.embeddings([1, 600, 900]).tolist(),
        "items": lambda c, b: c.items([1, 2, 600, 1300]),
        "where": lambda c, b: np.flatnonzero(c.where("caption >= 'row 5'")).tolist(),
        "columns": lambda c, b: (c.columns, [column.values for column in c.described_columns()]),
        "errors": lambda c, b: (c.n_errors, c.errors()),
        "info": lambda c, b: {**c.info(), "path": ""},
        "evaluate": lambda c, b: b.apply(MODEL).ids.tolist(),
        "bits": lambda c, b: b.score(np.ones(c.D, np.float32), tier="bits", limit=9).ids.tolist(),
        "all cosines": lambda c, b: b.search(np.ones((1, c.D), np.float32), 9, tier="embeddings").ids.tolist(),
        "like": lambda c, b: Session(c, b).search(600, 5).ids.tolist(),
        "refine": refined,
    }
    for what, ask in asked.items():
        try:
            catalog = Catalog.open(path)
            with open_backend(backend, catalog) as opened:
                yield what, ask(catalog, opened)
        except GpuBranchesError as error:
            yield what, error


def refined(catalog, backend):
    session = Session(catalog, backend)
    session.mark([1, 2, 600], +1)
    session.mark([40, 41], -1)
    return session.refine().ids[:20].tolist()


@pytest.fixture(scope="module")
def right(made):
    return dict(answers(made / "c"))


def names(error, name):
    """Return whether an error is one sentence on a file, or on the folder or the manifest that it hangs on."""
    return "\n" not in str(error) and any(part in str(error) for part in (name, "manifest.json"))


NAMES = ["codes.u8", "zones.u8", "ids.i64", "rows.u32", "bits.u8", "scales.f16", "embeddings.f16", "items.parquet",
         "errors.parquet", SUMS, "constants.safetensors", "head.safetensors", "deleted", "inputs",
         "manifest.json"]  # fmt: skip


def named(path, name):
    return path / next(file for file in files(path) if file.name.startswith(name))


def test_every_file_is_among_those_damaged(made):
    assert {file.name.split("-")[0] for file in files(made / "c")} == set(NAMES)


@pytest.mark.parametrize(("name", "how"), some(itertools.product(NAMES, DAMAGES), 60))
def test_damage_is_named_by_verify_and_refused_or_passed_over_by_all_else(damaged, right, name, how):
    file = named(damaged, name)
    DAMAGES[how](file)
    try:
        problems = problems_at(damaged)
    except CatalogNotFoundError as error:
        problems = [str(error)]
    assert problems
    assert any(file.name in problem for problem in problems), problems
    refused = set()
    for what, answer in answers(damaged):
        if isinstance(answer, GpuBranchesError):
            assert names(answer, file.name), (what, answer)
            assert not isinstance(answer, UsageError), (what, answer)
            refused.add(what)
        else:
            assert answer == right[what], what
    at_open = name.endswith(".safetensors") or name in ("deleted", "manifest.json") or not how.startswith(("f", "z"))
    assert len(refused) == len(right) if at_open or name == SUMS else len(refused) < len(right), refused


@pytest.mark.parametrize("name", NAMES)
def test_damage_is_never_copied_under_new_checksums(damaged, made, name):
    file = named(damaged, name)
    flip(file, file.stat().st_size // 2)
    before = problems_at(damaged)
    held = sorted(path.name for path in damaged.rglob("*"))
    for change in (
        lambda: Catalog.open(damaged).compact(),
        lambda: encode(damaged, head="none"),
        lambda: encode(damaged, head="pca", d=4),
    ):
        with pytest.raises(CatalogFormatError, match=file.name):
            change()
        assert problems_at(damaged) == before
    assert {path.name for path in damaged.rglob("*")} - set(held) <= {"lock"}
    if name in ("constants.safetensors", "head.safetensors", "deleted", "manifest.json"):
        with pytest.raises(CatalogFormatError, match=file.name):
            Catalog.open(damaged).delete([7])
    if name in ("constants.safetensors", "head.safetensors", "deleted", "inputs", "manifest.json"):
        for change in (lambda: append(damaged, [made / "more"]), lambda: ingest([made / "in"], damaged, d=8)):
            with pytest.raises(CatalogFormatError, match=file.name):
                change()
            assert problems_at(damaged) == before


def test_damage_that_comes_while_a_catalog_is_open_is_not_copied_either(damaged):
    catalog = Catalog.open(damaged)
    with catalog.writing():
        flip(named(damaged, "items.parquet"), 300)
        with pytest.raises(CatalogFormatError, match=r"items\.parquet"):
            catalog.compact()


@pytest.mark.parametrize("backend", ["oracle", "cpu"])
@given(st.sampled_from([name for name in NAMES if name != "manifest.json"]), st.data())
@settings(max_examples=20 if EVERY else 8)
def test_a_flipped_byte_anywhere_is_refused_or_has_no_part_in_an_answer(
    made, right, tmp_path_factory, backend, name, data
):
    path = tmp_path_factory.mktemp("flipped") / "c"
    shutil.copytree(made / "c", path)
    file = named(path, name)
    flip(file, data.draw(st.integers(0, file.stat().st_size - 1)))
    for what, answer in answers(path, backend):
        if isinstance(answer, GpuBranchesError):
            assert names(answer, file.name), (what, answer)
        elif what != "refine" or backend == "oracle":
            assert answer == right[what], what
    assert any(file.name in problem for problem in problems_at(path))
    shutil.rmtree(path.parent)


@pytest.mark.parametrize("one", NAMES[:9])
def test_files_of_two_segments_that_are_swapped_are_told(damaged, right, one):
    first, second = sorted((damaged / "segments").iterdir())
    if not (second / one).exists():
        pytest.skip("the other segment has none")
    (first / one).rename(damaged / "aside")
    (second / one).rename(first / one)
    (damaged / "aside").rename(second / one)
    assert any(one in problem for problem in problems_at(damaged))
    for what, answer in answers(damaged):
        assert isinstance(answer, CatalogFormatError) or answer == right[what], what


def test_two_segments_that_are_swapped_are_told(damaged):
    first, second = sorted((damaged / "segments").iterdir())
    first.rename(damaged / "aside")
    second.rename(first)
    (damaged / "aside").rename(second)
    assert problems_at(damaged)
    for what, answer in answers(damaged):
        assert isinstance(answer, CatalogFormatError), what


def test_only_what_is_read_is_checked(damaged, right):
    """A damaged block of embeddings does not keep the other rows from being read."""
    segment = Catalog.open(damaged).segments[0]
    file = segment.folder / "embeddings.f16"
    rows = BLOCK_BYTES // (2 * segment.D)
    flip(file, 0)
    catalog = Catalog.open(damaged)
    segment = catalog.segments[0]
    assert len(catalog.embeddings(segment.ids[rows + 1 :][catalog.alive(segment.ids[rows + 1 :])])) > 300
    with pytest.raises(CatalogFormatError, match=r"embeddings\.f16: damaged: the bytes from 0 on"):
        catalog.embeddings(segment.ids[:1])
    with pytest.raises(CatalogFormatError, match=r"embeddings\.f16"):
        catalog.embeddings(segment.ids[1:2])


def test_a_catalog_of_version_1_is_read_and_its_next_commit_is_of_version_2(tmp_path):
    shutil.copytree(GOLDEN, tmp_path / "c")
    catalog = Catalog.open(tmp_path / "c")
    assert not any(SUMS in segment.files for segment in catalog.segments)
    for segment in catalog.segments:
        assert (segment.codes.size, segment.ids.size) > (0, 0)
    catalog.delete([3])
    text = json.loads((tmp_path / "c/manifest.json").read_text())
    assert (text["version"], len(text["sha256"])) == (2, 64)
    assert Catalog.open(tmp_path / "c").n == 148
    flip(catalog.segments[0].folder / "ids.i64", 3)
    with pytest.raises(CatalogFormatError, match=r"ids\.i64"):
        Catalog.open(tmp_path / "c").sample_ids(149, np.random.default_rng(0))


# Repair


def row_of(catalog, item):
    return catalog.codes([item]).tolist(), catalog.embeddings([item]).tolist()


KEPT = {"zones.u8": 0, "rows.u32": 0, "ids.i64": 0, "bits.u8": 0, "scales.f16": 0, SUMS: 0, "errors.parquet": 0,
        "inputs": 0, "items.parquet": 0, "codes.u8": 0, "embeddings.f16": BLOCK_BYTES // 96 + 2}  # fmt: skip
"""Items that may be given up for one damaged byte of a file."""


@pytest.mark.parametrize(
    ("name", "how"), some(itertools.product(KEPT, ["flip the middle", "truncate", "remove", "zeros", "a pipe"]), 24)
)
def test_repair_keeps_what_is_undamaged_and_tells_what_it_gave_up(damaged, made, name, how):
    whole = Catalog.open(made / "c")
    DAMAGES[how](named(damaged, name))
    told = repair(damaged)
    assert told
    assert problems_at(damaged) == []
    catalog = Catalog.open(damaged)
    ids = whole.sample_ids(whole.n, np.random.default_rng(0))
    left = ids[catalog.alive(ids)]
    assert catalog.n == len(left)
    assert not catalog.alive([0, 5, 170]).any()
    lost = len(ids) - len(left)
    assert lost <= (KEPT[name] if how.startswith("flip") or not KEPT[name] else ROWS)
    assert (lost > 0) == any(" items" in line and "metadata" not in line for line in told)
    # Codes made anew may differ by one: the last bit of a vector depends on what is encoded together.
    assert np.abs(catalog.codes(left).astype(int) - whole.codes(left)).max() <= (name == "codes.u8")
    assert np.array_equal(catalog.embeddings(left), whole.embeddings(left))
    bare = [item["id"] for item in catalog.items(left) if "caption" not in item or item["caption"] is None]
    if name == "items.parquet":
        assert any("metadata" in line for line in told)
        assert 0 < len(bare) <= (200 if how == "flip the middle" else ROWS)
    else:
        assert catalog.items(left) == whole.items(left)
    assert (catalog.errors() == whole.errors()) == (name != "errors.parquet")
    assert catalog.next_id == whole.next_id
    append(damaged, [made / "more"])
    encode(damaged, head="none")
    catalog.refresh()
    catalog.compact()
    assert problems_at(damaged) == []


def test_a_listing_that_was_lost_leaves_the_others_and_appends_what_it_named_when_told(damaged, made):
    append(damaged, [made / "more"])
    os.truncate(damaged / "inputs-0.parquet", 0)
    (told,) = repair(damaged)
    assert told.startswith("inputs-0.parquet: the record of which files the ids from 0 on came from")
    catalog = Catalog.open(damaged)
    assert catalog.source["inputs"][0]["listing"] == ""
    assert len(catalog.errors()) == catalog.n_errors == 2
    with pytest.raises(UsageError, match="already in the catalog"):
        append(damaged, [made / "more"])
    with pytest.raises(UsageError, match="other input"):
        ingest([made / "in"], damaged, d=8)
    assert append(damaged, [made / "in"], new=True).added == 2 * ROWS - 1
    assert append(damaged, [made / "in"], new=True).added == 0
    encode(damaged, head="none")
    Catalog.open(damaged).compact()
    assert problems_at(damaged) == []
    assert not (damaged / "inputs-0.parquet").exists()


def test_repair_keeps_the_damaged_segments_and_leaves_the_others(damaged):
    first, second = (path.name for path in sorted((damaged / "segments").iterdir()))
    flip(damaged / "segments" / first / "codes.u8", 5)
    repair(damaged)
    names = [segment.folder.name for segment in Catalog.open(damaged).segments]
    assert first not in names
    assert second in names
    assert [path.name for path in (damaged / "damaged").iterdir()] == [first]


def test_repair_without_embeddings_gives_up_the_items_of_a_damaged_block(tmp_path):
    np.save(tmp_path / "codes.npy", np.random.default_rng(0).integers(0, 256, (9000, 8)).astype(np.uint8))
    ingest([tmp_path / "codes.npy"], tmp_path / "c")
    whole = Catalog.open(tmp_path / "c")
    codes = whole.codes(np.arange(9000))
    flip(whole.segments[0].folder / "codes.u8", 4096 * 8 + 5)
    (told,) = repair(tmp_path / "c")
    assert "4,096 of 9,000 items" in told
    catalog = Catalog.open(tmp_path / "c")
    left = np.flatnonzero(catalog.alive(np.arange(9000)))
    assert len(left) == 9000 - 4096
    assert np.array_equal(catalog.codes(left), codes[left])
    assert problems_at(tmp_path / "c") == []


def test_repair_without_deletions_head_or_a_whole_segment(damaged, made):
    whole = Catalog.open(made / "c")
    flip(named(damaged, "deleted"), 0)
    assert any("those that were not compacted are live again" in line for line in repair(damaged))
    assert Catalog.open(damaged).n == whole.n + 3
    flip(named(damaged, "head"), 50)
    assert any("head" in line for line in repair(damaged))
    assert Catalog.open(damaged).head_path is None
    with pytest.raises(UsageError, match="no head"):
        append(damaged, [made / "more"])
    assert problems_at(damaged) == []
    shutil.rmtree(sorted((damaged / "segments").iterdir())[0])
    assert any(f"{ROWS - 1:,} of {ROWS - 1:,} items" in line for line in repair(damaged))
    assert Catalog.open(damaged).n == ROWS
    assert problems_at(damaged) == []


@pytest.mark.parametrize("name", ["manifest.json", "constants.safetensors"])
def test_what_all_hangs_on_is_not_repaired(damaged, name):
    flip(named(damaged, name), 40)
    before = problems_at(damaged)
    with pytest.raises(CatalogFormatError, match=name):
        repair(damaged)
    assert problems_at(damaged) == before


def test_the_command_tells_what_it_gave_up(damaged):
    run = CliRunner().invoke
    sound = run(cli, ["verify", str(damaged), "--repair"])
    assert (sound.exit_code, sound.output) == (0, "The catalog is sound.\n")
    build_index(Catalog.open(damaged), threads=1)
    flip(named(damaged, "embeddings.f16"), 5)
    flip(damaged / "kdtree/marginals.i64", 5)
    assert isinstance(run(cli, ["verify", str(damaged)]).exception, CatalogFormatError)
    told = json.loads(run(cli, ["verify", str(damaged), "--repair", "--json"]).output)
    assert (told["sound"], told["problems"]) == (True, [])
    assert "items, such as" in told["given_up"][0]
    assert "kdtree" in told["given_up"][1]
    assert run(cli, ["verify", str(damaged)]).exit_code == 0


def test_a_broken_file_of_marks_is_named(damaged, tmp_path):
    file = damaged / "labels.sqlite"
    with closing(Labels.open(file, "one")) as labels:
        labels.mark(np.arange(3000), +1)
    assert database.problems(file) == []
    whole = file.read_bytes()
    broken = {
        "not a database": b"x" * 200 + whole[200:],
        "malformed": whole[:5000],
        "no tables": b"",
        "damaged": whole[:4096] + bytes(8192) + whole[12288:],
    }
    for says, bytes_ in broken.items():
        file.write_bytes(bytes_)
        told = database.problems(file)
        assert any("labels.sqlite" in line and says in line for line in told), (says, told)
        assert CliRunner().invoke(cli, ["verify", str(damaged)]).exit_code != 0
    file.unlink()
    os.mkfifo(file)
    assert "pipe" in database.problems(file)[0]


# Hostile manifests and inputs

VALUES = [
    None,
    True,
    False,
    -1,
    0,
    1,
    1.5,
    2**70,
    "",
    "x",
    "../..",
    [],
    [1],
    {},
    {"a": 1},
    [{}],
    [None],
    "\0",
    float("nan"),
]


def places(value, at=()):
    """Yield the places of all values within a value."""
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield (*at, key)
        yield from places(value[key], (*at, key))


def refuses(path):
    """Return whether opening or reading raises an error of ours; any other error passes."""
    try:
        catalog = Catalog.open(path)
        IngestHistory(catalog), image_file(catalog.source, {"image_path": "/a/b.png", "image_target": "/a/b.png"})
        catalog.info(), catalog.items([7]), catalog.codes([7]), catalog.where("caption = 'row 7'")
    except GpuBranchesError as error:
        return "\n" not in str(error)
    return False


def test_a_manifest_with_anything_in_it_is_refused_or_read(damaged):
    """Sealed with its checksum, so that nothing but its values tells."""
    whole = manifests.read_manifest(damaged)
    source = whole["source"]
    whole["source"] = {**source, "roots": {"": "/a", "other": "/b"}, "moved": [["/a", "/b"]]}
    (first,) = source["inputs"]
    whole["source"]["inputs"] = [first, {**first, "base": whole["next_id"], "mended": [3]}]
    right = content(damaged)
    spots, refused, tried = list(places(whole)), 0, 0
    for spot, value in some(itertools.product(spots, [*VALUES, "absent"]), 400):
        manifest = json.loads(json.dumps(whole))
        inner = manifest
        for key in spot[:-1]:
            inner = inner[key]
        if value == "absent":
            del inner[spot[-1]]
        else:
            inner[spot[-1]] = value
        manifests.write_manifest(damaged, manifest)
        tried += 1
        refused += refuses(damaged)
    assert tried >= 400
    assert refused > tried * 0.8
    manifests.write_manifest(damaged, {**whole, "source": source})
    assert content(damaged) == right


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", "1", '"x"', "null", "[" * 100_000, "\ufeff{}", '{"format": {}}', '{"a": NaN}', "{", "\0"]
)
def test_a_manifest_that_is_no_object_is_refused(damaged, text):
    (damaged / "manifest.json").write_text(text)
    with pytest.raises(CatalogFormatError, match=r"manifest\.json"):
        Catalog.open(damaged)
    (damaged / "manifest.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(CatalogFormatError, match=r"manifest\.json"):
        Catalog.open(damaged)


@pytest.mark.parametrize("kind", ["array", "embedder"])
def test_more_dims_than_a_catalog_has_are_refused_before_they_are_read(tmp_path, kind):
    class Wide:
        D, spec, identity, text_mean = 60_000, "", "wide", None

    (tmp_path / "in").mkdir()
    rows = np.lib.format.open_memmap(tmp_path / "in.npy", "w+", np.float16, (400, 60_000))
    del rows
    source, embedder = (tmp_path / "in.npy", None) if kind == "array" else (tmp_path / "in", Wide())
    with pytest.raises(UsageError, match="at most 2,048 dims"):
        ingest([source], tmp_path / "c", embedder=embedder)
    assert not (tmp_path / "c/manifest.json").exists()


def test_a_pipe_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "in.npy")
    with pytest.raises(CatalogFormatError, match="pipe"):
        ingest([tmp_path / "in.npy"], tmp_path / "c")


LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_AS, (6 << 30, 6 << 30))
from gpubranches.cli import main
sys.argv[1:] = ["info", sys.argv[1]]
main()
"""


def test_a_manifest_of_endless_numbers_takes_no_memory(damaged):
    manifest = manifests.read_manifest(damaged)
    manifest["segments"][0]["last_id"] = manifest["segments"][0]["first_id"] + (1 << 27)
    manifest["next_id"] = 1 << 40
    del manifest["segments"][1]
    manifests.write_manifest(damaged, manifest)
    done = subprocess.run([sys.executable, "-c", LIMITED, str(damaged)], capture_output=True, text=True, check=False)
    assert done.returncode == 3
    assert "rows.u32" in done.stderr
    assert "Traceback" not in done.stderr


def test_metadata_that_is_no_parquet_is_told_by_its_name(damaged):
    """Sealed with its checksums: what Arrow raises is of the file, not of the condition."""
    catalog = Catalog.open(damaged)
    path = catalog.segments[0].folder / "items.parquet"
    manifest = manifests.read_manifest(damaged)
    files = manifest["segments"][0]["files"]
    del files[SUMS]
    other = pa.table({"id": ["x"] * 5, "caption": [1] * 5})
    for write in (lambda: path.write_bytes(b"PAR1" * 9), lambda: pq.write_table(other, path)):
        write()
        files["items.parquet"] = {
            "bytes": path.stat().st_size, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()
        }  # fmt: skip
        manifests.write_manifest(damaged, manifest)
        for ask in (lambda c: c.items([1]), lambda c: c.where("caption = 'row 5'"), lambda c: c.described_columns()):
            with pytest.raises(CatalogFormatError, match=r"items\.parquet"):
                ask(Catalog.open(damaged))
