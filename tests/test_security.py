"""What docs/security.md promises: each promise names its test, and some have theirs here."""

import ast
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from serving import *  # noqa: F403

ROOT = Path(__file__).resolve().parent.parent
NAMED = re.compile(r"`(test_\w+\.py)::(test_\w+)`")


def defined_in(name):
    tree = ast.parse((ROOT / "tests" / name).read_text())
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def test_every_line_of_the_threat_model_names_tests_that_exist():
    text = (ROOT / "docs/security.md").read_text()
    rows = [line for line in text.splitlines() if line.startswith("| ") and not line.startswith("| what |")]
    assert len(rows) > 30
    for row in rows:
        cells = [cell.strip() for cell in row.strip("|").split("|")]
        assert len(cells) == 4, row
        assert all(cells), row
        assert NAMED.findall(cells[3]), row
    for file, test in NAMED.findall(text):
        assert test in defined_in(file), (file, test)


def test_the_policy_says_whom_to_tell_and_what_is_supported():
    text = (ROOT / "SECURITY.md").read_text()
    version = re.search(r'^version = "(\d+\.\d+)', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)[1]
    assert f"| {version} and the main branch | yes |" in text
    assert "security advisory of this repository" in text
    for target in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (ROOT / target).exists(), target


def _module(node):
    return ast.alias(getattr(node, "module", None) or "")


RUNS = {"eval", "exec", "compile", "__import__", "pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve"}


def test_nothing_that_was_read_is_run():
    """No pickle in any form, no evaluation of text, no shell; torch.load of tensors alone."""
    paths = [*(ROOT / "gpubranches").rglob("*.py"), *(ROOT / "benchmarks").rglob("*.py")]
    assert len(paths) > 100
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = {name.name.split(".")[0] for name in (*node.names, _module(node))}
                assert not names & RUNS, path
            elif isinstance(node, ast.Call):
                called = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
                options = {option.arg: getattr(option.value, "value", None) for option in node.keywords}
                assert not (isinstance(node.func, ast.Name) and called in RUNS), (path, node.lineno)
                assert not options.get("allow_pickle"), (path, node.lineno)
                assert not options.get("shell"), (path, node.lineno)
                if ast.unparse(node.func) == "torch.load":
                    assert options.get("weights_only") is True, (path, node.lineno)


def test_an_address_of_a_picture_is_not_fetched(client, monkeypatch):
    monkeypatch.setattr("socket.socket.connect", None)
    monkeypatch.setattr("socket.create_connection", None)
    told = client.post("/knn-service", json={"image_url": "http://127.0.0.1:9/secret.jpg"})
    assert told.status_code == 422
    assert "does not fetch URLs" in told.get_data(as_text=True)


AUDITED = [{"name": "torch", "version": "2", "vulns": []}, {"name": "flask", "version": "3", "vulns": []}]
FOUND = {"name": "jinja", "version": "1", "vulns": [{"id": "PYSEC-1", "fix_versions": ["4"]}]}


@pytest.mark.parametrize(
    ("answer", "errors", "status", "says"),
    [
        ({"dependencies": AUDITED}, "", 0, "2 packages, 0 known vulnerabilities"),
        (
            {"dependencies": [*AUDITED, FOUND]},
            "Found 1 known vulnerability",
            1,
            "jinja 1: PYSEC-1, mended in 4\n3 packages, 1 known vulnerabilities",
        ),
        (
            None,
            "ERROR: connection refused",
            3,
            "expected an answer about every package, got: ERROR: connection refused;",
        ),
        (None, "", 3, "got: nothing; try"),
        ({}, "odd", 3, "got: odd; try"),
    ],
)
def test_the_audit_says_what_it_found_or_that_it_got_no_answer(tmp_path, answer, errors, status, says):
    """With stand-ins for the environment and for pip-audit, which needs the network."""
    (tmp_path / "scripts").mkdir()
    shutil.copy(ROOT / "scripts/audit", tmp_path / "scripts")
    shutil.copy(ROOT / "constraints.txt", tmp_path)
    bin = tmp_path / ".venv/bin"
    bin.mkdir(parents=True)
    script = f"#!{sys.executable}\nimport sys\n"
    audit = script + f"options, answer, errors, status = sys.argv, {answer!r}, {errors!r}, {int(bool(status))}\n"
    audit += "pins = open(options[options.index('--requirement') + 1]).read()\n"
    audit += "assert 'torch==' in pins and 'numpy==' in pins and '+' not in pins and '--strict' in options\n"
    audit += "import json\n"
    audit += "if answer is not None:\n    json.dump(answer, open(options[options.index('--output') + 1], 'w'))\n"
    audit += "sys.stderr.write(errors)\nsys.exit(status)\n"
    for path, text in {
        tmp_path / "scripts/environment": "#!/bin/sh\n",
        bin / "python": f'#!/bin/sh\nexec {sys.executable} "$@"\n',
        bin / "pip-audit": audit,
    }.items():
        path.write_text(text)
        path.chmod(0o755)
    done = subprocess.run(["scripts/audit"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == status, done.stderr
    assert says in (done.stdout if status < 3 else done.stderr)
    assert "Traceback" not in done.stderr
