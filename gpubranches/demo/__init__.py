"""The offline demo: scenes are rendered, and embedded by a small model that ships with the package."""

from gpubranches.demo.build import build_demo

__all__ = ["build_demo"]
