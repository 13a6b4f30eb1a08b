"""What fuzzing found, each with its whole kind: JSON, heads, sessions, indexes and metadata that are nearly right."""

import json
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import load, save

from benchmarks.fuzz.catalogs import heads
from benchmarks.fuzz.containers import Colours, pictures
from benchmarks.fuzz.world import make
from gpubranches import Catalog, VocabularyEmbedder
from gpubranches.catalog.manifest import read_manifest, write_manifest
from gpubranches.catalog.pictures.image_files import picture_of
from gpubranches.cli.train_head import _names
from gpubranches.core.files import parse_json
from gpubranches.encoders.heads import IdentityHead, load_head
from gpubranches.engines.kdtree.build import build_index
from gpubranches.engines.kdtree.files import KdIndex, problems
from gpubranches.errors import CatalogFormatError, CatalogIndexError, ShardError, UsageError
from gpubranches.ingestion import build_catalog, ingest
from gpubranches.ingestion.inputs import is_catalog
from gpubranches.research.quality.groups import read_groups
from gpubranches.service.merging import merge
from gpubranches.service.session_files import FORMAT, VERSION, unpack

DEEP = "[" * 100_000


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return make(tmp_path_factory.mktemp("world"))


def test_json_that_is_nested_too_deeply_is_refused_by_every_reader(tmp_path, world):
    path = tmp_path / "manifest.json"
    path.write_text(DEEP)
    with pytest.raises(ValueError, match="nested too deeply"):
        parse_json(DEEP)
    assert not is_catalog(tmp_path)
    for read, error in (
        (lambda: VocabularyEmbedder.load(world.folder / "text.npy", path), CatalogFormatError),
        (lambda: Catalog.open(tmp_path), CatalogFormatError),
        (lambda: read_groups(path), UsageError),
        (lambda: _names(path), UsageError),
        (lambda: unpack(DEEP), UsageError),
    ):
        with pytest.raises(error, match="nested too deeply"):
            read()


@pytest.mark.parametrize("name", ["red car\n", "\x1b[2J", "\u202e", "\u2028"])
def test_names_of_a_vocabulary_stay_within_the_line_of_a_message(tmp_path, world, name):
    (tmp_path / "names.json").write_text(json.dumps([name, "teapot", "kangaroo", "dog"]))
    embedder = VocabularyEmbedder.load(world.folder / "text.npy", tmp_path / "names.json")
    with pytest.raises(UsageError) as told:
        embedder.texts(["nothing like it"])
    assert str(told.value).isprintable()


def test_names_that_cannot_be_written_are_refused(tmp_path, world):
    (tmp_path / "names.json").write_text(json.dumps(["\ud800", "teapot", "kangaroo", "dog"]))
    with pytest.raises(CatalogFormatError, match="expected a JSON list of strings"):
        VocabularyEmbedder.load(world.folder / "text.npy", tmp_path / "names.json")


FILE = {"format": FORMAT, "version": VERSION, "name": "", "asked": "", "query": "", "words": "", "where": "", "seed": 0}
FILE |= {"model": "ensemble", "second_stage": None, "random_negatives": 10, "negative_weight": 10.0, "lean": 0.0}
FILE |= {"marks": [], "pictures": []}


@pytest.mark.parametrize("name", FILE)
def test_a_file_of_a_session_that_lacks_a_part_is_read_or_told_which(name):
    text = json.dumps({key: value for key, value in FILE.items() if key != name})
    if name in ("words", "where", "random_negatives", "negative_weight", "pictures"):
        assert set(unpack(text)) == set(FILE)  # older files lack these
    else:
        with pytest.raises(UsageError, match=name):
            unpack(text)


@pytest.mark.parametrize("d", [-(2**63), -4, 0, 2, 6, 1028, 2**62])
def test_a_head_of_no_dims_or_endless_ones_is_refused(tmp_path, d):
    (tmp_path / "head.safetensors").write_bytes(save({"d": np.array([d], np.int64)}, {"kind": "none"}))
    with pytest.raises(CatalogFormatError, match="expected dims of a multiple of 4 up to 1,024"):
        load_head(tmp_path / "head.safetensors")
    (tmp_path / "head.safetensors").write_bytes(IdentityHead().fit(np.ones((1, 8), np.float32)).to_bytes())
    assert load_head(tmp_path / "head.safetensors").d == 8


ODD = [None, True, -1, 0, 1.5, 10**400, "x", [], {}, [[]], {"names": [1]}, {"names": ["\ud800"]}, {"names": "abc"}]


@pytest.mark.parametrize("name", ["d", "text_tower", "training", "embedder", None])
def test_the_configuration_of_a_head_holds_what_it_should_or_is_refused(tmp_path, name):
    path = tmp_path / "head.safetensors"
    path.write_bytes(heads()[3])
    tensors = load(path.read_bytes())
    about = json.loads(tensors["config"].tobytes())
    for odd in ODD:
        changed = odd if name is None else {**about, name: odd}
        tensors["config"] = np.frombuffer(json.dumps(changed).encode(), np.uint8)
        path.write_bytes(save(tensors, {"kind": "trained"}))
        if (name, odd) in (("embedder", "x"), ("training", {})):
            load_head(path)
        else:
            with pytest.raises(CatalogFormatError, match="expected a head"):
                load_head(path)


COLUMNS = {
    "nothing": pa.nulls(6),
    "no texts": pa.nulls(6, pa.string()),
    "empty texts": pa.array([""] * 6),
    "numbers": pa.array(range(6)),
    "dates beyond Python's": pa.array([-(2**31)] * 6, pa.int32()).view(pa.date32()),
    "times beyond Python's": pa.array([2**62] * 6, pa.int64()).view(pa.timestamp("us")),
    "bytes": pa.array([b"\xff"] * 6),
    "texts that are no UTF-8": pa.array([b"/\xff"] * 6).view(pa.string()),
    "lists": pa.array([["a"]] * 6),
    "maps": pa.array([[("a", 1)]] * 6, pa.map_(pa.string(), pa.int64())),
    "categories": pa.array(["a"] * 6).dictionary_encode(),
}


@pytest.mark.parametrize("kind", COLUMNS)
def test_a_column_of_pictures_may_be_of_any_type(tmp_path, kind):
    for name in ("img_emb", "metadata"):
        (tmp_path / "in" / name).mkdir(parents=True)
    rows = np.random.default_rng(0).standard_normal((6, 8)).astype(np.float32)
    rows[2] = np.nan
    np.save(tmp_path / "in/img_emb/img_emb_0.npy", rows)
    pq.write_table(pa.table({"image_path": COLUMNS[kind]}), tmp_path / "in/metadata/metadata_0.parquet")
    report = build_catalog([tmp_path / "in"], tmp_path / "c", d=4)
    assert (report.n, report.errors) == (5, 1)
    catalog = Catalog.open(tmp_path / "c")
    assert [error["id"] for error in catalog.errors()] == [2]
    assert "image_path" in catalog.items([0])[0]


IN_TABLES = [(kind, "parquet") for kind in COLUMNS] + [
    (kind, "arrow")
    for kind in COLUMNS
    if kind != "texts that are no UTF-8"  # Arrow files are checked as a whole
]


@pytest.mark.parametrize(("kind", "ending"), IN_TABLES)
def test_a_table_of_embeddings_may_name_pictures_by_any_type(tmp_path, kind, ending):
    rows = np.random.default_rng(0).standard_normal((6, 8)).astype(np.float32)
    write_table(tmp_path / f"x.{ending}", pa.table({"embedding": list(rows), "image_path": COLUMNS[kind]}))
    report = build_catalog([tmp_path / f"x.{ending}"], tmp_path / "c", d=4)
    assert (report.n, report.errors) == (6, 0)
    assert ("image_path" in Catalog.open(tmp_path / "c").items([0])[0]) == (kind != "bytes")


@pytest.mark.parametrize(("kind", "ending"), IN_TABLES)
def test_paths_beside_pictures_may_be_of_any_type(tmp_path, kind, ending):
    content = pa.array(pictures(), pa.binary())[:6]
    path = COLUMNS[kind]
    path = path.combine_chunks() if isinstance(path, pa.ChunkedArray) else path
    image = pa.StructArray.from_arrays([content, path], ["bytes", "path"])
    write_table(tmp_path / f"x.{ending}", pa.table({"image": image}))
    catalog = ingest(tmp_path / f"x.{ending}", tmp_path / "c", embedder=Colours(), d=4)
    assert (catalog.n, catalog.n_errors) == (6, 0)
    for item, expected in zip(catalog.items(range(6)), pictures(), strict=False):
        with picture_of(catalog.source, item).open() as file:
            assert file.read() == expected


@pytest.mark.parametrize("name", ["embedding", "deep", "image"])
@pytest.mark.parametrize("ending", ["parquet", "arrow"])
def test_a_name_of_a_column_that_is_not_utf_8_is_refused(tmp_path, name, ending):
    rows = [[1.0, 2, 3, 4]] * 6
    table = pa.table({"embedding": rows, "a": [{"deep": 1}] * 6, "image": pa.array(pictures()[:6], pa.binary())})
    write_table(tmp_path / "sound", table, ending)
    content = (tmp_path / "sound").read_bytes()
    (tmp_path / f"x.{ending}").write_bytes(content.replace(name.encode(), b"\xff" + name[1:].encode()))
    with pytest.raises(CatalogFormatError, match=r"not UTF-8|can't decode"):
        build_catalog([tmp_path / f"x.{ending}"], tmp_path / "c", embedder=Colours(), d=4)


def write_table(path, table, ending=""):
    """Write a table as Parquet, or as an Arrow file without compression."""
    if (ending or path.suffix[1:]) == "parquet":
        pq.write_table(table, path)
        return
    with pa.ipc.new_file(str(path), table.schema) as writer:
        writer.write_table(table)


@pytest.mark.parametrize(
    "shard", ["1/2/3", "1", "", "a/b", "-1/2", "1/2\n", "9" * 400 + "/2", None, 3, [], {}, "0/0", "3/2"]
)
def test_a_manifest_that_says_anything_else_of_its_shard_is_refused(tmp_path, world, shard):
    path = shutil.copytree(world.catalog, tmp_path / "part")
    manifest = read_manifest(path)
    manifest["source"]["made_with"]["shard"] = shard
    write_manifest(path, manifest)
    with pytest.raises((CatalogFormatError, ShardError)):
        merge(tmp_path / "merged", [path, world.catalog])


def test_an_index_whose_manifest_says_anything_else_is_refused(tmp_path, world):
    path = tmp_path / "c"
    shutil.copytree(world.catalog, path)
    catalog = Catalog.open(path)
    build_index(catalog)
    KdIndex.open(path / "kdtree", catalog, "build it again")
    file = path / "kdtree/manifest.json"
    sound = json.loads(file.read_text())
    trees = sound["trees"]
    wrong = {
        "n": [-1, 0, sound["n"] + 1, 2**70, 1.0, True, "1", None],
        "trees": [[], [[]], [[-1]], [[8]], [[2**62]], [[0, 0]], [[True]], [[0.0]], "x", trees[:-1], [*trees, [0]]],
        "files": [[], {}, {"../x": {}}, {name: {} for name in sound["files"]}, {"bounds.u8": {"bytes": -1}}],
        "codes": [0, None, "x"],
        "generation": ["x", None, -1],
    }
    for name, values in wrong.items():
        for value in values:
            file.write_text(json.dumps({**sound, name: value}))
            with pytest.raises(CatalogIndexError, match=r"; build it again$"):
                KdIndex.open(path / "kdtree", catalog, "build it again")
            assert all("\n" not in problem for problem in problems(path / "kdtree"))
