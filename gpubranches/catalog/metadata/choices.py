"""A condition as a set of selected values, which buttons switch on and off.

Several values of one column are alternatives; different columns narrow the condition. `label IN (3, 5) AND caption =
'dog'` has three selected values. Other parts of a condition stay as they are.
"""

from __future__ import annotations

from gpubranches.catalog.metadata.conditions import (
    And,
    ColumnName,
    Comparison,
    Condition,
    Or,
    Value,
    parse,
    to_text,
    value_condition,
)
from gpubranches.errors import UsageError

Choice = tuple[ColumnName, Value | None]
"""A column and one of its values, or None for a missing value."""


def selected_values(condition: str) -> list[str]:
    """Return the selected values, each as `value_condition` writes it. Raises UsageError as `parse` does."""
    return [value_condition(*choice) for part in _parts(condition) for choice in _choices(part)]


def toggle_value(condition: str, choice: str) -> str:
    """Return a condition with a value selected, or deselected if it was selected.

    condition: "" for none; choice: one value of one column, such as `label = 3` or `label IS NULL`. Raises UsageError
    as `parse` does, and for a choice of another form.
    """
    wanted = _choices(parse(choice))
    if len(wanted) != 1:
        raise UsageError(f"choice: expected one value of one column, such as label = 3, got {choice!r:.80}")
    parts, held = _parts(condition), [_choices(part) for part in _parts(condition)]
    places = [place for place, choices in enumerate(held) if wanted[0] in choices]
    places += [place for place, choices in enumerate(held) if choices and choices[0][0] == wanted[0][0]]
    place = places[0] if places else len(parts)
    before = held[place] if places else []
    after = [other for other in before if other != wanted[0]] if wanted[0] in before else before + wanted
    parts[place : place + 1] = [_one_of(after)] if after else []
    return to_text(parts[0] if len(parts) == 1 else And(tuple(parts))) if parts else ""


def _parts(condition: str) -> list[Condition]:
    """Return the parts of a condition that must all hold."""
    if not condition.strip():
        return []
    read = parse(condition)
    return list(read.parts) if isinstance(read, And) else [read]


def _choices(part: Condition) -> list[Choice]:
    """Return the values that a part selects, [] unless it selects values of one column and nothing else."""
    if isinstance(part, Or):
        each = [_choices(inner) for inner in part.parts]
        found = [choice for choices in each for choice in choices]
        return found if all(each) and len({column for column, _ in found}) == 1 else []
    if not isinstance(part, Comparison) or part.negated or part.operator not in ("=", "in", "null"):
        return []
    return [(part.column, value) for value in part.values or (None,)]


def _one_of(choices: list[Choice]) -> Condition:
    column, values = choices[0][0], tuple(value for _, value in choices if value is not None)
    tests: list[Condition] = []
    if values:
        tests.append(Comparison(column, "in" if len(values) > 1 else "=", values, False, 0))
    if len(values) < len(choices):
        tests.append(Comparison(column, "null", (), False, 0))
    return tests[0] if len(tests) == 1 else Or(tuple(tests))
