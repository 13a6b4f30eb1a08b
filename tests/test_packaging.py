"""The wheel holds everything, and works where it is installed."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    out = tmp_path_factory.mktemp("wheel")
    source = tmp_path_factory.mktemp("source") / "gpubranches"
    subprocess.run(["git", "-C", ROOT, "checkout-index", "-a", f"--prefix={source}/"], check=True)
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-q", "-w", out, source]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return next(out.glob("*.whl"))


def test_the_wheel_holds_every_module_and_asset(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    tracked = subprocess.run(["git", "-C", ROOT, "ls-files"], capture_output=True, text=True, check=True).stdout.split()
    for path in tracked:
        if path.startswith("gpubranches/"):
            assert path in names, path
        elif path.startswith("web/"):
            assert f"gpubranches/{path}" in names, path
    assert not [name for name in names if name.startswith(("tests", "benchmarks", "scripts"))]


def test_the_installed_wheel_finds_its_files(wheel, tmp_path):
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    script = (
        "import gpubranches.core.assets as a\n"
        "assert a.folder('web').parent.name == 'gpubranches', a.folder('web')\n"
        "assert (a.folder('web') / 'static' / 'htmx.min.js').is_file()\n"
        "import gpubranches.cli, gpubranches.service, gpubranches.app\n"
        "from gpubranches.encoders.demo import WEIGHTS; assert WEIGHTS.is_file()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path / "site", capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
