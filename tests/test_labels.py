import signal
import sqlite3
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpubranches.errors import CatalogFormatError, DataError, LabelError
from gpubranches.service.database import Database
from gpubranches.service.labels import SCHEMA, Labels, sessions

ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("mark"), st.lists(st.integers(0, 5), max_size=3), st.sampled_from([-1, 0, 1])),
        st.just(("undo",)),
        st.just(("redo",)),
    ),
    max_size=20,
)


@given(ACTIONS, st.sets(st.integers(0, 20)))
def test_labels_follow_from_the_actions_that_stand(actions, asked):
    """Also when others, in other processes, wrote them; what changed since an earlier look is told."""
    database = Database.in_memory(SCHEMA, "labels")
    labels, other = Labels(database, "one"), Labels(database, "one")
    stack, taken = [], []
    seen, known, past = 0, {}, {}
    for number, action in enumerate(actions):
        actor = labels if number % 2 else other
        if action[0] == "undo":
            undone = actor.undo(event_id=f"u{number}")
            assert undone.tolist() == (stack[-1][0] if stack else [])
            if stack:
                taken.append(stack.pop())
                assert actor.undo(event_id=f"u{number}").tolist() == undone.tolist()
        elif action[0] == "redo":
            redone = actor.redo(event_id=f"r{number}")
            assert redone.tolist() == (taken[-1][0] if taken else [])
            if taken:
                stack.append(taken.pop())
                assert actor.redo(event_id=f"r{number}").tolist() == redone.tolist()
        else:
            actor.mark(action[1], action[2], event_id=f"m{number}")
            actor.mark(action[1], action[2], event_id=f"m{number}")
            if action[1]:
                stack.append((list(dict.fromkeys(action[1])), action[2]))
                taken.clear()
        expected = {}
        for ids, label in stack:
            for i in ids:
                expected.pop(i, None)
                if label:
                    expected[i] = label
        assert labels.current() == other.current() == expected
        assert labels.can_take_back() == (bool(stack), bool(taken))
        past[labels.version] = expected
        if number in asked:
            seen, changed = labels.changes(seen)
            known.update(changed)
            assert {item: label for item, label in known.items() if label} == expected
    assert Labels(database, "one").changes() == labels.changes()
    for version, expected in past.items():
        assert labels.current(version) == expected


def test_the_later_mark_wins_and_the_log_keeps_both(tmp_path):
    labels = Labels.open(tmp_path / "labels.sqlite", "one")
    labels.mark([7], +1)
    labels.mark([7], -1)
    assert labels.current() == {7: -1}
    assert [(e["item"], e["label"]) for e in labels.events()] == [(7, 1), (7, -1)]
    labels.close()


def test_a_repeated_event_counts_once_and_others_see_it(tmp_path):
    path = tmp_path / "labels.sqlite"
    first, second = Labels.open(path, "one"), Labels.open(path, "one")
    other = Labels.open(path, "two")
    first.mark([1, 2], 1, event_id="abc")
    second.mark([1, 2], 1, event_id="abc")
    assert len(first.events()) == 2
    assert second.current() == {1: 1, 2: 1}
    assert other.current() == {}
    other.mark([1], -1, event_id="abc")
    assert other.current() == {1: -1}
    assert sessions(path) == ["one", "two"]
    for labels in (first, second, other):
        labels.close()


def test_marks_undone_and_redone_survive_a_kill(tmp_path):
    path = tmp_path / "labels.sqlite"
    script = (
        "import sys, pathlib; from gpubranches.service.labels import Labels\n"
        "labels = Labels.open(pathlib.Path(sys.argv[1]), 'one')\n"
        "for i in range(10**6):\n"
        "    labels.mark([i], 1); labels.undo(); labels.redo(); print(i, flush=True)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script, str(path)], stdout=subprocess.PIPE, text=True) as child:
        for _ in range(5):
            said = int(child.stdout.readline())
        child.send_signal(signal.SIGKILL)
        child.stdout.read()
    labels = Labels.open(path, "one")
    assert set(range(said + 1)) <= set(labels.current())
    labels.close()


def test_bad_labels_and_bad_files_are_refused(tmp_path):
    with pytest.raises(LabelError, match=r"\+1"):
        Labels.in_memory().mark([1], 2)
    (tmp_path / "broken.sqlite").write_bytes(b"this is not a database, it is a text of some length" * 40)
    with pytest.raises(CatalogFormatError, match="SQLite"):
        Labels.open(tmp_path / "broken.sqlite", "one")
    with pytest.raises(DataError, match="labels"):
        Labels.open(tmp_path / "no" / "such" / "folder.sqlite", "one")


def test_nothing_can_be_written_to_a_full_or_locked_log(tmp_path):
    path = tmp_path / "labels.sqlite"
    labels = Labels.open(path, "one")
    labels.mark([1], 1)
    with labels.database.reading() as connection:
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count={pages}")
    with pytest.raises(DataError, match="space"):
        for i in range(100_000):
            labels.mark([i], 1)
    assert labels.current()[1] == 1
    labels.close()
    assert sqlite3.connect(path).execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_the_origin_of_a_mark_is_kept_with_it():
    labels = Labels.in_memory()
    labels.mark([1, 2], +1)
    labels.mark([2, 3], -1, origin="suggestion")
    assert labels.origins() == {1: "user", 2: "suggestion", 3: "suggestion"}
    labels.undo()
    assert labels.origins() == {1: "user", 2: "user"}


def test_a_mark_after_an_undo_leaves_nothing_to_redo():
    labels = Labels.in_memory()
    labels.mark([1], +1)
    labels.undo()
    labels.mark([2], -1)
    assert labels.redo().tolist() == []
    assert labels.current() == {2: -1}
