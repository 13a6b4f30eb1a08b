import subprocess
import sys

import numpy as np
import pytest

import gpubranches


def test_the_public_names_are_these_and_all_of_them_import():
    assert gpubranches.__all__ == [
        "Answer",
        "Box",
        "Boxes",
        "Candidates",
        "Catalog",
        "GpuBranchesError",
        "Hits",
        "Matches",
        "Neighbors",
        "Ranking",
        "RefineOptions",
        "Session",
        "VocabularyEmbedder",
        "ingest",
        "open_backend",
        "open_embedder",
    ]
    for name in gpubranches.__all__:
        assert getattr(gpubranches, name).__name__ == name


def test_importing_loads_numpy_and_nothing_heavier():
    script = (
        "import sys, gpubranches, gpubranches.core.boxes, gpubranches.encoders.quantizers, gpubranches.core.results\n"
        "heavy = 'numba pyarrow duckdb torch open_clip sklearn scipy flask click PIL faiss pandas'.split()\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_module_runs_the_command_line():
    command = [sys.executable, "-m", "gpubranches"]
    done = subprocess.run([*command, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"gpubranches, version {gpubranches.__version__}\n"
    refused = subprocess.run([*command, "info", "no-such-catalog"], capture_output=True, text=True, check=False)
    assert (refused.returncode, refused.stdout) == (3, "")
    assert refused.stderr.startswith("Error: no-such-catalog: expected a catalog")


def test_old_names_warn_and_do_what_the_new_ones_do(tmp_path):
    codes = np.random.default_rng(0).standard_normal((50, 8)).astype(np.float32)
    catalog = gpubranches.Catalog.from_embeddings(tmp_path / "c", codes, head="pca", d=8)
    backend = gpubranches.open_backend("oracle", catalog)
    boxes = gpubranches.Boxes(
        [gpubranches.Box(np.array([1], np.int16), np.array([9], np.uint8), np.array([99], np.uint8))]
    )
    with pytest.warns(DeprecationWarning, match=r"Catalog.take is now codes"):
        assert np.array_equal(catalog.take([3, 1]), catalog.codes([3, 1]))
    with pytest.warns(DeprecationWarning, match=r"Catalog.describe is now set_source") as noted:
        catalog.describe({"made": "again"})
    assert noted[0].filename == __file__
    assert catalog.source == {"made": "again"}
    with pytest.warns(DeprecationWarning, match=r"Backend.evaluate is now apply"):
        one = backend.evaluate(boxes)
    with pytest.warns(DeprecationWarning, match=r"Backend.evaluate_many is now apply_many"):
        (other,) = backend.evaluate_many([boxes])
    assert one.ids.tolist() == other.ids.tolist() == backend.apply(boxes).ids.tolist()


def test_ingest_is_a_function_whatever_was_imported_before():
    script = "import gpubranches, gpubranches.ingestion.build; print(gpubranches.ingest.__name__)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "ingest"
