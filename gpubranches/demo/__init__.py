"""The demo, real and offline: scenes are rendered, embedded by a small model shipped here, searched and refined."""

from gpubranches.demo.build import build_demo
from gpubranches.research.quality.demo_check import DemoReport, check_demo

__all__ = ["DemoReport", "build_demo", "check_demo"]
