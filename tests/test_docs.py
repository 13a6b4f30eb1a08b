"""Every command is documented, every printed command runs."""

import re
import shlex
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import click
import numpy as np
import pytest
from clusters import write_world

from gpubranches import Catalog, VocabularyEmbedder, cli, open_backend
from gpubranches.app import create_app, open_server
from gpubranches.engines.gpu.cupy_device import usable

ROOT = Path(__file__).resolve().parent.parent
DOCS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(language):
    pattern = re.compile(rf"```{language}\n(.*?)```", re.DOTALL)
    return [(path, block) for path in DOCS for block in pattern.findall(path.read_text())]


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
    """A folder in which the documents' commands can run: a catalog, and a clip-retrieval folder in place of photos."""
    path = tmp_path_factory.mktemp("docs")
    write_world(path, 700)
    (path / "images").rename(path / "photos")
    vocabulary = f"vocabulary:{path}/text/emb.npy,{path}/text/names.json"
    run(["ingest", "photos", "--out", "catalog", "--embedder", vocabulary], path)
    (path / "clip").symlink_to(path / "photos")
    (path / "ids.txt").write_text("7 8 9\n")
    (path / "groups.json").write_text('{"vehicle": {"query": null, "label": ["red car", "bicycle"]}}')
    np.save(path / "vector.npy", np.load(path / "photos/img_emb/img_emb_0.npy")[0])
    return path


def run(arguments, folder):
    command = [sys.executable, "-c", "from gpubranches.cli import main; main()", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_every_printed_command_runs(workplace):
    ran = 0
    seen = set()
    for path, block in blocks("sh"):
        for line in block.splitlines():
            words = shlex.split(line)
            if (path, line) in seen:
                continue
            seen.add((path, line))
            if not words or words[0] != "gpubranches" or words[1] in ("serve", "demo"):
                continue
            if "open_clip" in line:  # needs weights from the network: the vocabulary stands in for the model
                words = words[: words.index("--embedder")]
                words[words.index("--out") + 1] = f"catalog-{ran}"
            if "a red bicycle" in words:
                words[words.index("a red bicycle")] = "kangaroo"
            if "--rows" in words:  # the engines are the same at any size
                words[words.index("--rows") + 1] = "5e3"
                words += ["--seconds", "0"]
            done = run(words[1:], workplace)
            no_card = "gpu" in words and words[1] != "bench" and usable() is not None
            assert done.returncode == (4 if no_card else 0), (path.name, line, done.stderr)
            ran += 1
    assert ran >= 10


def test_every_printed_query_of_duckdb_runs(workplace):
    """Its command line is stood in for by the Python package."""
    found = [line for _, block in blocks("sh") for line in block.splitlines() if line.startswith("duckdb ")]
    assert found
    assert run(["export", "catalog", "codes", "codes.parquet"], workplace).returncode == 0
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
    for path, block in blocks("sh"):
        for word in re.findall(r"(?:scripts|benchmarks)[/.][\w.]+", block):
            file = ROOT / (word if word.startswith("scripts") else word.replace(".", "/") + ".py")
            assert file.exists() or (file.with_suffix("") / "__main__.py").exists(), (path.name, word)
            if word.startswith("scripts"):
                assert file.stat().st_mode & 0o111, word


def test_every_python_block_runs(workplace):
    found = blocks("python")
    assert found
    for path, block in found:
        done = subprocess.run([sys.executable, "-c", block], cwd=workplace, capture_output=True, text=True, check=False)
        assert done.returncode == 0, (path.name, done.stderr)


def test_links_between_documents_lead_somewhere():
    for path in [*DOCS, ROOT / "CONTRIBUTING.md"]:
        for target in re.findall(r"\]\(([^)#:]+)\)", path.read_text()):
            assert (path.parent / target).exists(), (path.name, target)
