"""Dockerfile.cuda names what this repository has: extras, files, commands, options, routes."""

import json
import re
import tomllib
from pathlib import Path

import click

from gpubranches import cli

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "Dockerfile.cuda").read_text()
LINES = [" ".join(line.split()) for line in TEXT.replace("\\\n", " ").splitlines() if line and not line.startswith("#")]


def those(keyword):
    return [line.removeprefix(f"{keyword} ") for line in LINES if line.startswith(f"{keyword} ")]


def test_the_install_lines_are_those_of_the_project():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    installs = [line for line in those("RUN") if "pip install" in line and "." in line.split()[-1]]
    assert len(installs) == 1
    (named,) = re.findall(r'"\.\[([\w,-]+)\]"', installs[0])
    assert set(named.split(",")) <= set(extras)
    assert "-c constraints.txt" in installs[0]
    assert {"cupy-cuda13x[ctk]", "faiss-gpu-cuvs"} == {re.split("[<>=]", one)[0] for one in extras["gpu-cu13"]}
    assert {"cupy-cuda12x[ctk]", "faiss-gpu"} == {re.split("[<>=]", one)[0] for one in extras["gpu-cu12"]}


def test_what_is_copied_is_there_and_enough_for_a_wheel():
    copied = {name for line in those("COPY") if "--from" not in line for name in line.split()[:-1]}
    assert all((ROOT / name).exists() for name in copied)
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert {*settings["tool"]["setuptools"]["package-dir"].values(), "gpubranches", "pyproject.toml"} <= copied
    assert set(settings["project"]["license-files"]) <= copied
    assert settings["project"]["readme"] in copied


def test_it_runs_as_nobody_special_and_keeps_the_caches():
    assert those("USER") == ["gpubranches"]
    assert LINES.index("USER gpubranches") < LINES.index('ENTRYPOINT ["gpubranches"]')
    assert json.loads(those("VOLUME")[0]) == ["/catalog", "/cache"]
    assert "CUPY_CACHE_DIR=/cache" in those("ENV")[0]
    assert len(those("FROM")) == 2


def test_the_command_and_the_health_check_exist():
    command, directory, *options = json.loads(those("CMD")[0])
    parameters = cli.cli.get_command(click.Context(cli.cli), command).params
    known = {option for parameter in parameters if isinstance(parameter, click.Option) for option in parameter.opts}
    assert directory == "/catalog"
    assert {option for option in options if option.startswith("--")} <= known
    assert "/healthz" in those("HEALTHCHECK")[0]
    assert '"/healthz"' in (ROOT / "gpubranches/app/health_routes.py").read_text()
    port = next(parameter for parameter in parameters if parameter.name == "port")
    assert f":{port.default}/healthz" in those("HEALTHCHECK")[0]
    assert those("EXPOSE") == [str(port.default)]
