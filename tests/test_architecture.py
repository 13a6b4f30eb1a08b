"""The map in docs/architecture.md is true: its paths, rooms, layers and names are those of the repository."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MAP = (ROOT / "docs/architecture.md").read_text()
PACKAGE = ROOT / "gpubranches"


def section(heading):
    return MAP.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]


def rows(text):
    """Return the cells of each row of the tables of a section, without headings and rules."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    headings = [i - 1 for i, row in enumerate(cells) if is_rule(row)]
    return [row for i, row in enumerate(cells) if not is_rule(row) and i not in headings]


def is_rule(row):
    return all(re.fullmatch("-+", cell) for cell in row)


def codes(text):
    """Return the inline code of a text, without that of fenced blocks."""
    return re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))


def paths(text):
    return [code for code in codes(text) if re.fullmatch(r"[\w.-]+/[\w./-]*", code)]


CHANGES = rows(section("To change X, go to Y"))


def test_every_path_exists():
    named = paths(MAP)
    assert len(named) > 40
    missing = [path for path in named if not (ROOT / path).exists()]
    assert not missing
    not_a_folder = [path for path in named if path.endswith("/") and not (ROOT / path).is_dir()]
    assert not not_a_folder


def test_every_room_is_in_the_table_and_no_other():
    tree = {path.name for path in PACKAGE.iterdir() if path.is_dir() and any(path.rglob("*.py"))}
    tree |= {path.stem for path in PACKAGE.glob("*.py")} - {"__init__", "__main__"}
    named = [codes(row[0])[0] for row in rows(section("Rooms"))]
    assert sorted(named) == sorted(tree)


def layers_of(lines):
    """Return each layer as a set of its rooms, top to bottom; | and : part rooms on one line."""
    return [{room.strip().removeprefix("gpubranches.") for room in re.split("[|:]", line)} for line in lines]


def test_the_layers_are_those_of_the_contract():
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    of_rooms = [
        found
        for contract in contracts
        if contract["type"] == "layers" and {"cli", "errors"} <= set().union(*(found := layers_of(contract["layers"])))
    ]
    assert len(of_rooms) == 1, "expected one contract with the layers of all rooms"
    drawn = re.search(r"```layers\n(.*?)```", MAP, re.DOTALL)
    assert layers_of(drawn[1].splitlines()) == of_rooms[0]


def test_the_layers_hold_every_room():
    drawn = re.search(r"```layers\n(.*?)```", MAP, re.DOTALL)
    in_layers = [room for layer in layers_of(drawn[1].splitlines()) for room in layer]
    assert sorted(in_layers) == sorted(codes(row[0])[0] for row in rows(section("Rooms")))


def test_twenty_changes_have_their_place():
    assert len(CHANGES) >= 20


@pytest.mark.parametrize("change", CHANGES, ids=[row[0][:40] for row in CHANGES])
def test_what_to_look_for_is_in_the_file_that_is_named(change):
    _, where, names = change
    files = [ROOT / path for path in paths(where) if not path.endswith("/")]
    assert files
    text = "\n".join(file.read_text() for file in files)
    for name in codes(names):
        assert re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text), (name, where)


def test_decisions_are_listed_by_the_rooms_of_the_map():
    index = (ROOT / "docs/decisions/README.md").read_text()
    rooms = [codes(row[0])[0] for row in rows(section("Rooms"))]
    headings = re.findall("^## (.*)$", index, re.MULTILINE)
    assert headings
    assert set(headings) <= set(rooms)
