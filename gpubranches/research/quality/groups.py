"""Groups of classes as concepts: what people first ask for, such as all dogs, and unions of classes drawn at random.

A file of groups is a JSON object, a name for each group:

    {"cat": {"query": "cat", "pets": [0, 5, "birman"], "photos": "all", "ignore": ["wild_cat"], "distractors": true}}

`query` is what the user types, null for the mean of the items. `ignore` lists names of classes that may count either
way, and `distractors: false` says so of the items of no class: both are left out of all that the user sees and of what
counts. Every other key names a value of the first of the columns that define a class, or a part that only one value
contains. If there is only one column, the key is its name. Its list holds values of the other column, or names, "_"
read as space.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gpubranches.catalog import Catalog
from gpubranches.catalog.metadata.conditions import And, Comparison, Condition, Not, Or, to_text
from gpubranches.core.files import parse_json
from gpubranches.encoders.vocabulary import plain_name
from gpubranches.errors import UsageError
from gpubranches.research.quality.concepts import Class, Concept, find_classes

RESERVED = ("query", "ignore", "distractors")
"""Keys of a group that name no classes."""
FEWEST_JOINED = 2
MOST_JOINED = 40
"""Classes of a union drawn at random."""

Group = Mapping[str, Any]


def read_groups(path: Path) -> dict[str, Group]:
    """Return the groups in a file by name; the contents of each are checked.

    Raises UsageError for a file that cannot be read, that holds no JSON or no groups, and for a group with another
    kind of query, list or flag.
    """
    try:
        data = parse_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"groups: expected a JSON file of groups, got {path}: {error}") from error
    if not isinstance(data, dict) or not data:
        raise UsageError(f"groups: expected a JSON object of a group or more in {path}, got {json.dumps(data):.40}")
    for name, group in data.items():
        _check(name, group)
    return data


def find_groups(
    catalog: Catalog,
    groups: Mapping[str, Group],
    known: Callable[[str], bool] | None,
    *,
    columns: tuple[str, ...] = ("dataset", "label"),
    name: str = "caption",
) -> list[Concept]:
    """Return a concept for each group, in their order.

    groups: as of `read_groups`. known: whether a text can be a query; None if no text can, and then the query of every
    group is the mean of its items. columns: one or two columns that distinguish the classes; name: the column with
    their names. Raises UsageError for columns that the catalog does not have, for keys and classes that are unknown or
    name several, for a group without items, for one whose classes are also left out, and for a query that the embedder
    does not know.
    """
    index = _ClassIndex.of(catalog, columns, name)
    return [_concept(index, title, group, known) for title, group in groups.items()]


def random_unions(
    catalog: Catalog,
    count: int,
    *,
    seed: int = 0,
    columns: tuple[str, ...] = ("dataset", "label"),
    name: str = "caption",
) -> list[Concept]:
    """Return `count` unions of 2 to 40 classes of one data set; their query is the mean of their items.

    The data set is drawn from those with two classes or more, the number log-uniformly, at most all of its classes.
    columns, name: as for `find_groups`. The same seed and catalog give the same unions. Raises UsageError if no data
    set has two classes.
    """
    index = _ClassIndex.of(catalog, columns, name)
    sets = {value: classes for value, classes in index.sets.items() if len(classes) >= FEWEST_JOINED}
    if not sets:
        raise UsageError(f"unions: expected {FEWEST_JOINED} classes of one data set by {', '.join(columns)}, got none")
    rng = np.random.default_rng(seed)
    unions = []
    for number in range(count):
        value = list(sets)[int(rng.integers(len(sets)))]
        drawn = round(float(np.exp(rng.uniform(np.log(FEWEST_JOINED), np.log(MOST_JOINED)))))
        joined = min(drawn, len(sets[value]))
        chosen = [sets[value][row] for row in rng.permutation(len(sets[value]))[:joined]]
        title = f"union {number + 1}: {joined} of {value}"
        unions.append(Concept(title, False, _items(chosen), by_embeddings=True))
    return unions


@dataclass(frozen=True)
class _ClassIndex:
    """The classes of a catalog. sets: by the value of the first of two columns; of one column, all by its name."""

    columns: tuple[str, ...]
    classes: list[Class]
    sets: dict[str, list[Class]]

    @classmethod
    def of(cls, catalog: Catalog, columns: tuple[str, ...], name: str) -> _ClassIndex:
        if not 1 <= len(columns) <= 2:
            raise UsageError(f"groups: expected one column or two that tell the classes apart, got {len(columns)}")
        classes = find_classes(catalog, columns, name)
        sets: dict[str, list[Class]] = {}
        for found in classes:
            sets.setdefault(str(found.values[0]) if len(columns) == 2 else columns[0], []).append(found)
        return cls(columns, classes, sets)

    def named(self, title: str, key: str) -> list[Class]:
        """Return the classes of the set that a key names."""
        near = [key] if key in self.sets else [value for value in self.sets if key in value]
        if len(near) == 1:
            return self.sets[near[0]]
        wanted = "one of them in full" if near else f"a key that names one of {self.columns[0]}"
        raise UsageError(f"groups: {title}: expected {wanted}, {_listed(near or self.sets)}, got the key {key!r}")


def _concept(index: _ClassIndex, title: str, group: Group, known: Callable[[str], bool] | None) -> Concept:
    chosen: list[Class] = []
    for key in group:
        if key not in RESERVED:
            classes = index.named(title, key)
            listed = group[key]
            chosen += classes if listed == "all" else _picked(title, key, listed, classes)
    left_out = _picked(title, "ignore", group.get("ignore", []), index.classes)
    both = sorted({one.name for one in chosen for other in left_out if one is other})
    if both:
        raise UsageError(f"groups: {title}: expected classes either listed or ignored, got both for {_listed(both)}")
    if not chosen:
        raise UsageError(f"groups: {title}: expected a class or more, got none; list some beside {', '.join(RESERVED)}")
    words = group["query"]
    if words is not None and known is not None and not known(words):
        raise UsageError(
            f"groups: {title}: the embedder knows no {words!r}; write another query, or null to ask by the mean of the "
            "items"
        )
    where = _condition(index, left_out, group.get("distractors", True))
    asked = words is not None and known is not None
    return Concept(title, asked, _items(chosen), words if asked else None, where, by_embeddings=True)


def _picked(title: str, key: str, listed: Sequence[str | int], classes: list[Class]) -> list[Class]:
    """Return the classes that a list names, by value of the last column or else by name."""
    chosen: dict[int, Class] = {}
    for wanted in listed:
        found = [one for one in classes if str(one.values[-1]) == str(wanted)] if key != "ignore" else []
        found = found or [one for one in classes if plain_name(one.name) == plain_name(str(wanted))]
        if not found:
            some = _listed(one.name for one in classes)
            raise UsageError(f"groups: {title}: {key}: expected classes such as {some}, got {wanted!r}")
        chosen |= {id(one): one for one in found}
    return list(chosen.values())


def _condition(index: _ClassIndex, left_out: list[Class], distractors: bool) -> str | None:
    """Return the condition that excludes the classes left out and, unless wanted, the items without a class.

    A test on a missing value is neither true nor false, so a separate test admits or excludes items without a value.
    """
    texts = [
        column
        for place, column in enumerate(index.columns)
        if all(isinstance(one.values[place], str) for one in index.classes)
    ]
    parts = list(_apart(index, left_out))
    if not distractors:
        present = [_test(column, "null", negated=True) for column in index.columns]
        return to_text(_all([*present, *(_test(column, "<>", "") for column in texts), *parts]))
    missing = [_test(column, "null") for column in index.columns] + [_test(column, "=", "") for column in texts]
    return to_text(Or((*missing, _all(parts)))) if parts else None


def _apart(index: _ClassIndex, left_out: list[Class]) -> Iterator[Condition]:
    """Yield, for each set, the condition that an item with values in all columns has none of some classes."""
    for classes in index.sets.values():
        values = tuple(one.values[-1] for one in classes if any(one is other for other in left_out))
        if values:
            among = _test(index.columns[-1], "in", *values)
            one_set = [_test(index.columns[0], "=", classes[0].values[0])] if len(index.columns) == 2 else []
            yield Not(_all([*one_set, among]))


def _test(column: str, operator: str, *values: Any, negated: bool = False) -> Comparison:
    return Comparison((column,), operator, values, negated, 0)


def _all(parts: Sequence[Condition]) -> Condition:
    return parts[0] if len(parts) == 1 else And(tuple(parts))


def _items(classes: Sequence[Class]) -> Any:
    return np.unique(np.concatenate([one.items for one in classes]))


def _listed(names: Any) -> str:
    names = [str(name) for name in names]
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")


def _check(name: str, group: Any) -> None:
    """Raise UsageError if a group has invalid contents."""
    if not isinstance(group, dict):
        raise UsageError(f"groups: {name}: expected an object, got {json.dumps(group):.40}")
    if "query" not in group or not (group["query"] is None or _is_text(group["query"])):
        got = json.dumps(group.get("query")) if "query" in group else "none"
        raise UsageError(f"groups: {name}: expected a query, a text or null, got {got:.40}")
    if not isinstance(group.get("distractors", True), bool):
        raise UsageError(f"groups: {name}: distractors: expected true or false, got {group['distractors']!r:.40}")
    for key, listed in group.items():
        if key in ("query", "distractors") or (listed == "all" and key != "ignore"):
            continue
        if not isinstance(listed, list) or not all(_is_text(one) or type(one) is int for one in listed):
            wanted = "a list of names" if key == "ignore" else 'a list of classes or "all"'
            raise UsageError(f"groups: {name}: {key}: expected {wanted}, got {json.dumps(listed):.40}")


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())
