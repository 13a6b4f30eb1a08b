"""Where files that are not Python lie: inside the installed package, else in the checkout beside it."""

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[1]


def folder(name: str) -> Path:
    """Return a folder of the house such as `web`, as shipped in a wheel or as checked out."""
    installed = _PACKAGE / name
    return installed if installed.is_dir() else _PACKAGE.parent / name
