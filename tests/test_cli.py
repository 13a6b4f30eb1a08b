import json
import re

import duckdb
import numpy as np
import pytest
from click.testing import CliRunner
from clusters import NAMES, write_world

from gpubranches import cli


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("world")
    write_world(path, 800)
    return path


@pytest.fixture(scope="module")
def catalog(folder):
    vocabulary = f"vocabulary:{folder}/text/emb.npy,{folder}/text/names.json"
    arguments = ["ingest", str(folder / "images"), "--out", str(folder / "catalog"), "--embedder", vocabulary, "--json"]
    done = CliRunner().invoke(cli.cli, arguments)
    assert json.loads(done.stdout)["n"] == 800
    return folder / "catalog"


def test_search_and_refine_print_one_json_object(run, catalog):
    code, out, _ = run("search", catalog, NAMES[0], "-k", 100, "--json")
    found = json.loads(out)
    assert code == 0
    assert len(found["ids"]) == found["total"] == 100
    captions = {row["id"]: row["caption"] for row in _items(run, catalog, found["ids"])}
    right = [i for i in found["ids"] if captions[i] == NAMES[0]]
    wrong = [i for i in found["ids"] if captions[i] != NAMES[0]]
    positive, negative = ",".join(map(str, right[:8])), ",".join(map(str, wrong[:10]))
    code, out, _ = run("refine", catalog, "--positive", positive, "--negative", negative, "--seed", 5, "--json")
    answer = json.loads(out)
    assert code == 0
    assert {"ids", "scores", "votes", "matched", "total", "timings_ms", "backend", "seed"} <= set(answer)
    assert answer["seed"] == 5
    assert answer["total"] >= 8
    again = json.loads(run("refine", catalog, "--positive", positive, "--negative", negative, "--seed", 5, "--json")[1])
    assert again["ids"] == answer["ids"]
    for name in ("precision", "recall"):
        low, middle, high = answer[name]
        assert 0 <= low <= middle <= high <= 1
        assert again[name] == answer[name]
    marks = ["--positive", positive, "--negative", negative, "--seed", 5]
    totals = [json.loads(run("refine", catalog, *marks, "--lean", lean, "--json")[1])["total"] for lean in (-1, 0, 1)]
    assert totals == sorted(totals)
    assert (totals[1], answer["lean"]) == (answer["total"], 0)
    named = ("sure", "likely", "borderline")
    assert all(
        tier in named if matched else tier is None
        for tier, matched in zip(answer["tiers"], answer["matched"], strict=True)
    )
    told = run("refine", catalog, *marks, "--negative-weight", 10)[1]
    assert "precision" in told
    assert sum(int(count) for count in re.findall(r"(\d+) (?:sure|likely|borderline)", told)) == answer["total"]


def test_refine_reads_ids_from_a_file_and_writes_matches_and_sql(run, catalog, tmp_path):
    (tmp_path / "ids.txt").write_text("1 2\n3,4\n")
    code, out, _ = run("refine", catalog, "--positive", f"@{tmp_path}/ids.txt", "--out", tmp_path / "found.csv")
    assert code == 0
    assert "match" in out
    lines = (tmp_path / "found.csv").read_text().splitlines()
    assert len(lines) >= 5
    code, out, _ = run("refine", catalog, "--positive", "1,2,3", "--model", "branch", "--sql")
    assert code == 0
    assert out.startswith("SELECT")


@pytest.mark.parametrize("model", ["ensemble", "branch-classic", "forest"])
def test_the_printed_sql_over_the_exported_codes_gives_the_answer(run, catalog, tmp_path, model):
    """By votes alone its ids are the matches, but for marked items; with a second stage they are the candidates."""
    assert run("export", catalog, "codes", tmp_path / "codes.parquet")[0] == 0
    con = duckdb.connect()
    con.execute(f"CREATE VIEW codes AS FROM '{tmp_path}/codes.parquet'")
    columns = [(name, kind) for name, kind, *_ in con.execute("DESCRIBE codes").fetchall()]
    assert columns == [("id", "BIGINT"), *((f"c{dim}", "UTINYINT") for dim in range(32))]
    found = json.loads(run("search", catalog, NAMES[0], "-k", 12, "--json")[1])["ids"]
    marks = ["--positive", ",".join(map(str, found)), "--negative", "1,2,3", "--model", model]
    for stage in ("--no-second-stage", "--second-stage"):
        code, sql, _ = run("refine", catalog, *marks, stage, "--sql")
        assert code == 0
        selected = {item for item, _ in con.execute(sql).fetchall()}
        answer = json.loads(run("refine", catalog, *marks, stage, "--limit", 800, "--json")[1])
        if stage == "--second-stage":
            assert len(selected) == answer["candidates"]
            assert set(answer["ids"]) <= selected | set(found)
        else:
            matched = {item for item, match in zip(answer["ids"], answer["matched"], strict=True) if match}
            assert (selected | set(found)) - {1, 2, 3} == matched


def test_explain_tells_the_boxes_of_an_item(run, catalog):
    marks = ["--positive", "1,2,3,4", "--negative", "5,6", "--no-second-stage", "--seed", 3]
    code, out, _ = run("explain", catalog, 1, *marks, "--json")
    assert code == 0
    told = json.loads(out)
    answer = json.loads(run("refine", catalog, *marks, "--json", "--limit", 800)[1])
    assert (
        told["votes"]
        == dict(zip(answer["ids"], answer["votes"], strict=True))[1]
        == len({b["estimator"] for b in told["held"]})
    )
    assert (told["needed"], told["n_estimators"], told["mark"], told["item"]) == (13, 25, 1, 1)
    code, out, _ = run("explain", catalog, 1, *marks)
    assert code == 0
    assert "25 of 25 estimators hold it, 13 needed. Marked right" in out
    assert "Bounds it passes most narrowly" in out
    far = next(item for item in range(800) if item not in (*answer["ids"], 5, 6))
    code, out, _ = run("explain", catalog, far, *marks)
    assert code == 0
    assert "0 of 25 estimators hold it, 13 needed. It does not match." in out
    assert "Boxes it misses nearest" in out


def test_a_search_by_item_or_vector_file(run, catalog, folder, tmp_path):
    assert json.loads(run("search", catalog, "--like", 7, "-k", 3, "--json")[1])["ids"][0] == 7
    np.save(tmp_path / "v.npy", np.load(folder / "images/img_emb/img_emb_0.npy")[9])
    assert json.loads(run("search", catalog, "--vector", tmp_path / "v.npy", "-k", 3, "--json")[1])["ids"][0] == 9


def test_delete_append_compact_verify_and_info(run, catalog, folder, tmp_path):
    copy = tmp_path / "copy"
    assert run("ingest", folder / "images", "--out", copy)[0] == 0
    assert run("delete", copy, "0,5", "--json")[1] == '{"deleted": 2}\n'
    np.save(tmp_path / "more.npy", np.load(folder / "images/img_emb/img_emb_0.npy")[::-1])
    assert run("append", copy, tmp_path / "more.npy")[0] == 0
    assert run("compact", copy)[0] == 0
    assert "sound" in run("verify", copy)[1]
    data = json.loads(run("info", copy, "--json")[1])
    assert data["n"] == 1598
    victim = next((copy / "segments").rglob("codes.u8"))
    content = bytearray(victim.read_bytes())
    content[7] ^= 1
    victim.write_bytes(content)
    code, out, err = run("verify", copy)
    assert code == 3
    assert "codes.u8" in out
    assert "Traceback" not in err


def test_encode_makes_the_codes_anew_and_says_what_it_did(run, folder, tmp_path):
    copy = tmp_path / "copy"
    assert run("ingest", folder / "images", "--out", copy, "--quantizer", "quantile", "--dims", 16)[0] == 0
    code, out, _ = run("encode", copy, "--head", "pca", "--dims", 8, "--json")
    report = json.loads(out)
    assert code == 0
    assert {name: report[name] for name in ("catalog", "n", "d", "changed")} == {
        "catalog": str(copy),
        "n": 800,
        "d": 8,
        "changed": True,
    }
    space = json.loads(run("info", copy, "--json")[1])["space"]
    assert (report["head"], report["quantizer"]) == (space["head"], space["quantizer"])
    assert "nothing to do" in run("encode", copy)[1]
    assert "800 items have new codes of 8 dims" in run("encode", copy, "--quantizer", "quantile")[1]
    assert json.loads(run("info", copy, "--json")[1])["space"]["head"] == space["head"]
    assert "sound" in run("verify", copy)[1]
    (tmp_path / "head").write_bytes(b"no head")
    assert run("ingest", folder / "images", "--out", tmp_path / "other", "--head", "none")[0] == 0
    assert run("encode", copy, "--head", tmp_path / "other/head.safetensors")[0] == 0
    code, out, err = run("encode", copy, "--head", tmp_path / "head")
    assert (code, out) == (3, "")
    assert "Traceback" not in err


def test_export_writes_what_ingest_reads(run, catalog, tmp_path):
    assert run("export", catalog, "codes", tmp_path / "codes.u8bin")[0] == 0
    assert run("export", catalog, "embeddings", tmp_path / "emb")[0] == 0
    assert run("ingest", tmp_path / "codes.u8bin", "--out", tmp_path / "c1")[0] == 0
    assert run("ingest", tmp_path / "emb", "--out", tmp_path / "c2")[0] == 0
    found = json.loads(run("search", tmp_path / "c2", "--like", 7, "--json")[1])
    assert found["ids"] == json.loads(run("search", catalog, "--like", 7, "--json")[1])["ids"]


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["search", "{catalog}"], 2, "one query"),
        (["encode", "{catalog}", "--head", "svd"], 2, "pca, none or a head's file"),
        (["encode", "{catalog}", "--head", ""], 2, "pca, none or a head's file"),
        (["encode", "{catalog}", "--head", "pca", "--dims", "30"], 2, "multiple of 4"),
        (["encode", "{catalog}", "--quantizer", "cubic"], 2, "uniform"),
        (["encode", "{catalog}/nowhere"], 3, "nowhere"),
        (["search", "{catalog}", "zebra crossing"], 2, "zebra"),
        (["search", "{catalog}", "--like", "99999"], 2, "99999"),
        (["search", "{catalog}", "--vector", "{catalog}/manifest.json"], 3, ".npy"),
        (["search", "{catalog}/nowhere", "--like", "1"], 3, "nowhere"),
        (["refine", "{catalog}", "--positive", ""], 2, "marked right"),
        (["refine", "{catalog}", "--positive", "1,x"], 2, "--positive"),
        (["refine", "{catalog}", "--positive", "@/no/such/file"], 2, "/no/such/file"),
        (["refine", "{catalog}", "--positive", "1", "--out", "x.xls"], 2, ".csv, .parquet, .json"),
        (["ingest", "{catalog}/nowhere", "--out", "{catalog}-new"], 3, "nowhere"),
        (["serve", "{catalog}/nowhere"], 3, "nowhere"),
        (["search", "{catalog}", "kangaroo", "--embedder", "nonsense"], 2, "nonsense"),
        (["refine", "{catalog}"], 2, "--positive"),
        (["explain", "{catalog}", "99999", "--positive", "1"], 2, "99999"),
        (["explain", "{catalog}", "1", "--positive", "1", "--model", "linear"], 2, "has no boxes"),
        (["refine", "{catalog}", "--positive", "1", "--lean", "1.5"], 2, "--lean"),
        (["refine", "{catalog}", "--positive", "1", "--negative-weight", "0"], 2, "--negative-weight"),
        (["refine", "{catalog}", "--positive", "1", "--model", "oak"], 2, "branch-classic"),
    ],
)
def test_a_mistake_ends_in_a_message_and_an_exit_code(run, catalog, arguments, code, says):
    got, out, err = run(*[argument.format(catalog=catalog) for argument in arguments])
    assert (got, out) == (code, "")
    assert says in err
    assert "Traceback" not in err


def test_doctor_names_what_is_there(run):
    code, out, _ = run("doctor", "--json")
    assert code == 0
    parts = {finding["part"]: finding for finding in json.loads(out)["findings"]}
    assert parts["numpy"]["state"] == np.__version__
    assert {"GPU", "driver", "cupy", "CUDA majors", "faiss", "torch"} <= set(parts)


def _items(run, catalog, ids):
    from gpubranches import Catalog

    return Catalog.open(catalog).items(np.array(ids))
