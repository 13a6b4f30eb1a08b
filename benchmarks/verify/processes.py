"""Run a command in a separate process that ends at a time limit, and save what it found until then."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


def save(into: Path, found: Any) -> None:
    """Write what a step has found so far as JSON, whole or not at all."""
    part = into.with_suffix(".part")
    part.write_text(json.dumps(found, default=str))
    part.replace(into)


def run(command: list[str], limit_s: float, **environment: str) -> tuple[int, str]:
    """Return exit status and the end of what a command printed; at the limit it and all it started is ended: 124."""
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    started = subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": path, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    try:
        printed, status = started.communicate(timeout=limit_s)[0], started.returncode
    except subprocess.TimeoutExpired:
        os.killpg(started.pid, signal.SIGKILL)
        printed, status = started.communicate()[0], 124
    return status, printed[-3000:]
