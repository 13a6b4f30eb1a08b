"""What is installed on this machine, what works, and what to install for the rest."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import os
import platform
import re
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path

from gpubranches.core.threads import cores


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
    findings = [
        Finding("python", platform.python_version()),
        Finding("machine", f"{platform.machine()}, {cores()} cores, {_memory_gib():.0f} GiB"),
    ]
    for package in ("numpy", "numba", "pyarrow", "duckdb", "scikit-learn", "pillow", "flask"):
        findings.append(_package(package, "pip install gpubranches"))
    for package in ("torch", "torchvision", "open_clip_torch"):
        module = "open_clip" if package == "open_clip_torch" else package
        advice = "pip install -c constraints.txt 'gpubranches[clip]' to embed images and texts"
        findings.append(_package(package, advice, module=module))
    for package in ("transformers", "sentence-transformers"):
        advice = f"pip install -c constraints.txt 'gpubranches[{package}]' for --embedder {package}:NAME"
        findings.append(_package(package, advice))
    findings.append(_package("onnxruntime", "pip install 'gpubranches[onnx]' for --embedder onnx:FOLDER"))
    findings.append(_package("ray", "pip install 'gpubranches[cluster]' for --backend ray"))
    findings += [_faiss(), _cupy(), _driver(), _gpu(), _majors()]
    return findings


def revision() -> str:
    """Return the commit of the checkout, with + if it has changes, else the version of the installed package."""
    checkout = Path(__file__).resolve().parents[2]
    if not (checkout / ".git").exists():
        try:
            return importlib.metadata.version("gpubranches")
        except importlib.metadata.PackageNotFoundError:
            return "unknown"
    commit = _output("git", "-C", str(checkout), "rev-parse", "--short", "HEAD")
    changed = _output("git", "-C", str(checkout), "status", "--porcelain", "--untracked-files=no")
    return f"{commit}{'+' if changed else ''}" if commit else "unknown"


def _package(package: str, advice: str, *, module: str | None = None) -> Finding:
    """Find a package by its metadata or, when another distribution provides the module, by import lookup."""
    try:
        return Finding(package, importlib.metadata.version(package))
    except importlib.metadata.PackageNotFoundError:
        if module is not None and importlib.util.find_spec(module) is not None:
            return Finding(package, f"{module} of another distribution")
        return Finding(package, "not installed", advice, usable=False)


def _faiss() -> Finding:
    """Find the one distribution that may bring the module faiss; two of them overwrite each other."""
    found = _distributions("faiss")
    if len(found) > 1:
        return Finding("faiss", " and ".join(found), "keep one: pip uninstall all of them, then install one", False)
    if not found:
        return Finding("faiss", "not installed", "pip install 'gpubranches[cpu]' for --nn faiss", usable=False)
    return Finding("faiss", f"{found[0]} {importlib.metadata.version(found[0])}")


def _cupy() -> Finding:
    found = _distributions("cupy")
    if len(found) > 1:
        return Finding(
            "cupy", " and ".join(found), "keep the one of your driver's CUDA: pip uninstall the others", False
        )
    if not found:
        advice = "pip install 'gpubranches[gpu-cu13]', or [gpu-cu12] for drivers before 580, for the gpu backend"
        return Finding("cupy", "not installed", advice, usable=False)
    return Finding("cupy", f"{found[0]} {importlib.metadata.version(found[0])}")


def _driver() -> Finding:
    fields = "driver_version,name,memory.total,compute_cap"
    shown = _output("nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader")
    if not shown:
        return Finding("driver", "no NVIDIA driver answers", "install one, or use the cpu backend", usable=False)
    return Finding("driver", "; ".join(shown.splitlines()))


def _gpu() -> Finding:
    """Check the card as the gpu backend does, stage by stage; then check torch, which embeds."""
    from gpubranches.engines.gpu.cupy_device import check

    stages = check()
    problem = stages[-1].problem
    seen = [", ".join(f"{one.name} {'failed' if one.problem else 'ok'} {one.seconds:.2f} s" for one in stages)]
    if importlib.util.find_spec("torch") is not None:
        torch = importlib.import_module("torch")
        if torch.cuda.is_available():
            seen.append(f"torch: {torch.cuda.get_device_name(0)}, CUDA {torch.version.cuda}")
    return Finding("GPU", "; ".join(seen), " ".join(problem.split()), usable=not problem)


def _majors() -> Finding:
    """Compare the CUDA major versions of cupy, torch and faiss; only one can be used safely in one process."""
    majors: dict[str, str] = {}
    for module in ("cupy", "torch", "faiss"):
        for distribution in _distributions(module):
            major = cuda_major(distribution, importlib.metadata.requires(distribution) or [])
            if major:
                majors[module] = major
    if not majors:
        return Finding("CUDA majors", "none: nothing here is built for CUDA")
    state = ", ".join(f"{module}: {major}" for module, major in majors.items())
    if len(set(majors.values())) > 1:
        advice = "install all for one CUDA major: [gpu-cu13] or [gpu-cu12], and a torch of the same"
        return Finding("CUDA majors", state, advice, usable=False)
    return Finding("CUDA majors", state)


def cuda_major(distribution: str, requires: list[str]) -> str | None:
    """Return the CUDA major in a distribution's name, or of the CUDA packages it requires; None if there is none."""
    for text in (distribution, *requires):
        found = re.search(r"(?:cuda-?|[-_]cu)(1[1-9])(?:x|\b|[-_.])", text.lower())
        if found:
            return found[1]
    return None


def _distributions(module: str) -> list[str]:
    """Return the installed distributions that bring a module."""
    return sorted(set(importlib.metadata.packages_distributions().get(module, [])))


def _output(*command: str) -> str:
    """Return the output of a command, or "" if it is missing or fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _memory_gib() -> float:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
