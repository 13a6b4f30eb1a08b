"""Run a command in a separate process, with a time limit."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


_ENDING_S = 5
"""Seconds for an ended command to close its output; a hanging driver, or a child in its own session, may hold it."""


def run(command: list[str], limit_s: float, **environment: str) -> tuple[int, str]:
    """Return exit status and the end of the output; at the limit end the command and its children, with status 124."""
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
        printed, status = _last_words(started), 124
    return status, printed[-3000:]


def _last_words(ended: subprocess.Popen[str]) -> str:
    """Return what an ended command has printed, even if its output stays open."""
    try:
        return ended.communicate(timeout=_ENDING_S)[0]
    except subprocess.TimeoutExpired as error:
        ended.poll()
        if ended.stdout is not None:
            ended.stdout.close()
        printed: bytes = error.output or b""  # bytes even in text mode
        return printed.decode(errors="replace")
