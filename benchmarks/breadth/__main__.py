"""Measure how broad ideas, unions of classes and easy classes are found, against set goals.

    python -m benchmarks.breadth --out benchmarks/results/breadth

The data is that of `benchmarks.harness.real_data`, with `broad.json`, a file of groups as `gpubranches evaluate
--groups` reads it. Its rows are ingested in their order, once with the unlabelled distractors and once without them:
ideas that leave them out use the second catalog, where they are not even random negatives. A user begins with up to 8
items marked right, and then marks 20 suggested items in each of four rounds. `--parts` are some of

- ideas: by a user who marks the page in order and uses words, and by one who marks only right items, without words
- unions: of 2 to 40 classes of one data set, drawn at random
- easy: classes of 300 items and more; only right items are marked, without words
- votes: the ideas by votes alone, from the marks after four rounds
- target: the requested marks until 95% are found, and how often this is true when the program says so
- coverage: how often the 90% intervals of precision and recall hold in these answers and in those on single classes
"""

from __future__ import annotations

import argparse
import time

from benchmarks.breadth.parts import PARTS, run, to_json
from benchmarks.breadth.plays import BASELINES, ORACLE, Plays
from benchmarks.harness.options import in_one_sentence, out_prefix, whole
from benchmarks.harness.publishing import command_line, document, goals_section, write_pair
from benchmarks.harness.real_data import add_data_options, parse_with_data
from gpubranches.errors import UsageError
from gpubranches.research.quality.models import MODELS, choose_models


def main() -> None:
    """Read the options, run, print and write the tables."""
    options = _options()
    began = time.perf_counter()
    draws = {"seeds": options.seeds, "unions": options.unions, "union_seed": options.union_seed}
    with in_one_sentence(), Plays(options.data, **draws, narrow=options.concepts, models=options.models) as plays:
        sections, goals = run(plays, options.parts)
        numbers = to_json(plays, goals)
        introduction = (
            f"{time.strftime('%Y-%m-%d')}, {time.perf_counter() - began:.0f} s. {plays.labelled.n:,} items, "
            f"{plays.without.n:,} without the distractors; {plays.seeds} seeds, up to 8 marked right, 1,000 random "
            "negatives, 20 marks a round. F1 over all that the user may see, marks counted as what they are. "
            f"{ORACLE}: {MODELS[ORACLE].description}."
        )
    command = command_line("breadth")
    tables = [section.markdown() for section in sections] + ([goals_section(goals)] if goals else [])
    text = document("Broad ideas, unions and easy classes", command, introduction, *tables)
    print(text)
    if options.out is not None:
        write_pair(options.out, text, {"command": command, **numbers})


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.breadth", description=__doc__)
    add_data_options(parser, seeds=1)
    parser.add_argument("--parts", default=",".join(PARTS), help="a comma list, all by default")
    parser.add_argument("--unions", type=whole(0), default=24, help="unions drawn")
    parser.add_argument("--union-seed", type=whole(0), default=0)
    parser.add_argument("--models", default=",".join(BASELINES), help="models with a cut that play, too; none for none")
    parser.add_argument("--out", type=out_prefix, help="write PREFIX.md and PREFIX.json")
    options = parse_with_data(parser)
    options.parts = [name.strip() for name in options.parts.split(",") if name.strip()]
    unknown = [name for name in options.parts if name not in PARTS]
    if unknown or not options.parts:
        parser.error(f"parts: expected some of {', '.join(PARTS)}, got {', '.join(unknown) or 'none'}")
    try:
        models = {} if options.models == "none" else choose_models(options.models)
    except UsageError as error:
        parser.error(str(error))
    if uncut := [name for name, model in models.items() if model.cut is None]:
        parser.error(f"models: expected some with a fixed cut, got {', '.join(uncut)}")
    options.models = list(models)
    return options


if __name__ == "__main__":
    main()
