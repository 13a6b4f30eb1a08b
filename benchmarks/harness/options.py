"""Types of command-line options, which are checked before the work begins."""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from gpubranches.errors import GpuBranchesError


def whole(least: int) -> Callable[[str], int]:
    """Return an option type for whole numbers of `least` or more."""

    def read(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = least - 1
        if value < least:
            raise argparse.ArgumentTypeError(f"expected a whole number of {least} or more, got {text!r:.40}")
        return value

    return read


def finite(least: float, *, above: bool = False) -> Callable[[str], float]:
    """Return an option type for finite numbers of at least `least`, or, with `above`, greater than `above`."""

    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not (value > least if above else value >= least) or math.isinf(value):
            expected = f"above {least:g}" if above else f"of {least:g} or more"
            raise argparse.ArgumentTypeError(f"expected a number {expected}, got {text!r:.40}")
        return value

    return read


def out_file(text: str) -> Path:
    """Return the path of a file that can be written, in a folder that exists; nothing is written yet."""
    path = Path(text)
    folder = path.parent
    if path.is_dir() or not folder.is_dir() or not os.access(path if path.exists() else folder, os.W_OK):
        raise argparse.ArgumentTypeError(f"expected a file that can be written, in a folder that exists, got {text!r}")
    return path


def out_prefix(text: str) -> Path:
    """Return the common beginning of file names, in a folder that can be written; create it if it is missing."""
    path = Path(text)
    out_folder(str(path.parent))
    return path


def out_folder(text: str) -> Path:
    """Return a folder that can be written; create it if it is missing."""
    path = Path(text)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise argparse.ArgumentTypeError(f"expected a folder that can be written: {error}") from error
    if not os.access(path, os.W_OK):
        raise argparse.ArgumentTypeError(f"expected a folder that can be written, got {text!r}")
    return path


@contextmanager
def in_one_sentence() -> Iterator[None]:
    """End the program with the message and the exit code of an error of the package."""
    try:
        yield
    except GpuBranchesError as error:
        print(f"Error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
