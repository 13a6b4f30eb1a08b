"""Compile the kernels with NVRTC and read their machine code (SASS) and its loops.

Needs no GPU, driver or toolkit: pip install cuda-bindings, nvidia-cuda-nvrtc, nvidia-cuda-runtime,
nvidia-cuda-cuobjdump and nvidia-cuda-nvdisasm, as the extra [test] does.
"""

from __future__ import annotations

import os
import re
import subprocess
import sysconfig
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_OPTIONS = (b"--std=c++17", b"-ftz=true", b"--device-as-default-execution-space")
"""The options that CupyDevice requests, and those that CuPy adds."""
ARCHITECTURES = (75, 80, 86, 89, 90, 100, 120)
_WARPS = {"warps_per_block": 4}
VARIANTS: list[tuple[str, dict[str, int]]] = [
    ("boxes", {"dim": 32, "vote_planes": 5, "as_bitmap": 0, **_WARPS}),
    ("boxes", {"dim": 1024, "vote_planes": 16, "as_bitmap": 1, **_WARPS}),
    ("nearest", {"dim": 32, "n_queries": 1, **_WARPS}),
    ("nearest", {"dim": 1024, "n_queries": 4, **_WARPS}),
    ("linear", {"dim": 32, "n_models": 1, **_WARPS}),
    ("linear", {"dim": 32, "n_models": 4, **_WARPS}),
    ("bits", {"words_per_row": 16, "lanes_per_row": 4, "loads_per_lane": 1, "rows_per_thread": 4, **_WARPS}),
    ("bits", {"words_per_row": 64, "lanes_per_row": 4, "loads_per_lane": 4, "rows_per_thread": 1, **_WARPS}),
    ("rescore", {"embedding_dim": 512, "use_cosine": 1, "use_list": 0, "use_staged": 0, **_WARPS}),
    ("rescore", {"embedding_dim": 512, "use_cosine": 0, "use_list": 1, "use_staged": 1, **_WARPS}),
    ("rescore", {"embedding_dim": 768, "use_cosine": 0, "use_list": 1, "use_staged": 1, **_WARPS}),
    ("rescore", {"embedding_dim": 50, "use_cosine": 0, "use_list": 1, "use_staged": 1, **_WARPS}),
    ("select", {}),
    ("quantize", {"dim": 32}),
    ("allow", {}),
    ("synthetic", {"dim": 32, "sign_words": 16, "words_per_row": 16}),
]
"""Every kernel with its usual constants, and with unusual ones."""
_WHEELS = Path(sysconfig.get_path("purelib")) / "nvidia/cu13"
_LINE = re.compile(r"\s+/\*([0-9a-f]{4,})\*/\s+(?:@!?U?P\w+\s+)?([A-Z0-9_.]+)\s*(.*?);")
_TARGET = re.compile(r"0x([0-9a-f]+)\s*$|`\(\.L_x_(\d+)\)")


@dataclass(frozen=True)
class Instruction:
    """One machine instruction: its address in bytes, e.g. "LDG.E.128.CONSTANT", and its operands."""

    address: int
    opcode: str
    operands: str


@dataclass(frozen=True)
class Function:
    """The code of one entry point; registers, spilled bytes and static shared memory as the assembler reports them."""

    name: str
    code: tuple[Instruction, ...]
    registers: int
    spilled_bytes: int
    shared_bytes: int

    def count(self, prefix: str, *, within: tuple[int, int] | None = None, also: str = "") -> int:
        """Count instructions whose opcode starts with prefix and contains `also`, of all or of a loop's addresses."""
        return sum(
            one.opcode.startswith(prefix) and also in one.opcode
            for one in self.code
            if within is None or within[0] <= one.address <= within[1]
        )

    def loops(self) -> list[tuple[int, int]]:
        """Return first and last address of each loop that ends in a branch back to its start."""
        found = []
        for one in self.code:
            target = _TARGET.search(one.operands)
            if one.opcode == "BRA" and target and target[1] and int(target[1], 16) <= one.address:
                found.append((int(target[1], 16), one.address))
        return found

    def opcodes(self, loop: tuple[int, int], *, without: tuple[int, int] | None = None) -> Counter[str]:
        """Return how often each opcode occurs in a loop, leaving out the addresses of another inside it."""
        return Counter(
            one.opcode
            for one in self.code
            if loop[0] <= one.address <= loop[1] and not (without and without[0] <= one.address <= without[1])
        )


def headers() -> Path | None:
    """Return the folder of CUDA's headers, of the wheel or of an installed toolkit, or None without either."""
    toolkits = [Path(os.environ.get("CUDA_PATH", "/usr/local/cuda")), *sorted(Path("/usr/local").glob("cuda-13*"))]
    folders = [folder / "include" for folder in (_WHEELS, *toolkits)]
    return next((folder for folder in folders if (folder / "cuda_fp16.h").exists()), None)


def compile_text(text: str, architecture: int) -> dict[str, Function]:
    """Compile a kernel's source for sm_<architecture>; return its entry points. Raises RuntimeError with the log."""
    from cuda.bindings import nvrtc

    def check(result: tuple[Any, ...]) -> Any:
        if result[0] != nvrtc.nvrtcResult.NVRTC_SUCCESS:
            raise RuntimeError(f"NVRTC: {result[0]}")
        return result[1] if len(result) == 2 else None

    program = check(nvrtc.nvrtcCreateProgram(text.encode(), b"kernel.cu", 0, [], []))
    include = headers()
    if include is None:
        raise RuntimeError("expected CUDA's headers, found none: pip install nvidia-cuda-runtime")
    options = [*_OPTIONS, f"-I{include}".encode(), f"-arch=sm_{architecture}".encode(), b"--ptxas-options=-v"]
    done = nvrtc.nvrtcCompileProgram(program, len(options), options)
    log = b" " * check(nvrtc.nvrtcGetProgramLogSize(program))
    nvrtc.nvrtcGetProgramLog(program, log)
    if done[0] != nvrtc.nvrtcResult.NVRTC_SUCCESS:
        raise RuntimeError(log.decode())
    cubin = b" " * check(nvrtc.nvrtcGetCUBINSize(program))
    nvrtc.nvrtcGetCUBIN(program, cubin)
    return _functions(_disassembled(cubin), log.decode(errors="replace"))


def _disassembled(cubin: bytes) -> str:
    tools = _WHEELS / "bin"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        environment = {**os.environ, "PATH": f"{tools}:{os.environ['PATH']}"}
        command = [str(tools / "cuobjdump"), "-sass", file.name]
        return subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout


def _functions(listing: str, log: str) -> dict[str, Function]:
    registers, spilled, shared = {}, {}, {}
    for part in log.split("Compiling entry function '")[1:]:
        name = part.split("'")[0]
        registers[name] = int(re.search(r"Used (\d+) registers", part)[1])  # type: ignore[index]
        spilled[name] = int(re.search(r"(\d+) bytes spill stores", part)[1])  # type: ignore[index]
        held = re.search(r"(\d+) bytes smem", part)
        shared[name] = int(held[1]) if held else 0
    functions = {}
    for part in listing.split("Function : ")[1:]:
        name, body = part.split("\n", 1)
        code = [Instruction(int(m[1], 16), m[2], m[3]) for m in map(_LINE.match, body.splitlines()) if m]
        functions[name] = Function(name, tuple(code), registers[name], spilled[name], shared[name])
    return functions
