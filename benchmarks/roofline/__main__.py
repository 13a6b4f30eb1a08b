"""Predict the time of each kernel from its machine code and a card's rates; compare four designs of the boxes kernel.

    python -m benchmarks.roofline [--card h200] [--out benchmarks/results/roofline]

A prediction is the larger of two times per item: its bytes divided by the card's copy bandwidth, and the time of the
busiest part of a multiprocessor for the instructions in the loops of the SASS. It does not consider latency, occupancy
and caches. So it is a lower bound, which shows which design is worth building, and not a measurement. If there are
results of `scripts/gpu_verify`, their times are printed, too.
"""

from __future__ import annotations

import argparse
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from benchmarks.roofline.sass import Function, compile_text
from benchmarks.verify.record import path_of, read
from gpubranches.core.assets import folder
from gpubranches.engines.gpu.program import MOST_BOXES
from gpubranches.engines.gpu.sources import source

RESULTS = Path(__file__).parents[1] / "results"
DESIGNS = Path(__file__).parent / "designs"


@dataclass(frozen=True)
class Card:
    """Rates of one card: multiprocessors, clock in Hz under load, bytes per second of a large copy, memory in bytes."""

    name: str
    architecture: int
    multiprocessors: int
    clock: float
    bandwidth: float
    memory: float


CARDS = {
    "h200": Card("H200", 90, 132, 1.755e9, 4.3e12, 141e9),
    "h100": Card("H100 SXM", 90, 132, 1.755e9, 3.0e12, 80e9),
    "a100": Card("A100 SXM", 80, 108, 1.41e9, 1.7e12, 80e9),
    "l40s": Card("L40S", 89, 142, 2.2e9, 0.77e12, 48e9),
}

# Clocks a warp's instruction keeps its part of a multiprocessor's quarter busy: 16 lanes of integer logic, 16 of
# multiply-add, 4 of the special unit; the load-store unit takes 32 lanes a clock and serves all four quarters.
# Source: CUDA C++ Programming Guide, table "Throughput of Native Arithmetic Instructions".
_ALU, _FMA, _SPECIAL, _LOADS = 2.0, 2.0, 8.0, 4.0
_SPECIAL_OPCODES = ("POPC", "FLO", "BREV", "I2F", "F2I", "MUFU")
_LOAD_OPCODES = ("LDG", "LDS", "STS", "STG", "LD.", "ATOM", "RED", "SHFL")
_FREE = ("BRA", "BSSY", "BSYNC", "NOP", "WARPSYNC", "EXIT", "ULDC", "UMOV", "UIADD", "R2UR", "S2UR", "LDC", "BAR")


@dataclass(frozen=True)
class Work:
    """Instructions an item by part, as clocks of a quarter of a multiprocessor, and bytes read from memory."""

    clocks: dict[str, float]
    bytes: float

    def milliseconds(self, card: Card, items: float) -> tuple[float, float]:
        """Return the time of the arithmetic and of the memory, ms."""
        busiest = max(self.clocks.values())
        return 1e3 * busiest * items / (
            4 * card.multiprocessors * card.clock
        ), 1e3 * self.bytes * items / card.bandwidth


def clocks(opcodes: Counter[str], wavefronts: dict[str, float] | None = None) -> dict[str, float]:
    """Return busy clocks of issue, alu, fma, special and loads for instructions of one warp.

    wavefronts: passes through shared memory or cache that a load takes, by prefix of its opcode; 1 if not given.
    """
    busy = dict.fromkeys(("issue", "alu", "fma", "special", "loads"), 0.0)
    for opcode, count in opcodes.items():
        busy["issue"] += count
        if opcode.startswith(_SPECIAL_OPCODES):
            busy["special"] += _SPECIAL * count
        elif opcode.startswith(_LOAD_OPCODES):
            passes = next((n for prefix, n in (wavefronts or {}).items() if opcode.startswith(prefix)), 1.0)
            busy["loads"] += _LOADS * passes * count
        elif opcode.startswith(("IMAD", "IDP", "FFMA", "FMUL", "FADD")):
            busy["fma"] += _FMA * count
        elif not opcode.startswith(_FREE):
            busy["alu"] += _ALU * count
    return busy


def added(*parts: tuple[dict[str, float], float]) -> dict[str, float]:
    """Return the sum of busy clocks, each times a factor."""
    return {name: sum(busy[name] * factor for busy, factor in parts) for name in parts[0][0]}


def _nested(function: Function, opcode: str) -> list[tuple[int, int]]:
    """Return the loops with an opcode, the innermost first."""
    loops = [loop for loop in function.loops() if function.count(opcode, within=loop)]
    return sorted(loops, key=lambda loop: loop[1] - loop[0])


def boxes_work(architecture: int, *, ranges: float, boxes: float, dims: float, alive: float, read: float) -> Work:
    """Return the work per item of the boxes kernel, for a model's ranges, boxes and dims.

    alive: share of (box, strip) pairs that the zones leave; read: share of the bytes of those dims that is read.
    """
    constants = {"dim": 32, "vote_planes": 5, "as_bitmap": 0, "warps_per_block": 4}
    function = compile_text(source("boxes", constants), architecture)["boxes"]
    wide = _nested(function, "LDG.E.128")
    each_range, each_run = wide[0], wide[1]
    folding = next(loop for loop in function.loops() if function.count("LDG.E.U8", within=loop) and loop != wide[-1])
    per_range = clocks(function.opcodes(each_range))
    per_run = clocks(function.opcodes(each_run, without=each_range), {"LDG.E.128": 4.0})
    # The assembler unrolls the loop over boxes by as many as it has loads of their ends.
    per_box = clocks(function.opcodes(folding))
    unrolled = function.count("LDG.E.U8", within=folding)
    rows = 1024
    chunks = -(-boxes // MOST_BOXES)
    parts = (per_range, ranges * alive / rows), (per_run, dims * chunks / rows), (per_box, boxes / unrolled / rows)
    return Work(added(*parts), dims * read + 2.0 + 1 / 8)


def design_work(name: str, architecture: int, *, ranges: float, boxes: float, alive: float) -> Work:
    """Work an item of a design that was not chosen, from benchmarks/designs."""
    shared = (folder("kernels") / "common.cuh").read_text()
    text = "constexpr unsigned dim = 32;\n" + shared + (DESIGNS / f"{name}.cu").read_text()
    function = compile_text(text, architecture)["design"]
    loops = sorted(function.loops(), key=lambda loop: loop[1] - loop[0])
    if name == "swar":
        inner = next(loop for loop in loops if function.count("LDS", within=loop))
        return Work(added((clocks(function.opcodes(inner)), ranges * alive / 128)), 34.125)
    if name == "tables":
        inner = next(loop for loop in loops if function.count("LDS.64", within=loop))
        # 32 random rows of 8 bytes: 2 passes without conflicts, about 6 with the expected ones.
        busy = clocks(function.opcodes(inner), {"LDS.64": 6.0, "LDG.E.128": 4.0})
        return Work(added((busy, 32 * -(-boxes // 64) / 512)), 32.125)
    inner = next(loop for loop in loops if function.count("IMAD.IADD", within=loop) > 20 or len(loops) == 1)
    return Work(added((clocks(function.opcodes(inner)), ranges / 5 * alive / 512)), 34.125)


def scan_work(kernel: str, architecture: int) -> Work:
    """Work an item of a scan for one query or model."""
    if kernel == "bits":
        constants = {"words_per_row": 16, "lanes_per_row": 4, "loads_per_lane": 1, "rows_per_thread": 4}
        constants["warps_per_block"] = 4
        function = compile_text(source("bits", constants), architecture)["bits"]
        loop = _nested(function, "POPC")[0]
        slow = _appending(function, loop)
        return Work(added((clocks(function.opcodes(loop) - slow), 1 / 32)), 66.125)
    counted = {"nearest": "n_queries", "linear": "n_models"}[kernel]
    function = compile_text(source(kernel, {"dim": 32, counted: 1, "warps_per_block": 4}), architecture)[kernel]
    inner, outer = _nested(function, "IDP")[:2]
    groups = function.count("PRMT", within=inner) / 32
    slow = _appending(function, outer)
    parts = (
        (clocks(function.opcodes(inner)), 8 / groups / 512),
        (
            clocks(function.opcodes(outer, without=inner) - slow),
            1 / 512,
        ),
    )
    return Work(added(*parts), 32.125)


def _appending(function: Function, loop: tuple[int, int]) -> Counter[str]:
    """Return the instructions of a loop that only rows within the border reach: from the atomic on, and the scan."""
    inside = [one for one in function.code if loop[0] <= one.address <= loop[1]]
    first = next((i for i, one in enumerate(inside) if one.opcode.startswith("SHFL.UP")), len(inside))
    last = max((i for i, one in enumerate(inside) if one.opcode.startswith("STG")), default=first)
    return Counter(one.opcode for one in inside[first : last + 1])


def predictions(card: Card, items: float) -> list[dict[str, object]]:
    """Return a line for each kernel: arithmetic and memory ms, and which of them it is bound by."""
    ensemble = {"ranges": 280.0, "boxes": 60.0}
    lines = [
        ("single branch, 2 boxes", boxes_work(card.architecture, ranges=9, boxes=2, dims=9, alive=0.6, read=0.37)),
        ("ensemble, zones prune half", boxes_work(card.architecture, **ensemble, dims=32, alive=0.6, read=1.0)),
        ("ensemble, nothing pruned", boxes_work(card.architecture, **ensemble, dims=32, alive=1.0, read=1.0)),
        ("64 ensembles, zones prune half", _times(64, card.architecture)),
        ("nearest, one query", scan_work("nearest", card.architecture)),
        ("linear over codes", scan_work("linear", card.architecture)),
        ("linear over 64-byte bits", scan_work("bits", card.architecture)),
    ]
    for name in ("swar", "tables", "subsets"):
        work = design_work(name, card.architecture, **ensemble, alive=1.0)
        lines.append((f"design {name}: ensemble, nothing pruned", work))
    found = []
    for label, work in lines:
        arithmetic, memory = work.milliseconds(card, items)
        part = max(work.clocks, key=work.clocks.__getitem__)
        bound = "memory" if memory >= arithmetic else part
        found.append({"what": label, "arithmetic_ms": arithmetic, "memory_ms": memory, "bound": bound})
    return found


def _times(count: int, architecture: int) -> Work:
    one = boxes_work(architecture, ranges=280, boxes=60, dims=32, alive=0.6, read=1.0)
    return Work({name: count * busy for name, busy in one.clocks.items()}, one.bytes)


def measured() -> dict[str, float]:
    """Return times in ms of the last measured run at 262.6 M rows, by the labels of `predictions`; or nothing."""
    goals = [line for line in read(path_of(RESULTS, "speed")) if "goal" in line and line["rows"] > 262_000_000]
    return {_LABELS[line["goal"]]: line["p50_ms"] for line in goals if line["goal"] in _LABELS}


_LABELS = {
    "single branch": "single branch, 2 boxes",
    "ensemble": "ensemble, zones prune half",
    "ensembles of 64 users at once": "64 ensembles, zones prune half",
    "top 100 over codes": "nearest, one query",
    "linear over codes": "linear over codes",
    "linear over bits": "linear over 64-byte bits",
}
"""The names of the goals by the lines of the table."""


def table(card: Card) -> str:
    """Return the predictions for a card as Markdown, at 262.6 M rows and at the most rows of codes that fit."""
    most = card.memory * 0.95 / (32 * 65 / 64 + 4.25)
    small, large, known = predictions(card, 262.6e6), predictions(card, most), measured()
    lines = [
        f"# Predicted times on one {card.name}",
        "",
        "Made by `python -m benchmarks.roofline` from the SASS; the larger of arithmetic and memory is the bound from",
        "below. Measured times stand beside it where a verified run has them.",
        "",
        f"| one pass, warm | arithmetic | memory | bound by | measured | {most / 1e9:.1f} G rows |",
        "|---|---|---|---|---|---|",
    ]
    for one, all_of_it in zip(small, large, strict=True):
        shown = f"{known[str(one['what'])]:.2f} ms" if one["what"] in known else "never run"
        biggest = max(float(str(all_of_it["arithmetic_ms"])), float(str(all_of_it["memory_ms"])))
        capacity = "-" if "bits" in str(one["what"]) else f"{biggest:.0f} ms"
        lines.append(
            f"| {one['what']} | {one['arithmetic_ms']:.2f} ms | {one['memory_ms']:.2f} ms | {one['bound']} "
            f"| {shown} | {capacity} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Print the table and write it beside the results."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--card", default="h200", choices=sorted(CARDS))
    parser.add_argument("--out", type=Path, help="folder for roofline.md")
    options = parser.parse_args()
    text = table(CARDS[options.card])
    print(text, end="")
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / "roofline.md").write_text(text)


if __name__ == "__main__":
    main()
