import subprocess
import sys

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
