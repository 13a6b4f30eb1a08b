"""Settings every test shares."""

import os
import shutil
import sys
from pathlib import Path

# Two OpenMP threads that fight for two busy cores make single faiss queries several times slower.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np
import pytest

try:
    from hypothesis import HealthCheck, settings
except ImportError:  # a machine with a GPU and little else: modules that need hypothesis skip themselves
    pass
else:
    settings.register_profile("suite", deadline=None, max_examples=25, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("suite")


MEMORY, LEAST_BYTES = Path("/dev/shm"), 4 << 30


def pytest_configure():
    """Put temporary folders in memory if it has room: every commit syncs its files, which takes time on a disk only."""
    if MEMORY.is_dir() and os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free >= LEAST_BYTES:
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY))


@pytest.fixture
def program(capsys, monkeypatch, tmp_path):
    """Run a `main` in this process, where its imports are loaded; return exit code, standard output and error."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    def run(main, *arguments):
        monkeypatch.setattr(sys, "argv", [main.__module__, *map(str, arguments)])
        try:
            main()
            code = 0
        except SystemExit as stop:
            code = stop.code or 0
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture
def run(program):
    """Run the command line in this process; return exit code, standard output and standard error."""
    from gpubranches import cli

    return lambda *arguments: program(cli.main, *arguments)


@pytest.fixture(scope="session")
def chromium():
    from browsing import ARGUMENTS, CHROMIUM
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def real(tmp_path_factory):
    """A part of the real embeddings of GPUBRANCHES_EVAL_DATA, see `real.write_part`."""
    from real import write_part

    if not os.environ.get("GPUBRANCHES_EVAL_DATA"):
        pytest.skip("GPUBRANCHES_EVAL_DATA is not set")
    return write_part(Path(os.environ["GPUBRANCHES_EVAL_DATA"]), tmp_path_factory.mktemp("real"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A world of pictures, see `pictures.write_served`."""
    from pictures import write_served

    path = tmp_path_factory.mktemp("world")
    write_served(path)
    return path


@pytest.fixture(scope="module")
def labels(folder):
    return np.load(folder / "labels.npy")


@pytest.fixture(scope="module")
def catalog(folder):
    from gpubranches import Catalog

    return Catalog.open(folder / "catalog")


@pytest.fixture(scope="module")
def backend(catalog):
    from gpubranches import open_backend

    with open_backend("oracle", catalog) as opened:
        yield opened


@pytest.fixture
def service(catalog, backend, embedder):
    """The service over the world of pictures, without earlier marks; the module defines `embedder`."""
    from gpubranches.service.catalog_service import CatalogService

    (catalog.path / "labels.sqlite").unlink(missing_ok=True)
    made = CatalogService(catalog, backend, embedder)
    yield made
    made.close()


@pytest.fixture(scope="module")
def server(folder):
    """The page of the world of pictures, served by a process of its own."""
    from browsing import Server

    vocabulary = f"vocabulary:{folder}/text/emb.npy,{folder}/text/names.json"
    with Server(folder / "catalog", vocabulary, "oracle") as running:
        yield running


@pytest.fixture
def page(chromium, server):
    from browsing import watched

    context = chromium.new_context(viewport={"width": 1200, "height": 800}, base_url=server.address)
    yield watched(context)
    context.close()


def pytest_collection_modifyitems(items):
    """Leave out what needs a CUDA device where CuPy sees none."""
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if not marked:
        return
    from gpubranches.engines.gpu.cupy_device import usable

    reason = usable()
    if reason is not None:
        for item in marked:
            item.add_marker(pytest.mark.skip(reason="no CUDA device"))
