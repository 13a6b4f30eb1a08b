import subprocess
import sys

import gpubranches


def test_the_public_names_are_these_and_all_of_them_import():
    assert gpubranches.__all__ == [
        "Box",
        "Boxes",
        "Candidates",
        "Catalog",
        "GpuBranchesError",
        "Neighbors",
        "Ranking",
        "Session",
        "VocabularyEmbedder",
        "open_backend",
    ]
    for name in gpubranches.__all__:
        assert getattr(gpubranches, name).__name__ == name


def test_importing_loads_numpy_and_nothing_heavier():
    script = (
        "import sys, gpubranches, gpubranches.core.boxes, gpubranches.encoders.quantizers, gpubranches.core.results\n"
        "heavy = 'numba pyarrow duckdb torch open_clip sklearn scipy flask click PIL faiss'.split()\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
