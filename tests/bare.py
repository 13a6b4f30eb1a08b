"""Python on a machine with CuPy, NumPy, torch and pytest alone: every other package is out of reach."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
MISSING = (
    *(
        "numba",
        "sklearn",
        "scipy",
        "threadpoolctl",
        "hypothesis",
        "safetensors",
        "pyarrow",
        "duckdb",
        "flask",
        "waitress",
    ),
    *("click", "rich", "PIL", "faiss", "matplotlib", "playwright", "psutil"),
)


def bare(program, *args):
    """Run a program text there; return its exit status and all it printed."""
    hidden = f"import sys; sys.modules.update(dict.fromkeys({MISSING}))"
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPATH": paths}
    command = [sys.executable, "-c", f"{hidden}\n{program}", *map(str, args)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr
