"""A short form of `benchmarks.changes`: whole generations, nothing deleted, and no file left."""

from benchmarks.changes.__main__ import goals
from benchmarks.changes.readers import Told, run


def test_readers_see_whole_generations_while_a_process_changes_the_catalog(tmp_path):
    report = run(tmp_path / "c", rows=3000, appended=2000, deleted=400, parts=5, pause_ms=0, readers=4)
    assert [goal for goal in goals(report) if not goal[2]] == [], report
    assert (report.n, report.committed) == (4600, 10)
    assert report.searches >= 4
    assert report.find_alls >= 4


def test_a_deleted_item_that_is_returned_is_counted(tmp_path, monkeypatch):
    """The check can fail: here it is told of deletions that no commit has made."""
    hear = Told.hear

    def too_early(told, line):
        hear(told, line)
        told.deleted_at[:] = 0

    monkeypatch.setattr(Told, "hear", too_early)
    report = run(tmp_path / "c", rows=1500, appended=10, deleted=10, parts=1, pause_ms=0, readers=1)
    assert report.returned > 0
