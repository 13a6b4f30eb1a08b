"""The report of a run of users on a server, and whether all goals were reached."""

from __future__ import annotations

import numpy as np

from benchmarks.load.server import Served
from benchmarks.load.users import EVERY_S, User

GOALS_MS = {"mark": 50.0, "search": 500.0}
"""Goals for the 95th percentile of the times of a request."""


def report(found: Served, title: str, command: str, introduction: str) -> str:
    """Return the results as Markdown. introduction: what ran on which machine, in one or two sentences."""
    users = found.users
    errors, lost, marks = (sum(counts) for counts in zip(*map(_totals, users), strict=True))
    lines = [
        f"# {title}",
        "",
        introduction,
        "",
        f"`{command}`",
        "",
        "| what | asked | p50, ms | p95, ms | p99, ms | goal, p95 | holds | put off |",
        "|---|---|---|---|---|---|---|---|",
        *(_row(users, what) for what in EVERY_S if _took(users, what) or _put_off(users, what)),
        "",
        f"Errors: {errors}. Marks acknowledged: {marks:,}; lost: {lost}. Put off: requests that the server refused for "
        "now and the user sent again. Answers that the server had dropped, so that users found all again: "
        f"{sum(user.forgotten for user in users)}.",
    ]
    lines += [f"- {error}" for user in users for error in user.errors[:1]][:5]
    return "\n".join([*lines, "", *_server_lines(found), ""])


def holds(found: Served) -> bool:
    """Return whether nothing was lost or failed, goals were met, and the server was flat and ended with status 0."""
    sound = not any(user.lost or user.errors for user in found.users) and found.status == 0
    quick = all(np.quantile(_took(found.users, what) or [0.0], 0.95) < goal for what, goal in GOALS_MS.items())
    return bool(sound and quick and found.watch.memory_growth().flat and found.watch.handle_growth().flat)


def _totals(user: User) -> tuple[int, int, int]:
    return len(user.errors), user.lost, len(user.marks)


def _row(users: list[User], what: str) -> str:
    took = _took(users, what)
    goal = GOALS_MS.get(what)
    times = [f"{time_ms:.1f}" for time_ms in np.quantile(took, (0.5, 0.95, 0.99))] if took else ["", "", ""]
    verdict = ["", ""]
    if goal is not None and took:
        verdict = [f"{goal:.0f}", "yes" if np.quantile(took, 0.95) < goal else "**no**"]
    return f"| {' | '.join([what, f'{len(took):,}', *times, *verdict, f'{_put_off(users, what):,}'])} |"


def _server_lines(found: Served) -> list[str]:
    """Return the lines on the server's memory, its handles and its end."""
    lines = ["| the server's | median | grew by | bound | flat |", "|---|---|---|---|---|"]
    for name, growth in (
        ("anonymous memory, MB", found.watch.memory_growth()),
        ("handles outside of segments", found.watch.handle_growth()),
    ):
        flat = "yes" if growth.flat else "**no**"
        lines.append(f"| {name} | {growth.median:,.0f} | {growth.grew:+,.1f} | {growth.bound:,.1f} | {flat} |")
    lines += ["", f"Processor time of the server: {found.watch.processor_share():.2f} of one core."]
    if found.written:
        counts = ", ".join(f"{count:,} {name}" for name, count in found.written.items())
        refused = sum(user.refused_deleted for user in found.users)
        lines += ["", f"Beside them: {counts}; {refused} marks were refused, because their items had been deleted."]
    return [*lines, "", f"SIGTERM while all went on: ended in {found.ended_s:.1f} s with status {found.status}."]


def _took(users: list[User], what: str) -> list[float]:
    return [took for user in users for took in user.took_ms[what]]


def _put_off(users: list[User], what: str) -> int:
    return sum(user.put_off[what] for user in users)
