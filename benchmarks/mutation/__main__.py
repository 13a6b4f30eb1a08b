"""Change single expressions of core modules, and report which changes the tests do not notice.

    python -m benchmarks.mutation [--module NAME] [--mutants 10] [--seed 0] [--seconds 3600] [--again]
                                 [--results FILE] [--out FILE]

A mutant is a module with one change: another comparison, operator, constant, reducer or logical connective, a negated
condition, or a statement left out. Texts of errors, docstrings and annotations are not changed.

The files of tests that `TARGETS` names for a module run once on a copy of the repository while coverage.py notes which
test reaches which line. For each mutant the tests that reach its line run, the fastest first, until the first failure.
What they do not notice is given to all tests of these files. A mutant is killed if a test fails or the tests do not end
in time. A survivor either keeps every promise of the original, as `JUDGED` explains, or shows what no test checks.

Every result is a line of the file `--results`. The same command goes on from there; `--again` tries its survivors anew.
"""

from __future__ import annotations

import argparse
import importlib
import json
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from benchmarks.harness.options import out_file, whole
from benchmarks.harness.publishing import command_line, document, publish
from benchmarks.mutation.changes import Mutant, mutants
from benchmarks.mutation.trials import COPIED, tried
from gpubranches.research.tables import markdown_table

ROOT = Path(__file__).resolve().parents[2]
PRELOADED = ("numba", "sklearn.linear_model", "sklearn.ensemble", "pyarrow.parquet", "duckdb")
"""Imported once; every run of the tests is a fork of this process."""
TARGETS = {
    "gpubranches.core.arrays": ("test_arrays", "test_boxes"),
    "gpubranches.core.boxes": ("test_boxes",),
    "gpubranches.core.whitening": ("test_whitening",),
    "gpubranches.encoders.quantizers": ("test_quantize",),
    "gpubranches.catalog.manifest": ("test_catalog", "test_damage"),
    "gpubranches.catalog.metadata.conditions": ("test_conditions",),
    "gpubranches.catalog.segment": ("test_catalog", "test_damage", "test_formats"),
    "gpubranches.learning.branches": ("test_branches", "test_learners"),
    "gpubranches.learning.linear": ("test_linear",),
    "gpubranches.learning.mixture": ("test_rescore", "test_completeness"),
    "gpubranches.learning.trees": ("test_trees", "test_learners"),
    "gpubranches.retrieval.boundary": ("test_boundary",),
    "gpubranches.retrieval.completeness": ("test_completeness", "test_answer"),
    "gpubranches.retrieval.curves": ("test_completeness", "test_boundary"),
    "gpubranches.retrieval.explain": ("test_explain",),
    "gpubranches.retrieval.rescore": ("test_rescore",),
    "gpubranches.retrieval.scoring": ("test_scoring", "test_two_models"),
    "gpubranches.retrieval.voting": ("test_voting",),
    "gpubranches.service.labels": ("test_labels",),
    "gpubranches.service.session": ("test_session",),
    "gpubranches.service.target": ("test_target",),
}
"""Modules and the files of tests that are to notice any change of them."""
JUDGED = {
    ("gpubranches.core.arrays", "array = np.load(path, mmap_mode='r', allow_pickle=True)"):
        "NumPy maps no file of Python objects, whether they are allowed or not",
    ("gpubranches.core.arrays", "low = np.zeros(mask + 2, np.bool_)"): "the last slot is never looked up",
    ("gpubranches.learning.linear", "if step_number and np.abs(gradient).max() < self.bound:"):
        "a gradient is never equal to the bound",
    ("gpubranches.retrieval.scoring",
     "near = max(NEAR_CUT, MOST_READ // (2 * self.catalog.D) if self.catalog.stores_embeddings else 1)"):
        "NEAR_CUT is larger than 1",
    ("gpubranches.retrieval.scoring", "wanted *= 3"): "the list may go on farther below the cut",
    ("gpubranches.retrieval.scoring", "rank = max(1, round(rank + _SPARE * (1 - rank ** 0.5)))"):
        "the rank is a first guess; if it finds too few items, the scan is repeated",
    ("gpubranches.retrieval.scoring", "drawn = catalog.sample_ids(SAMPLED, np.random.default_rng(1), where)"):
        "any random sample serves",
    ("gpubranches.service.labels", "return [dict(zip(names, row, strict=False)) for row in cursor]"):
        "a row has as many values as its cursor has names",
}  # fmt: skip
"""The reason why a survivor keeps every promise of the original, by its module and its changed line."""


@dataclass
class Found:
    """The results of one module. survivors: line number, original line, changed line; untried: drawn without result."""

    module: str
    killed: int = 0
    survivors: list[tuple[int, str, str]] = field(default_factory=list)
    untried: int = 0


def path_of(folder: Path, module: str) -> Path:
    """Return where a module is in a copy of the repository."""
    return folder / f"{module.replace('.', '/')}.py"


def drawn_of(module: str, count: int, seed: int) -> list[Mutant]:
    """Return `count` random mutants of a module, by their lines; the same for the same seed."""
    source = path_of(ROOT, module).read_text(encoding="utf-8")
    rng = random.Random(f"{module} {seed}")  # nosec B311  # to be repeated
    return sorted(islice(mutants(source, rng), count))


class Results:
    """The results so far, in a file of JSON lines: module, line number, original line, changed line, killed."""

    def __init__(self, path: Path, *, again: bool = False) -> None:
        self.path = path
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        rows = [json.loads(line) for line in lines]
        self._killed = {tuple(row[:4]): bool(row[4]) for row in rows if row[4] or not again}

    def add(self, module: str, mutant: Mutant, killed: bool) -> None:
        """Append a result to the file."""
        self._killed[module, *mutant[:3]] = killed
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps([module, *mutant[:3], killed]) + "\n")

    def untried(self, module: str, drawn: Iterable[Mutant]) -> list[Mutant]:
        """Return the mutants of a module that have no result yet."""
        return [mutant for mutant in drawn if (module, *mutant[:3]) not in self._killed]

    def found(self, module: str, drawn: Iterable[Mutant]) -> Found:
        """Return the results of those mutants of a module that were tried."""
        results = [(mutant[:3], self._killed.get((module, *mutant[:3]))) for mutant in drawn]
        survivors = [key for key, killed in results if killed is False]
        n_killed, untried = (sum(killed is wanted for _, killed in results) for wanted in (True, None))
        return Found(module, n_killed, survivors, untried)


def report(command: str, results: list[Found]) -> str:
    """Return the results as a page of Markdown. command: what made them."""
    introduction = (
        "A mutant has one change; it is killed if a test fails. `equivalent` counts the survivors that keep every "
        "promise of the original. The score is the share of killed mutants among those that are not equivalent."
    )
    if untried := sum(one.untried for one in results):
        introduction += f" {untried} more were drawn and not tried."
    counts = [(one.module, one.killed, *_split(one)) for one in results]
    killed, same, left = (sum(column) for column in zip(*(row[1:] for row in counts), strict=True))
    counts.append(("all", killed, same, left))
    rows = [
        (name, str(killed + same + left), str(killed), str(same), str(left), f"{killed / max(1, killed + left):.0%}")
        for name, killed, same, left in counts
    ]
    header = ("module", "mutants", "killed", "equivalent", "not noticed", "score")
    survivors = [
        (one.module, _code(old), _code(new), JUDGED.get((one.module, new), "no test notices it"))
        for one in results
        for _, old, new in one.survivors
    ]
    parts = [introduction, markdown_table(header, rows)]
    if survivors:
        parts.append(markdown_table(("survivor in", "original", "changed", "why it survives"), survivors))
    return document("Changes of core modules that the tests notice", command, *parts)


def _split(found: Found) -> tuple[int, int]:
    """Return how many survivors are equivalent to the original, and how many are not noticed."""
    equivalent = sum((found.module, new) in JUDGED for _, _, new in found.survivors)
    return equivalent, len(found.survivors) - equivalent


def _code(text: str) -> str:
    escaped = text.replace("|", "\\|")
    return f"`{escaped}`"


def main() -> None:
    """Read the options, try the mutants, print the report."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.mutation", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("--module", choices=tuple(TARGETS), action="append", help="may be repeated; all by default")
    parser.add_argument("--mutants", type=whole(1), default=10, help="random mutants of each module")
    parser.add_argument("--seed", type=whole(0), default=0, help="seed of the random mutants")
    parser.add_argument("--seconds", type=whole(1), default=3600, help="begin no mutant after so long")
    parser.add_argument(
        "--results", type=out_file, default=Path("mutation.jsonl"), help="results so far, to go on from"
    )
    parser.add_argument("--again", action="store_true", help="try the survivors in --results again")
    parser.add_argument("--out", type=out_file, help="write this Markdown file")
    options = parser.parse_args()
    until = time.monotonic() + options.seconds
    results = Results(options.results, again=options.again)
    modules = options.module or list(TARGETS)
    drawn = {name: drawn_of(name, options.mutants, options.seed) for name in modules}
    left = {name: some for name in modules if (some := results.untried(name, drawn[name]))}
    if left:
        for name in PRELOADED:
            importlib.import_module(name)
    with tempfile.TemporaryDirectory(prefix="gpubranches-mutation-") as name:
        folder = Path(name)
        for part in COPIED if left else ():
            shutil.copytree(ROOT / part, folder / part)
        shutil.copy(ROOT / "pyproject.toml", folder)
        for module, some in left.items():
            for mutant, killed in tried(path_of(folder, module), TARGETS[module], some, folder, until):
                results.add(module, mutant, killed)
                if not killed:
                    print(f"{module}:{mutant[0]}: survived: {mutant[1]}  ->  {mutant[2]}", file=sys.stderr, flush=True)
    found = [results.found(name, drawn[name]) for name in modules]
    publish(report(command_line("mutation"), found), options.out)


if __name__ == "__main__":
    main()
