"""What is installed on this machine, what works, and what to install for the rest."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import os
import platform
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Finding:
    """One part of the machine or of the installation: its state and, if something is missing, the advice."""

    part: str
    state: str
    advice: str = ""
    usable: bool = True

    def to_json(self) -> dict[str, str | bool]:
        """Return the fields as a dict."""
        return asdict(self)


def examine() -> list[Finding]:
    """Look at Python, the machine, the required packages, the extras and the GPU."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    findings = [
        Finding("python", platform.python_version()),
        Finding("machine", f"{platform.machine()}, {cores} cores, {_memory_gib():.0f} GiB"),
    ]
    for package in ("numpy", "numba", "pyarrow", "duckdb", "scikit-learn", "pillow", "flask"):
        findings.append(_package(package, "pip install gpubranches"))
    findings.append(_package("faiss-cpu", "pip install 'gpubranches[cpu]' for --nn faiss", module="faiss"))
    for package in ("torch", "torchvision", "open_clip_torch"):
        module = "open_clip" if package == "open_clip_torch" else package
        advice = "pip install -c constraints.txt 'gpubranches[clip]' to embed images and texts"
        findings.append(_package(package, advice, module=module))
    findings.append(_gpu())
    return findings


def _package(package: str, advice: str, *, module: str | None = None) -> Finding:
    """Find a package by its metadata or, when another distribution provides the module, by import lookup."""
    try:
        return Finding(package, importlib.metadata.version(package))
    except importlib.metadata.PackageNotFoundError:
        if module is not None and importlib.util.find_spec(module) is not None:
            return Finding(package, f"{module} of another distribution")
        return Finding(package, "not installed", advice, usable=False)


def _gpu() -> Finding:
    """Ask torch, which is the only package here that can see a CUDA device."""
    if importlib.util.find_spec("torch") is None:
        return Finding("GPU", "unknown: torch is not installed", "pip install 'gpubranches[clip]'", usable=False)
    torch = importlib.import_module("torch")
    if not torch.cuda.is_available():
        return Finding(
            "GPU", "none usable", "the cpu backend serves; a CUDA build of torch embeds faster", usable=False
        )
    return Finding("GPU", f"{torch.cuda.get_device_name(0)}, CUDA {torch.version.cuda}")


def _memory_gib() -> float:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
