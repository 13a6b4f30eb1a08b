"""The parts of the benchmark of broad ideas. Each plays users and returns tables and goals."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.breadth.plays import (
    ALL,
    AUDIT,
    EASY,
    LAST,
    ORACLE,
    PRODUCT,
    ROUNDS,
    STEPS,
    Play,
    Plays,
    Told,
    mark_to_target,
)
from benchmarks.harness.publishing import Goal
from gpubranches.research.quality.comparison import measured_within
from gpubranches.research.quality.product_models import answer_of
from gpubranches.research.quality.rounds import POLICIES, START, play
from gpubranches.research.quality.size_bands import by_size
from gpubranches.research.quality.users import USERS
from gpubranches.research.tables import Section, short, with_error
from gpubranches.service import Session
from gpubranches.service.target import TARGET

PAGE_GOALS = (0.75, 0.90, 0.95, 0.97, 0.985)
RIGHT_ONLY_GOALS = (0.50, 0.78, 0.92, 0.96, 0.98)
EASY_GOALS = (0.85,)
VOTES_GOAL = 0.85
NARROW_MARKS_GOAL, BROAD_MARKS_GOAL = 90, 70
HELD_GOAL = 0.9
INTERVAL_GOAL = 0.88

Result = tuple[list[Section], list[Goal]]


def ideas(plays: Plays) -> Result:
    """Play the ideas by both users."""
    page, right_only = plays.play("broad, page"), plays.play("broad, right-only")
    sections = [
        _by_round("Ideas: first right and wrong of the page marked, words told", page),
        _by_model("Ideas, against others, the same marks", page),
        _by_round("Ideas: first right of the page marked alone, words not told", right_only),
    ]
    return sections, [
        *_round_goals("ideas by the page", page, PAGE_GOALS),
        *_round_goals("ideas by right ones alone", right_only, RIGHT_ONLY_GOALS),
    ]


def unions(plays: Plays) -> Result:
    """Play unions of classes drawn at random."""
    drawn = plays.play("unions")
    sizes = by_size(drawn.found, drawn.sizes, drawn.found.places, "Unions, F1 by round and size")
    return [_by_round("Unions drawn at random", drawn), _by_model("Unions, against others", drawn), *sizes], []


def easy(plays: Plays) -> Result:
    """Play the classes with many items."""
    many = plays.play("easy")
    title = f"Classes of {EASY} items and more: first right of the page marked alone, words not told"
    return [_by_round(title, many)], list(_round_goals(f"classes of {EASY} items and more", many, EASY_GOALS))


def coverage(plays: Plays) -> Result:
    """Play single classes, ideas and easy classes, and report how often the intervals of all plays hold."""
    asked = ("narrow", "broad, page", "broad, right-only", "easy")
    for kind in asked:
        plays.play(kind)
    rows: list[tuple[str, ...]] = []
    goals: list[Goal] = []
    for kind, played in plays.played.items():
        for when in (ALL, LAST, AUDIT):
            for measure in ("precision", "recall"):
                tally = played.tallies[when, measure]
                held = float(np.mean(tally.held)) if tally.held else math.nan
                width = float(np.mean(tally.widths)) if tally.held else math.nan
                share = "-" if math.isnan(held) else f"{held:.1%}"
                rows.append((f"{kind}, {measure}", when, str(len(tally.held)), str(tally.missing), share, short(width)))
                if when == ALL and kind in asked:
                    claim = f"{kind}: intervals of {measure} hold in {INTERVAL_GOAL:.0%} of those stated"
                    goals.append((claim, share, held >= INTERVAL_GOAL))
    header = ("interval", "when", "stated", "not stated", "held", "mean width")
    narrow = plays.play("narrow")
    sizes = by_size(narrow.found, narrow.sizes, narrow.found.places, "Single classes, F1 by round and size")
    return [Section("How often the 90% intervals hold", header, rows), _unranked(plays), *sizes], goals


def votes(plays: Plays) -> Result:
    """Answer the ideas by votes alone, from the marks of the last round of the user who marks the page in order."""
    rows = []
    for labelled, concept in plays.ideas():
        draw = labelled.draw(concept, START, 0, USERS["page"])
        if draw is None:
            continue
        *_, (played, _) = play(labelled, draw, POLICIES["suggested"], ROUNDS)
        alone = Session(labelled.catalog, labelled.backend, labels=played.labels, seed=draw.seed)
        answer = answer_of(labelled, alone.refine(second_stage=False, where=concept.where))
        marked = labelled.flags(played.positives), labelled.flags(played.negatives)
        rows.append((concept.name, measured_within(draw, answer, *marked)["f1"]))
    mean = float(np.mean([f1 for _, f1 in rows]))
    told = [(name, short(f1)) for name, f1 in [*rows, ("mean", mean)]]
    title = f"Ideas by votes alone, from the marks after {ROUNDS} rounds"
    claim = f"ideas by votes alone after round {ROUNDS}: F1 at least {VOTES_GOAL:.2f}"
    return [Section(title, ("idea", "F1"), told)], [(claim, short(mean), mean >= VOTES_GOAL)]


def target(plays: Plays) -> Result:
    """Let the program choose what to mark until `TARGET` of the right items are known to be found.

    Unions have no goal for the number of marks, because only random items find what resembles no marked item.
    """
    rows: list[tuple[str, ...]] = []
    goals: list[Goal] = []
    told: list[Told] = []
    for kind, tasks, user, most in (
        ("single classes", plays.classes(), "random", NARROW_MARKS_GOAL),
        ("ideas", plays.ideas(), "page", BROAD_MARKS_GOAL),
        ("unions drawn at random", plays.unions_drawn(), "page", None),
    ):
        played = (mark_to_target(labelled, concept, user) for labelled, concept in tasks)
        runs = [one for one in played if one is not None]
        alike, reached = [one.alike for one in runs], [one.reached for one in runs]
        told += [one for one in reached if one is not None]
        marks = np.array([math.inf if one.marks_to_target is None else one.marks_to_target for one in runs])
        begun = f"{np.median([one.begun for one in runs]):.0f}"
        rows.append((kind, str(len(runs)), begun, _median(marks), *_told(alike), *_told(reached), _checks(reached)))
        if most is not None:
            claim = f"{kind}: median marks to a true recall of {TARGET:.0%}, at most {most}"
            goals.append((claim, _median(marks), bool(np.median(marks) <= most)))
            goals.append(_held_goal(f"{kind}: told of what resembles the marks, {TARGET:.0%} of all are found", alike))
    goals.append(_held_goal(f"all: told of all right items, {TARGET:.0%} of them are found", told))
    header = (
        *("what", "played", "marks at first", f"to {TARGET:.0%} in truth"),
        *("told of what resembles the marks", "marks until then", "true of all"),
        *("told of all", "marks until then", "true", "of them random items"),
    )
    title = (
        f"Marks until {TARGET:.0%} are found, medians of marks in all; a play ends after {STEPS} steps of 20, beside "
        "random items"
    )
    return [Section(title, header, rows)], goals


def _told(told: Sequence[Told | None]) -> tuple[str, str, str]:
    """Return how often the program said that the target is reached, the median marks until then, how often rightly."""
    made = [one for one in told if one is not None]
    marks = np.array([math.inf if one is None else one.marks for one in told])
    return str(len(made)), _median(marks), f"{sum(one.recall >= TARGET for one in made)} of {len(made)}"


def _checks(told: Sequence[Told | None]) -> str:
    made = [one.checks for one in told if one is not None]
    return f"{np.median(made):.0f}" if made else "-"


def _held_goal(claim: str, told: Sequence[Told | None]) -> Goal:
    held = [one.recall >= TARGET for one in told if one is not None]
    return (
        f"{claim} in {HELD_GOAL:.0%}",
        f"{sum(held)} of {len(held)}",
        bool(held) and sum(held) >= HELD_GOAL * len(held),
    )


PARTS: dict[str, Callable[[Plays], Result]] = {
    "ideas": ideas,
    "unions": unions,
    "easy": easy,
    "votes": votes,
    "target": target,
    "coverage": coverage,
}
"""The parts of the benchmark, in this order; each returns its tables and goals."""


def run(plays: Plays, parts: Sequence[str]) -> Result:
    """Run parts, in the order of `PARTS`."""
    sections: list[Section] = []
    goals: list[Goal] = []
    for name, part in PARTS.items():
        if name in parts:
            more, reached = part(plays)
            sections, goals = [*sections, *more], [*goals, *reached]
    return sections, goals


def to_json(plays: Plays, goals: Sequence[Goal]) -> dict[str, Any]:
    """Return every play with the value of every draw."""
    return {
        "plays": {
            kind: {
                "concepts": list(played.found.concepts),
                "items": played.sizes,
                "means": played.found.summary(),
                "values": {model: measures["f1"] for model, measures in played.found.raw().items()},
                "seconds": round(played.seconds),
            }
            for kind, played in plays.played.items()
        },
        "goals": [{"goal": claim, "measured": number, "held": held} for claim, number, held in goals],
    }


def _by_round(title: str, played: Play) -> Section:
    """Return F1 by concept and round, and the means."""
    found, rows = played.found, []
    for row, name in enumerate(found.concepts):
        alone = found.take([row])
        means = (alone.mean(PRODUCT, "f1", place)[0] for place in found.places)
        oracle = alone.mean(ORACLE, "f1", 0)[0]
        cells = (f"{played.sizes[row]:,}", f"{played.shares[row]:.1%}", *(with_error(m, math.nan) for m in means))
        rows.append((name, *cells, with_error(oracle, math.nan)))
    totals = (with_error(*found.mean(PRODUCT, "f1", place)) for place in found.places)
    rows.append(("mean", "", "", *totals, with_error(*found.mean(ORACLE, "f1", 0))))
    return Section(title, ("concept", "items", "share", *map(str, found.places), ORACLE), rows)


def _unranked(plays: Plays) -> Section:
    """Return the share of right items that answers do not rank; `retrieval.curves` estimates it."""
    rows = []
    for kind, played in plays.played.items():
        shares = np.array(played.unranked)
        levels = [f"{share:.1%}" for share in (shares.mean(), *np.quantile(shares, (0.5, 0.95)))]
        rows.append((kind, str(len(shares)), *levels))
    title = "Right items that an answer does not rank, share of all"
    return Section(title, ("played", "answers", "mean", "median", "95% quantile"), rows)


def _by_model(title: str, played: Play) -> Section:
    """Return mean F1 by model and round."""
    found = played.found
    rows = [
        (model, *(with_error(*found.mean(model, "f1", place)) for place in found.places))
        for model in found.values
        if found.has(model, "f1")
    ]
    return Section(title, ("model", *map(str, found.places)), rows)


def _round_goals(what: str, played: Play, goals: Sequence[float]) -> Iterator[Goal]:
    for place, goal in zip(played.found.places, goals, strict=False):
        mean = played.found.mean(PRODUCT, "f1", place)[0]
        yield f"{what}, round {place}: F1 at least {short(goal)}", short(mean), mean >= goal


def _median(marks: NDArray[np.float64]) -> str:
    middle = float(np.median(marks))
    return f"{middle:.0f}" if math.isfinite(middle) else "not reached"
