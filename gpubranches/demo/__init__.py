"""The demo, real and offline: scenes are rendered and embedded by a small model shipped here."""

from gpubranches.demo.build import build_demo

__all__ = ["build_demo"]
