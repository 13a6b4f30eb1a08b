"""Every command is documented, every printed command runs."""

import re
import shlex
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import click
import fsspec
import numpy as np
import pytest
from clusters import write_world
from input_files import hub_table, pictures, snapshot, two_tars, vectors, write_embeddings, write_saved, write_video

from gpubranches import Catalog, VocabularyEmbedder, cli, open_backend
from gpubranches.app import create_app, open_server
from gpubranches.engines.gpu.cupy_device import usable
from gpubranches.ingestion import ingest

ROOT = Path(__file__).resolve().parent.parent
DOCS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
PAGES = [*DOCS, *(ROOT / name for name in ("CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"))]
DECISIONS = sorted((ROOT / "docs/decisions").glob("[0-9]*.md"))
TUTORIAL = ROOT / "docs/tutorial.md"
"""Its blocks run in their own order, in tests/test_tutorial.py."""
LINK = re.compile(r"\]\(([^)\s]+)\)")


def blocks(language):
    pattern = re.compile(rf"```{language}\n(.*?)```", re.DOTALL)
    return [(path, block) for path in DOCS if path != TUTORIAL for block in pattern.findall(path.read_text())]


def without_blocks(text):
    return re.sub(r"```.*?```", "", text, flags=re.DOTALL)


def anchors(path):
    """Return the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", without_blocks(path.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


def commands():
    """Yield every command by the words that call it; the one that a group means unnamed by the group's."""
    for name, command in cli.cli.commands.items():
        if isinstance(command, click.Group):
            for word, part in command.commands.items():
                yield name if word == "models" else f"{name} {word}", part
        else:
            yield name, command


def test_every_command_and_option_is_documented():
    text = (ROOT / "docs/cli.md").read_text()
    for name, command in commands():
        assert f"## {name}\n" in text, name
        section = text.split(f"## {name}\n", 1)[1].split("\n## ", 1)[0]
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                for option in (*parameter.opts, *parameter.secondary_opts):
                    assert option in section, (name, option)


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """A folder in which the documents' commands can run: a catalog, and a clip-retrieval folder in place of photos.

    A store in memory stands in for those of the documents.
    """
    path = tmp_path_factory.mktemp("docs")
    write_world(path, 700)
    (path / "images").rename(path / "photos")
    vocabulary = f"vocabulary:{path}/text/emb.npy,{path}/text/names.json"
    ingest([path / "photos"], path / "catalog", embedder=vocabulary)
    (path / "clip").symlink_to(path / "photos")
    pictures(path / "phone", range(12))
    two_tars(path / "shards", range(12))
    snapshot(path / "beans", range(12))
    write_saved(path / "saved", hub_table(range(12)))
    write_video(path / "films/a.mp4")
    write_embeddings(path / "vectors.parquet", range(40))
    np.save(path / "rows.npy", vectors(range(40)))
    stores = fsspec.filesystem("memory")
    for folder, url in (("phone", "bucket"), ("shards", "bucket"), ("shards", "host"), ("beans", "datasets/org")):
        stores.put(str(path / folder), f"/{url}/", recursive=True)
    stores.put(str(path / "vectors.parquet"), "/container/vectors.parquet")
    (path / "ids.txt").write_text("7 8 9\n")
    (path / "groups.json").write_text('{"vehicle": {"query": null, "label": ["red car", "bicycle"]}}')
    np.save(path / "vector.npy", np.load(path / "photos/img_emb/img_emb_0.npy")[0])
    return path


def test_every_printed_command_runs(workplace, program, monkeypatch):
    """In this process, which has imported what they need. Plots are drawn by the tests of their commands only."""
    monkeypatch.chdir(workplace)
    monkeypatch.setattr("matplotlib.figure.Figure.savefig", lambda figure, path, **options: Path(path).touch())
    ran = 0
    seen = set()
    for path, block in blocks("sh"):
        for line in block.splitlines():
            words = shlex.split(line)
            if (path, line) in seen:  # another page may have changed the catalog meanwhile
                continue
            seen.add((path, line))
            if not words or words[0] != "gpubranches" or words[1] in ("serve", "demo"):
                continue
            if "open_clip" in line or "transformers:" in line:
                # The model needs weights from the network: the vocabulary stands in for it.
                words = words[: words.index("--embedder")]
                words[words.index("--out") + 1] = f"catalog-{ran}"
            words = [re.sub("^(s3|gs|az|hf|https)://", "memory://", word) for word in words]
            if "a red bicycle" in words:
                words[words.index("a red bicycle")] = "kangaroo"
            if "--rows" in words:  # the engines are the same at any size
                words[words.index("--rows") + 1] = "5e3"
                words += ["--seconds", "0"]
            if words[1] == "evaluate" and words[2] != "codes" and "--seeds" not in words:
                words += ["--seeds", "1"]
            if words[1] == "evaluate" and words[2] != "codes" and not {"--concepts", "--groups"} & set(words):
                words += ["--concepts", "3"]
            code, _, told = program(cli.main, *words[1:])
            no_card = "gpu" in words and words[1] != "bench" and usable() is not None
            assert code == (4 if no_card else 0), (path.name, line, told)
            ran += 1
    assert ran >= 10


def test_every_printed_query_of_duckdb_runs(workplace, run):
    """Its command line is stood in for by the Python package."""
    found = [line for _, block in blocks("sh") for line in block.splitlines() if line.startswith("duckdb ")]
    assert found
    assert run("export", workplace / "catalog", "codes", workplace / "codes.parquet")[0] == 0
    as_command = f"""
        gpubranches() {{ {sys.executable} -c "from gpubranches.cli import main; main()" "$@"; }}
        duckdb() {{ {sys.executable} -c "import duckdb, sys; print(duckdb.execute(sys.argv[2]).fetchall())" "$@"; }}
    """
    for line in found:
        done = subprocess.run(
            ["bash", "-euc", as_command + line], cwd=workplace, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, (line, done.stderr)
        assert done.stdout.startswith("[("), line


def test_every_printed_call_of_the_api_is_answered(workplace):
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    catalog = Catalog.open(workplace / "catalog")
    embedder = VocabularyEmbedder.load(workplace / "text/emb.npy", workplace / "text/names.json")
    with open_backend("oracle", catalog) as backend:
        server = open_server(create_app(catalog, backend, embedder=embedder), "127.0.0.1", 0)
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        found = [block for _, block in blocks("sh") if "curl " in block]
        assert found
        for block in found:
            asked = block.replace(":8765", f":{server.effective_port}")
            done = subprocess.run(
                ["bash", "-euo", "pipefail", "-c", asked], cwd=workplace, capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, (block, done.stdout, done.stderr)
        server.task_dispatcher.shutdown()  # a thread that has yet to say that it is done needs the server open
        server.close()
        thread.join(10)


def test_scripts_that_are_named_exist_and_can_run():
    for path, block in [*blocks("sh"), (TUTORIAL, TUTORIAL.read_text())]:
        for word in re.findall(r"(?:scripts|benchmarks)[/.][\w.]+", block):
            file = ROOT / (word if word.startswith("scripts") else word.replace(".", "/") + ".py")
            assert file.exists() or (file.with_suffix("") / "__main__.py").exists(), (path.name, word)
            if word.startswith("scripts"):
                assert file.stat().st_mode & 0o111, word


def test_every_python_block_runs(workplace, monkeypatch):
    found = blocks("python")
    assert found
    monkeypatch.chdir(workplace)
    for path, block in found:
        code = block.replace("a red bicycle", "kangaroo")
        exec(compile(code, path, "exec"), {"__name__": "__main__"})


@pytest.mark.parametrize("path", PAGES, ids=[str(path.relative_to(ROOT)) for path in PAGES])
def test_links_between_documents_lead_somewhere(path):
    for link in LINK.findall(without_blocks(path.read_text())):
        if "://" in link:
            continue
        target, _, anchor = link.partition("#")
        page = (path.parent / target).resolve() if target else path
        assert page.exists(), link
        assert page.is_relative_to(ROOT), link
        if anchor:
            assert anchor in anchors(page), link


def test_a_link_to_no_heading_would_be_seen():
    assert "a-catalog-without-embeddings" in anchors(ROOT / "docs/codes.md")
    assert "no-such-heading" not in anchors(ROOT / "docs/codes.md")


@pytest.mark.parametrize("path", PAGES[:-1], ids=[str(path.relative_to(ROOT)) for path in PAGES[:-1]])
def test_paths_that_a_page_names_exist(path):
    """All pages but the changelog, which names what there was."""
    named = re.findall(r"`((?:gpubranches|benchmarks|docs|kernels|scripts|tests|web)/[\w./-]*)", path.read_text())
    missing = [name for name in named if not (ROOT / name.rstrip(".")).exists()]
    assert not missing


def test_every_benchmark_that_a_page_names_exists():
    for path in PAGES:
        for module in re.findall(r"python -m (benchmarks[\w.]*)", path.read_text().replace("\n", " ")):
            file = ROOT / module.rstrip(".").replace(".", "/")
            assert file.with_suffix(".py").exists() or (file / "__main__.py").exists(), (path.name, module)


def test_the_index_names_every_page():
    index = (ROOT / "docs/README.md").read_text()
    named = {link.partition("#")[0] for link in LINK.findall(index)}
    pages = {path.name for path in (ROOT / "docs").glob("*.md")} - {"README.md"}
    assert pages <= named
    assert "decisions/README.md" in named


def test_every_decision_is_numbered_and_in_the_index():
    numbers = [int(path.name[:3]) for path in DECISIONS]
    assert numbers == sorted(set(numbers))
    index = LINK.findall((ROOT / "docs/decisions/README.md").read_text())
    assert sorted(index) == [path.name for path in DECISIONS]


@pytest.mark.parametrize("path", DECISIONS, ids=[path.stem for path in DECISIONS])
def test_a_decision_has_its_context_evidence_and_status(path):
    text = path.read_text()
    assert text.startswith(f"# {path.name[:3]}. ")
    assert re.findall("^## (.*)$", text, re.MULTILINE) == ["Context", "Decision", "Evidence", "Status"]
    for part in text.split("\n## ")[1:]:
        assert part.split("\n", 1)[1].strip(), part
    evidence = text.split("\n## Evidence\n", 1)[1].split("\n## ", 1)[0]
    assert re.search(r"`(tests/|python -m benchmarks|gpubranches evaluate|lint-imports)", evidence)


RESULTS = ROOT / "benchmarks/results"
TABLES = [
    ("docs/models.md", "| estimate | of |", "coverage.md"),
    ("docs/models.md", "| | sure: items |", "tiers.md"),
    ("docs/models.md", "| lean | size", "lean.md"),
    ("docs/results.md", "| what | ours |", "cpu-speed.md"),
]
README_NUMBERS = {
    "quality": "quality.md",
    "breadth": "breadth.md",
    "coverage": "coverage.md",
    "speed": "cpu-speed.md",
    "codes": "codes/codes.md",
}


def cells(line):
    return {cell.strip(" *") for cell in line.strip("|").split("|")} - {""}


@pytest.mark.parametrize(("page", "heading", "results"), TABLES, ids=[results for _, _, results in TABLES])
def test_a_table_has_the_numbers_of_the_results(page, heading, results):
    table = (ROOT / page).read_text().split(f"\n{heading}", 1)[1].split("\n\n", 1)[0].splitlines()[2:]
    measured = [cells(line) for line in (RESULTS / results).read_text().splitlines() if line.startswith("|")]
    assert table
    for line in table:
        assert any(cells(line) <= row for row in measured), line


def test_the_numbers_of_the_readme_are_in_the_results():
    rows = re.findall(r"^\| .* \| (.*) \| `python -m benchmarks\.(\w+)` \|$", (ROOT / "README.md").read_text(), re.M)
    assert [name for _, name in rows] == list(README_NUMBERS)
    for number, name in rows:
        text = (RESULTS / README_NUMBERS[name]).read_text()
        for value in re.split(", | and ", number):
            assert re.search(rf"(?<![\d.]){re.escape(value)}(?!\d)", text), (name, value)
